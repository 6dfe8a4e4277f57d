"""Shared by all routes: authentication, problem details, uploads, pagination, deferred responses."""
