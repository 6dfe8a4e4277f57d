"""Folders with one sub-folder per class, decoded to arrays."""
