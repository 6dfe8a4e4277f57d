"""Rules that client and server share: which files are images, what an archive has, how names and cells are written."""
