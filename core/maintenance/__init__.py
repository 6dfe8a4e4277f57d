"""Reaper, retention, and the checks of `sortbelt doctor`."""
