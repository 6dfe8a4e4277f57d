"""The subcommands of `sortbelt`, one file per noun; each is imported only when it is run."""
