"""Shared by API, worker and dispatcher: tables and queries, blob storage, sources, broker, settings, errors."""
