"""Build networks by name."""
