"""Learning curves are a table while a training runs and a picture afterwards."""

import csv

from PIL import Image

from model import curves


def test_every_epoch_is_a_row_and_every_training_a_line(tmp_path):
    curve = curves.Curves(tmp_path / "log")
    for epoch in (1, 2):
        held_out = {"held_out_loss": 0.5, "held_out_accuracy": 0.75}
        curve.add("fold 1/2", {"epoch": epoch, "loss": 0.7, "learning_rate": 0.1, "seconds": 1.5, **held_out})
    curve.add("all", {"epoch": 1, "loss": 0.6, "learning_rate": 0.1, "seconds": 2})

    curve.draw()

    with (tmp_path / "log" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["training"], row["epoch"]) for row in rows] == [("fold 1/2", "1"), ("fold 1/2", "2"), ("all", "1")]
    assert rows[0]["held_out_accuracy"] == "0.75"
    assert rows[2]["held_out_loss"] == ""
    with Image.open(tmp_path / "log" / "curves.png") as picture:
        assert picture.width > picture.height


def test_a_training_that_goes_on_has_the_rows_that_it_had(tmp_path):
    curve = curves.Curves(tmp_path)
    curve.restore("all", [{"epoch": 1, "loss": 0.7}])

    curve.add("all", {"epoch": 2, "loss": 0.6})

    assert [row["epoch"] for row in curve.rows("all")] == [1, 2]


def test_nothing_is_drawn_of_nothing(tmp_path):
    curves.Curves(tmp_path / "log").draw()

    assert not (tmp_path / "log").exists()
