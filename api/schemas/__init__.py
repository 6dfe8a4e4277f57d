"""Schemas of requests and responses; they know neither Flask nor SQL."""
