"""Train networks: everything between a data set and a bundle."""
