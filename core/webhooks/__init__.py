"""Webhooks by the Standard Webhooks specification: payload, signature, and where they may go."""
