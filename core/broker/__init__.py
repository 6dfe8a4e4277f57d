"""Redis: the wake-up message by Celery, and job events by publish/subscribe."""
