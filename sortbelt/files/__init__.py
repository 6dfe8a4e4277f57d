"""Rules for files that client and server share: which are images, what an archive has, and how names are written."""
