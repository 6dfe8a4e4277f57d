"""Drawn images have the size of photos, are reproducible, and copies have unique bytes."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks import sample_images


def test_drawn_files_have_the_size_of_photos():
    """They have about 100 KB in the mean, and 500 to 1,000 pixels per side."""
    files = [sample_images.draw_jpeg([1, number]) for number in range(12)]

    sizes = [Image.open(io.BytesIO(data)).size for data in files]
    assert all(500 <= side <= 1000 for size in sizes for side in size)
    assert 70_000 < np.mean([len(data) for data in files]) < 130_000


def test_a_seed_always_gives_the_same_image():
    """Figures of different days are comparable."""
    assert sample_images.draw_jpeg([7, 3]) == sample_images.draw_jpeg([7, 3])
    assert sample_images.draw_jpeg([7, 3]) != sample_images.draw_jpeg([7, 4])


def test_a_comment_changes_the_bytes_but_not_the_pixels():
    """No server has seen the bytes, but every server must give the same label."""
    data = sample_images.draw_jpeg([1, 1])

    first, second = (b"".join(sample_images.stamp_jpeg(data, text)) for text in (b"a" * 16, b"b" * 16))

    assert first != second
    assert len(first) == len(data) + sample_images.COMMENT_SEGMENT.size
    assert np.array_equal(Image.open(io.BytesIO(first)), Image.open(io.BytesIO(data)))


def test_copies_are_all_different(tmp_path):
    """There may be more copies than images; their order is kept."""
    drawn = sample_images.draw_folder(tmp_path / "drawn", 2)

    copies = sample_images.write_unique_copies(drawn, tmp_path / "copies", 5, b"run")

    assert len({path.read_bytes() for path in copies}) == 5
    assert sorted(copies) == copies


def test_a_run_id_that_would_cut_off_the_number_is_refused(tmp_path):
    """The copies of one image would have the same bytes, and be sent by reference."""
    drawn = sample_images.draw_folder(tmp_path / "drawn", 1)

    with pytest.raises(ValueError, match="at most 8"):
        sample_images.write_unique_copies(drawn, tmp_path / "copies", 2, b"123456789")
