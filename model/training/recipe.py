"""The recipe: every hyperparameter of a training, read from flags and files and stored in the bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from model.packaging import validation_errors
from model.training.augment import Augmentation

# Stored in a bundle beside the recipe's options; the command line has flags for them.
_RUN_FIELDS = ("weights", "fine_tuned", "teachers", "seed", "threads", "device", "arithmetic")

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Stages = tuple[tuple[Annotated[float, Field(gt=0, le=1)], Count], ...]


class InvalidRecipe(ValueError):
    """The recipe cannot be used; the message names the option and its limits."""


def _help(text: str) -> Any:
    return Field(description=text)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Recipe:
    """The hyperparameters of a training. Shares are 0 to 1. Biases and norms are never decayed."""

    epochs: Annotated[Count, _help("number of passes over the images")] = 100
    batch: Annotated[int, Field(ge=2), _help("images per step, 2 or more")] = 32
    optimizer: Annotated[
        Literal["adamw", "muon", "sgd"],
        _help("adamw, muon (for convolutions, adamw for the rest) or sgd (with Nesterov momentum)"),
    ] = "adamw"
    learning_rate: Annotated[Positive, _help("peak, reached after the warm-up; then a cosine down to zero")] = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1), _help("of sgd; first beta of adamw; not used by muon")] = 0.9
    weight_decay: Annotated[NonNegative, _help("decoupled weight decay")] = 0.05
    warmup: Annotated[Share, _help("share of the steps in which the learning rate rises")] = 0.1
    label_smoothing: Annotated[Share, _help("share of the target that is spread over all classes")] = 0.05
    mixup: Annotated[NonNegative, _help("alpha of mixup, 0 for none")] = 0.1
    cutmix: Annotated[NonNegative, _help("alpha of cutmix, 0 for none; with both, one of them per batch")] = 0.0
    mix_chance: Annotated[Share, _help("share of the batches with mixup or cutmix")] = 1.0
    averaging: Annotated[Share, _help("window of the running average of the weights, as a share of all steps")] = 0.05
    gradient_limit: Annotated[Positive, _help("maximum norm of the gradient")] = 1.0
    detail: Annotated[Positive, _help("crops are cut from images so many times larger than the input")] = 2.0
    sizes: Annotated[
        Stages, _help("[[share of the epochs, side], ...]: smaller images until then, if the network takes any size")
    ] = ()
    weight: Annotated[Positive, _help("how often an epoch shows each image of DATA")] = 1.0
    extra_weight: Annotated[NonNegative, _help("how often an epoch shows each image of --extra")] = 1.0
    extra_until: Annotated[Share, _help("share of the epochs that use --extra")] = 1.0
    early: Annotated[bool, _help("stop at the epoch that was best in --folds; without folds, at the last")] = False
    views: Annotated[Count, _help("views of each image of DATA that the teachers predict, with --teacher")] = 20
    members: Annotated[Count, _help("networks of different seeds whose logits are averaged")] = 1
    mirrored: Annotated[bool, _help("average the logits over the image and its mirror image")] = False
    augment: Annotated[Augmentation, _help("augmentation, with options of its own")] = Augmentation()

    def to_json(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        options: dict[str, Any] = _SCHEMA.dump_python(self, mode="json")
        return options


_SCHEMA = pydantic.TypeAdapter(Recipe)


def with_overrides(recipe: Recipe, options: Mapping[str, Any]) -> Recipe:
    """Return a recipe with some options replaced by JSON values.

    Raises:
        InvalidRecipe: an option is unknown, or its value is out of range or of another type.
    """
    fields = recipe.to_json()
    if isinstance(options.get("augment"), Mapping):
        options = {**options, "augment": {**fields["augment"], **options["augment"]}}
    try:
        return _SCHEMA.validate_json(json.dumps({**fields, **options}), strict=True)
    except pydantic.ValidationError as error:
        is_unknown = error.errors()[0]["type"] == "unexpected_keyword_argument"
        advice = f"; the options are {', '.join(name for name, _, _ in list_options())}" if is_unknown else ""
        raise InvalidRecipe(f"Invalid recipe, {validation_errors.first_error(error)}{advice}.") from error


def from_file(path: Path) -> dict[str, Any]:
    """Read options from a JSON file, or from the recipe in a bundle's model.json.

    Raises:
        InvalidRecipe: the file cannot be read, or is not a JSON object.
    """
    try:
        fields = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f'{path} cannot be read as JSON ({error}): write options like {{"epochs": 60}}.') from error
    if not isinstance(fields, dict):
        raise InvalidRecipe(f'{path} is not a JSON object: write options like {{"epochs": 60}}.')
    options = fields["recipe"] if isinstance(fields.get("recipe"), dict) else fields
    return {name: value for name, value in options.items() if name not in _RUN_FIELDS}


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Parse NAME=VALUE texts for `with_overrides`; `augment.min_area=0.3` sets an option of `augment`.

    Raises:
        InvalidRecipe: a text has no "=".
    """
    options: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise InvalidRecipe(f"--set {assignment!r} has no value: write NAME=VALUE.")
        parent, dot, child = name.strip().partition(".")
        if not dot:
            options[parent] = _parse_value(text.strip())
        else:
            siblings = options.get(parent)
            options[parent] = (siblings if isinstance(siblings, dict) else {}) | {child: _parse_value(text.strip())}
    return options


def list_options() -> list[tuple[str, str, str]]:
    """Return name, default and description of every option, for the help text."""
    schema = _SCHEMA.json_schema()
    inner = schema["$defs"]["Augmentation"]["properties"]
    options = {name: option for name, option in schema["properties"].items() if name != "augment"}
    options |= {f"augment.{name}": option for name, option in inner.items()}
    return [(name, _format_value(option["default"]), option["description"]) for name, option in options.items()]


def _format_value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
