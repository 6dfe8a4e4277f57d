"""Model versions in a worker: fetched, checked, tested in a process of their own, loaded and replaced."""
