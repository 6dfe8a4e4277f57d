"""The ASGI adapter in front of the Flask app."""
