"""One blueprint per resource: parse, call, respond."""
