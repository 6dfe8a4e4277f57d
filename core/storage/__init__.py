"""Image bytes under their SHA-256, in a folder or a bucket."""
