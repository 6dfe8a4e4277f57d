"""Threads: calls that may block, queues that senders share in turn, writer and periodic threads; the number of CPUs."""
