"""The drawn pictures: as heavy as photos, the same every time, and never the same bytes twice."""

import io

import numpy as np
from PIL import Image

from bench import pictures


def test_drawn_files_weigh_what_photos_weigh():
    """About 100 KB in the mean, 500 to 1,000 pixels a side."""
    files = [pictures.draw([1, number]) for number in range(12)]

    sizes = [Image.open(io.BytesIO(data)).size for data in files]
    assert all(500 <= side <= 1000 for size in sizes for side in size)
    assert 70_000 < np.mean([len(data) for data in files]) < 130_000


def test_a_picture_is_the_same_every_time():
    """A figure of one day can be held against one of another."""
    assert pictures.draw([7, 3]) == pictures.draw([7, 3])
    assert pictures.draw([7, 3]) != pictures.draw([7, 4])


def test_a_stamp_changes_the_bytes_and_not_the_pixels():
    """No server can have seen it, and every one must give it the same label."""
    data = pictures.draw([1, 1])

    one, two = (b"".join(pictures.stamped(data, text)) for text in (b"a" * 16, b"b" * 16))

    assert one != two
    assert len(one) == len(data) + pictures.STAMP.size
    assert np.array_equal(Image.open(io.BytesIO(one)), Image.open(io.BytesIO(data)))


def test_copies_are_all_different(tmp_path):
    """More files than pictures, in their order."""
    drawn = pictures.folder(tmp_path / "drawn", 2)

    made = pictures.copies(drawn, tmp_path / "copies", 5, b"run")

    assert len({path.read_bytes() for path in made}) == 5
    assert sorted(made) == made
