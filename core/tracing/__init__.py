"""Traces by OpenTelemetry; off by default."""
