"""Subcommands of `sortbelt`, each imported only when it is run."""
