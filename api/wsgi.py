"""Where a WSGI server finds the application."""

from api.app import create_app
from jobs import settings

app = create_app(settings.read())
