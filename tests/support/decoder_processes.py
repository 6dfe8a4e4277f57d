"""Decoder processes, as the tests of their pool see them."""


def pids(pool):
    """Return the process ids of the decoders of a pool."""
    return [process._child.process.pid for process in pool._all_processes()]
