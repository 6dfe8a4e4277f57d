"""A model card describes the model, with measured metrics only."""

import dataclasses

from model.packaging import model_card

METRICS = {
    "epochs": 20,
    "folds": 2,
    "count": 60,
    "accuracy": {"mean": 0.91234, "deviation": 0.02, "each": [0.9, 0.92]},
}


def test_without_metrics_it_says_so(small_manifest):
    assert "Not measured" in model_card.render(small_manifest, "")


def test_held_out_metrics_come_with_the_method(small_manifest):
    manifest = dataclasses.replace(
        small_manifest, metrics={"cross_validation": METRICS}, recipe={"epochs": 60, "seed": 1}
    )

    text = model_card.render(manifest, "## Weaknesses\n\nOnly drawings.\n\n")

    assert text.startswith("# shapes 1\n")
    assert "- accuracy: 0.912 (standard deviation 0.020)" in text
    assert "2-fold cross-validation on 60 images, with 20 epochs per fold" in text
    assert "for 60 epochs" in text
    assert text.endswith("Only drawings.\n")


def test_an_early_stop_and_an_ensemble_are_described(small_manifest):
    held_out = {**METRICS, "epoch": 17}
    network = dataclasses.replace(small_manifest.network, members=3, mirrored=True)
    manifest = dataclasses.replace(
        small_manifest,
        network=network,
        metrics={"cross_validation": held_out},
        recipe={"epochs": 20, "early": True},
    )

    text = model_card.render(manifest, "")

    assert "for 20 epochs, stopped after epoch 17, the best one for the held-out images." in text
    assert "An ensemble of 3 `cookpad-cnn`, averaged over the image and its mirror image, on images of 24 x 24" in text
