"""Run a bundle's network on a CPU or GPU."""
