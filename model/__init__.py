"""The CNN's life: preprocessing, networks, training, evaluation and bundles of weights."""
