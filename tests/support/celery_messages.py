"""Messages as Celery writes them to Redis."""

import base64
import json
import os

from core.broker import celery_app


def encode(task, content_type="application/json", body=b"[[], {}, {}]"):
    """Return a message with any task, content type and body."""
    properties = {"delivery_mode": 2, "delivery_tag": os.urandom(8).hex(), "priority": 0, "body_encoding": "base64"}
    properties["delivery_info"] = {"exchange": "", "routing_key": celery_app.QUEUE_NAME}
    headers = {"task": task, "id": os.urandom(8).hex(), "lang": "py", "argsrepr": "()", "kwargsrepr": "{}"}
    message = {"body": base64.b64encode(body).decode(), "content-encoding": "utf-8", "content-type": content_type}
    return json.dumps({**message, "headers": headers, "properties": properties}).encode()
