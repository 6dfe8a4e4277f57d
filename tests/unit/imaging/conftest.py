"""The fixtures of the tests of image files."""

from tests.support.model_fixtures import encode_image, quadrant_image  # noqa: F401 (pytest finds them here)
