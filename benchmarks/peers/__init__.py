"""Peers: other ways to serve the same network, each with the product's own decoder and classifier.

The servers here run in `.venv-bench`; they respond to a `POST` of one JPEG with `{"label": …}`, and store nothing.
"""
