"""Threads: calls that may block, queues that senders share in turn, a writer thread, and the number of CPUs."""
