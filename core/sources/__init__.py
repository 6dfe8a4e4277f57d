"""Sources: folders and buckets whose images are classified where they lie."""
