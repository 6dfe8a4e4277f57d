"""The Celery app that API, dispatcher and worker share."""

import celery

from core.broker import redis_transport

TASK_NAME = "sortbelt.drain"
QUEUE_NAME = "sortbelt"


def create_celery_app(redis_url: str) -> celery.Celery:
    """Create the Celery app; `docs/decisions/0002` has the reason for each line."""
    redis_transport.register_transport()
    app = celery.Celery("sortbelt", broker=redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_channel_error_retry=True,
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "health_check_interval": 10,
            "socket_connect_timeout": 1.0,
            "socket_keepalive": True,
            "socket_timeout": 2.0,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "visibility_timeout": 300,
        },
        worker_cancel_long_running_tasks_on_connection_loss=True,  # of late-acknowledged ones; unsaid, it warns
        task_acks_late=False,  # the row is the job: a lost message costs nothing, a repeated one neither
        task_default_queue=QUEUE_NAME,
        task_ignore_result=True,
        task_serializer="json",
        worker_enable_remote_control=False,
        worker_prefetch_multiplier=1,
    )
    return app
