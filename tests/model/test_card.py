"""A card says what the model is, and claims no figure that nobody measured."""

import dataclasses

from model import card

FIGURES = {
    "epochs": 20,
    "folds": 2,
    "count": 60,
    "accuracy": {"mean": 0.91234, "deviation": 0.02, "each": [0.9, 0.92]},
}


def test_without_figures_it_says_so(small_manifest):
    assert "None were measured" in card.render(small_manifest, "")


def test_held_out_figures_are_given_with_how_they_were_measured(small_manifest):
    about = dataclasses.replace(small_manifest, metrics={"cross_validation": FIGURES}, recipe={"epochs": 60, "seed": 1})

    text = card.render(about, "## Weaknesses\n\nOnly drawings.\n\n")

    assert text.startswith("# shapes 1\n")
    assert "- accuracy: 0.912 (deviation 0.020)" in text
    assert "2-fold cross-validation with 20 epochs a fold over 60 pictures" in text
    assert "with 60 epochs" in text
    assert text.endswith("Only drawings.\n")


def test_an_early_stop_and_several_views_are_told(small_manifest):
    held_out = {**FIGURES, "epoch": 17}
    network = dataclasses.replace(small_manifest.network, members=3, mirrored=True)
    about = dataclasses.replace(
        small_manifest,
        network=network,
        metrics={"cross_validation": held_out},
        recipe={"epochs": 20, "early": True},
    )

    text = card.render(about, "")

    assert "with 20 epochs, stopped after epoch 17, which the folds found best." in text
    assert "3 networks `cookpad-cnn` together, asked about a picture and its mirror image, at 24 x 24" in text
