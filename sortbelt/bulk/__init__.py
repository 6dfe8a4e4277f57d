"""Bulk runs: a folder or a source as one resumable job."""
