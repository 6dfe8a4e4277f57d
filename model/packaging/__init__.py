"""Bundles on disk: weights, `model.json` and a model card."""
