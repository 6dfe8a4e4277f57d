"""Intake: a submission becomes blobs, rows and a wake-up."""
