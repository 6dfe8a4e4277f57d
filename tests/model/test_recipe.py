"""A recipe is read from files and settings, or refused by the name of the option."""

import json

import pytest

from model import recipe


def test_it_comes_back_from_json():
    followed = recipe.changed(recipe.Recipe(), {"epochs": 7, "sizes": [[0.5, 48]], "augment": {"min_area": 0.2}})

    assert recipe.changed(recipe.Recipe(), json.loads(json.dumps(followed.to_json()))) == followed
    assert followed.sizes == ((0.5, 48),)
    assert followed.augment.min_area == 0.2


def test_settings_are_json_and_reach_inside():
    fields = recipe.from_settings(["epochs=3", "optimizer=sgd", "augment.min_area=0.5", "mirrored=true", "weight=2"])

    followed = recipe.changed(recipe.Recipe(), fields)

    assert (followed.epochs, followed.optimizer, followed.mirrored) == (3, "sgd", True)
    assert followed.augment.min_area == 0.5
    assert type(followed.weight) is float


def test_a_bundles_own_recipe_can_be_followed_again(tmp_path):
    told = {"name": "x", "recipe": {**recipe.Recipe(epochs=9).to_json(), "seed": 1, "threads": 2}}
    (tmp_path / "model.json").write_text(json.dumps(told))

    assert recipe.changed(recipe.Recipe(), recipe.from_file(tmp_path / "model.json")) == recipe.Recipe(epochs=9)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"epoch": 3}, "no option epoch in a recipe; there are epochs"),
        ({"augment": {"x": 1}}, "no option augment.x"),
        ({"epochs": 1.5}, "epochs must be a int"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"mirrored": 1}, "mirrored must be a bool"),
        ({"optimizer": "magic"}, "adamw, muon, sgd"),
        ({"warmup": 2}, "warmup must be 0 to 1"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"mixup": -1}, "mixup must not be below 0"),
        ({"momentum": 1}, "momentum"),
        ({"sizes": [[2, 0]]}, "sizes"),
        ({"augment": 3}, "augment must be a Augment"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(fields, told):
    with pytest.raises(recipe.BadRecipe, match=told):
        recipe.changed(recipe.Recipe(), fields)


@pytest.mark.parametrize("text", ["no json", "[1]"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, text):
    (tmp_path / "r.json").write_text(text)

    with pytest.raises(recipe.BadRecipe, match=r"r\.json"):
        recipe.from_file(tmp_path / "r.json")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(recipe.BadRecipe, match=r"r\.json"):
        recipe.from_file(tmp_path / "r.json")


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(recipe.BadRecipe, match="NAME=VALUE"):
        recipe.from_settings(["epochs"])


def test_every_option_has_its_meaning():
    options = recipe.described()

    assert all(told for _, _, told in options)
    assert {"epochs", "members", "augment.min_area"} <= {name for name, _, _ in options}
