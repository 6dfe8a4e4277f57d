"""Benchmarks. `python -m benchmarks` compares everything in one run; README.md has the results."""
