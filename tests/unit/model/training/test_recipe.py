"""A recipe is read from files and assignments; invalid options are rejected by name."""

import json

import pytest

from model.training import recipe


def test_it_survives_a_round_trip_through_json():
    parsed = recipe.with_overrides(recipe.Recipe(), {"epochs": 7, "sizes": [[0.5, 48]], "augment": {"min_area": 0.2}})

    assert recipe.with_overrides(recipe.Recipe(), json.loads(json.dumps(parsed.to_json()))) == parsed
    assert parsed.sizes == ((0.5, 48),)
    assert parsed.augment.min_area == 0.2


def test_assignments_are_json_and_may_be_nested():
    fields = recipe.parse_assignments(
        ["epochs=3", "optimizer=sgd", "augment.min_area=0.5", "mirrored=true", "weight=2"]
    )

    parsed = recipe.with_overrides(recipe.Recipe(), fields)

    assert (parsed.epochs, parsed.optimizer, parsed.mirrored) == (3, "sgd", True)
    assert parsed.augment.min_area == 0.5
    assert type(parsed.weight) is float


def test_a_bundles_recipe_can_be_used_again(tmp_path):
    bundle_fields = {"name": "x", "recipe": {**recipe.Recipe(epochs=9).to_json(), "seed": 1, "threads": 2}}
    (tmp_path / "model.json").write_text(json.dumps(bundle_fields))

    assert recipe.with_overrides(recipe.Recipe(), recipe.from_file(tmp_path / "model.json")) == recipe.Recipe(epochs=9)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"epoch": 3}, "epoch is unknown; the options are epochs, batch"),
        ({"augment": {"x": 1}}, "augment.x is unknown; .* augment.min_area"),
        ({"epochs": 1.5}, "epochs: Input should be a valid integer, not 1.5"),
        ({"epochs": 0}, "epochs: .* greater than or equal to 1, not 0"),
        ({"batch": 1}, "batch: .* greater than or equal to 2, not 1"),
        ({"mirrored": 1}, "mirrored: Input should be a valid boolean"),
        ({"optimizer": "magic"}, "'adamw', 'muon' or 'sgd', not 'magic'"),
        ({"warmup": 2}, "warmup: .* less than or equal to 1, not 2"),
        ({"learning_rate": 0}, "learning_rate: .* greater than 0"),
        ({"mixup": -1}, "mixup: .* greater than or equal to 0"),
        ({"momentum": 1}, "momentum: .* less than 1"),
        ({"sizes": [[2, 0]]}, r"sizes\.0\.0: "),
        ({"augment": 3}, "augment: Input should be an object"),
    ],
)
def test_an_invalid_option_is_rejected_by_name(options, problem):
    with pytest.raises(recipe.InvalidRecipe, match=problem):
        recipe.with_overrides(recipe.Recipe(), options)


@pytest.mark.parametrize("text", ["not json", "[1]"])
def test_a_file_that_is_not_a_recipe_is_rejected(tmp_path, text):
    (tmp_path / "r.json").write_text(text)

    with pytest.raises(recipe.InvalidRecipe, match=r"r\.json"):
        recipe.from_file(tmp_path / "r.json")


def test_a_missing_file_is_rejected(tmp_path):
    with pytest.raises(recipe.InvalidRecipe, match=r"r\.json"):
        recipe.from_file(tmp_path / "r.json")


def test_an_assignment_without_a_value_is_rejected():
    with pytest.raises(recipe.InvalidRecipe, match="NAME=VALUE"):
        recipe.parse_assignments(["epochs"])


def test_an_option_and_its_parent_may_both_be_assigned():
    assert recipe.parse_assignments(["augment=3", "augment.min_area=0.5"]) == {"augment": {"min_area": 0.5}}


def test_every_option_has_a_description():
    options = recipe.list_options()

    assert all(description for _, _, description in options)
    assert {"epochs", "members", "augment.min_area"} <= {name for name, _, _ in options}
