"""The fixtures of the model tests."""

from tests.support.model_fixtures import (  # noqa: F401 (pytest finds fixtures by their names here)
    _restore_torch,
    encode_image,
    quadrant_image,
    save_bundle,
    shapes_dir,
    small_bundle,
    small_manifest,
    small_network,
)
