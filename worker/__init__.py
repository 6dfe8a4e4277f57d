"""Celery in, rows out: claim a batch, decode it, run the CNN, commit."""
