"""Sandbox for processes that work on untrusted bytes: resource limits, Landlock and seccomp."""
