"""The `sortbelt` command."""
