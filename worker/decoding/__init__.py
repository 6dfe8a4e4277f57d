"""Image decoding in sandboxed child processes."""
