"""The CNN's life cycle: preprocessing, networks, training, evaluation and bundles of weights."""
