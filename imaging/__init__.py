"""Image files: their format, their size, their pixels. Imports no other package of the project."""
