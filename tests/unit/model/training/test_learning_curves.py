"""Learning curves are a table during a training and a plot afterwards."""

import csv

from PIL import Image

from model.training import learning_curves


def test_every_epoch_is_a_row_and_every_training_a_line(tmp_path):
    curves = learning_curves.LearningCurves(tmp_path / "log")
    for epoch in (1, 2):
        held_out = {"held_out_loss": 0.5, "held_out_accuracy": 0.75}
        curves.add("fold 1/2", {"epoch": epoch, "loss": 0.7, "learning_rate": 0.1, "seconds": 1.5, **held_out})
    curves.add("all", {"epoch": 1, "loss": 0.6, "learning_rate": 0.1, "seconds": 2})

    curves.draw()

    with (tmp_path / "log" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["training"], row["epoch"]) for row in rows] == [("fold 1/2", "1"), ("fold 1/2", "2"), ("all", "1")]
    assert rows[0]["held_out_accuracy"] == "0.75"
    assert rows[2]["held_out_loss"] == ""
    with Image.open(tmp_path / "log" / "curves.png") as image:
        assert image.width > image.height


def test_a_resumed_training_has_its_previous_rows(tmp_path):
    curves = learning_curves.LearningCurves(tmp_path)
    curves.restore("all", [{"epoch": 1, "loss": 0.7}])

    curves.add("all", {"epoch": 2, "loss": 0.6})

    assert [row["epoch"] for row in curves.rows("all")] == [1, 2]


def test_without_rows_nothing_is_drawn(tmp_path):
    learning_curves.LearningCurves(tmp_path / "log").draw()

    assert not (tmp_path / "log").exists()
