"""Metrics, calibration and plots of a classifier on labelled images."""
