"""Of several reviews of the same bytes, the newest counts for a training."""

import hashlib
import types

import pytest

from sortbelt import errors
from sortbelt.bulk import training_reviews

LABELS_OF = {"m@1": ("a", "b"), "m@2": ("a", "b", "c"), "colour@1": ("red", "blue")}
PHOTOS = {"in the folder": b"one", "not in it": b"two"}


def review(photo, label=None, verdict="label", model="m", version="1"):
    """Return a review, as far as a training reads it."""
    digest = hashlib.sha256(PHOTOS[photo]).hexdigest()
    fields = {"sha256": digest, "label": label, "verdict": verdict, "model": model, "version": version}
    return types.SimpleNamespace(**fields, image="x.png", image_id=photo)


@pytest.fixture
def collect(tmp_path):
    """A function that collects reviews for a folder with two photos; it returns the counts and the labels."""
    for name, data in {"a/1.png": PHOTOS["in the folder"], "b/2.png": b"three"}.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)

    def run(*reviews, fetch=PHOTOS.__getitem__):
        collected = training_reviews.TrainingReviews(tmp_path / "photos", tmp_path / "out", fetch, LABELS_OF)
        collected.collect(reviews)
        rows = [line.split(",") for line in collected.labels_file.read_text().splitlines()[1:]]
        return dict(collected.counts), [label for _, label in rows]

    return run


BAD = {"verdict": "bad_image"}
NONE = {"verdict": "none_of_these"}


@pytest.mark.parametrize(
    ("photo", "newest", "outcome", "labels"),
    [
        ("in the folder", BAD, "left out", [""]),
        ("in the folder", {"label": "a"}, "confirmed", ["a"]),
        ("not in it", BAD, "left out", []),
        ("not in it", BAD | {"model": "colour"}, "left out", []),
        ("not in it", NONE, "left out", []),
        ("not in it", {"label": "c", "version": "2"}, "other labels", []),
    ],
)
def test_an_older_review_does_not_count(collect, photo, newest, outcome, labels):
    assert collect(review(photo, **newest), review(photo, "b")) == ({outcome: 1}, labels)


@pytest.mark.parametrize("newest", [NONE, {"label": "red"}])
def test_a_review_of_a_model_with_other_labels_says_nothing(collect, newest):
    """It does not hide an older review of a model that has the labels of the folder."""
    reviews = [review("in the folder", **newest, model="colour"), review("in the folder", "b")]

    assert collect(*reviews) == ({"other labels": 1, "corrected": 1}, ["b"])


def test_an_older_review_does_not_count_if_the_bytes_are_gone(collect):
    def fetch(image_id):
        raise errors.NotFound(404, {})

    assert collect(review("not in it", "a"), review("not in it", "b"), fetch=fetch) == ({"gone": 1}, [])
