"""Rules for files that client and server share: which are images, what archives have, and how names and cells are."""
