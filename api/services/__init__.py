"""Objects that outlive a request: one of each per process."""
