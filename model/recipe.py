"""Keeps the recipe: every number of a training, read from flags and files, stored in the bundle."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model import augment

# What a bundle tells in its recipe, and the command line has flags for.
_FLAGS = ("weights", "seed", "threads", "device", "arithmetic")


class BadRecipe(ValueError):
    """A recipe that cannot be followed; the message names the option and what it may be."""


def _option(default: Any, told: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": told})


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Every number of a training. A share is 0 to 1; what has one dimension (biases, norms) is never decayed."""

    epochs: int = _option(100, "how often every picture is seen")
    batch: int = _option(32, "pictures a step")
    optimizer: str = _option("adamw", "adamw, muon (for convolutions) or sgd (with Nesterov momentum)")
    learning_rate: float = _option(1e-3, "its height after the warm-up; from there it falls to zero as a cosine")
    momentum: float = _option(0.9, "of sgd; the first beta of adamw; muon has its own")
    weight_decay: float = _option(0.05, "pull of the weights towards zero")
    warmup: float = _option(0.1, "share of the steps in which the learning rate rises")
    label_smoothing: float = _option(0.05, "share of the truth that is spread over all classes")
    mixup: float = _option(0.1, "alpha of mixup, 0 for none")
    cutmix: float = _option(0.0, "alpha of cutmix, 0 for none; with both, each batch gets one of them")
    mix_chance: float = _option(1.0, "share of the batches that are mixed at all")
    averaging: float = _option(0.05, "share of all steps over which the running average of the weights reaches back")
    gradient_limit: float = _option(1.0, "largest norm of a gradient")
    detail: float = _option(2.0, "crops are cut from pictures so many times larger than the network's input")
    sizes: tuple[tuple[float, int], ...] = _option(
        (), "[[share of the epochs, side], ...]: smaller pictures until then; for networks that take any size"
    )
    weight: float = _option(1.0, "how often a picture of DATA is seen in an epoch")
    extra_weight: float = _option(1.0, "how often a picture of --extra is seen in an epoch")
    extra_until: float = _option(1.0, "share of the epochs that --extra takes part in")
    early: bool = _option(False, "stop at the epoch that --folds found best; without folds, at the last")  # noqa: FBT003 - a field's default
    members: int = _option(1, "networks of different seeds that answer together")
    mirrored: bool = _option(False, "answer with the mean over a picture and its mirror image")  # noqa: FBT003 - same
    augment: augment.Augment = dataclasses.field(
        default_factory=augment.Augment, metadata={"help": "what is done to pictures: its own options"}
    )

    def __post_init__(self) -> None:
        for told, fine in _limits(self).items():
            if not fine:
                raise BadRecipe(f"The recipe cannot be followed: {told}.")

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain JSON values."""
        return dataclasses.asdict(self)


def changed(recipe: Recipe, fields: Mapping[str, Any]) -> Recipe:
    """A recipe with some options at other values, as they come from JSON.

    Raises:
        BadRecipe: for an option that there is not, or a value that it cannot have.
    """
    changed: Recipe = _changed(recipe, fields, "")
    return changed


def from_file(path: Path) -> dict[str, Any]:
    """The options in a JSON file, for `changed`; a bundle's model.json serves too, its recipe is taken."""
    try:
        fields = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as wrong:
        raise BadRecipe(f'{path} cannot be read as JSON ({wrong}): give an object like {{"epochs": 60}}.') from wrong
    if not isinstance(fields, dict):
        raise BadRecipe(f'{path} must hold one JSON object like {{"epochs": 60}}.')
    recipe = fields["recipe"] if isinstance(fields.get("recipe"), dict) else fields
    # A bundle tells with its recipe how it was run; these are flags of their own.
    return {
        name: value
        for name, value in recipe.items()
        if name not in ("weights", "seed", "threads", "device", "arithmetic")
    }


def from_settings(settings: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE texts as nested options, for `changed`: `augment.min_area=0.3` is within `augment`."""
    fields: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise BadRecipe(f"--set wants NAME=VALUE, not {setting!r}.")
        inner = fields
        *outside, last = name.strip().split(".")
        for part in outside:
            inner = inner.setdefault(part, {})
        inner[last] = _plain(text.strip())
    return fields


def described() -> list[tuple[str, str, str]]:
    """Name, default and meaning of every option, for the help."""
    default = Recipe()
    outer = [(field.name, default, field) for field in dataclasses.fields(Recipe) if field.name != "augment"]
    inner = [(f"augment.{field.name}", default.augment, field) for field in dataclasses.fields(augment.Augment)]
    return [
        (name, _shown(getattr(within, field.name)), field.metadata["help"]) for name, within, field in (*outer, *inner)
    ]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _changed(old: Any, fields: Mapping[str, Any], within: str) -> Any:
    kinds = typing.get_type_hints(type(old))
    values = {}
    for name, value in fields.items():
        if name not in kinds:
            raise BadRecipe(f"There is no option {within}{name} in a recipe; there are {', '.join(kinds)}.")
        before = getattr(old, name)
        inside = dataclasses.is_dataclass(before) and isinstance(value, Mapping)
        values[name] = (
            _changed(before, value, f"{within}{name}.") if inside else _typed(kinds[name], value, within + name)
        )
    return dataclasses.replace(old, **values)


def _typed(kind: Any, value: Any, name: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        return _tuple(value)
    if isinstance(kind, type) and type(value) is not kind:
        raise BadRecipe(f"The recipe's {name} must be a {kind.__name__}, not {value!r}.")
    return value


def _tuple(values: list[Any]) -> tuple[Any, ...]:
    return tuple(_tuple(value) if isinstance(value, list) else value for value in values)


def _limits(recipe: Recipe) -> dict[str, bool]:
    """Sentences about what must hold, and whether it does."""
    optimizers = ("adamw", "muon", "sgd")
    shares = ("warmup", "label_smoothing", "mix_chance", "averaging", "extra_until")
    above_zero = ("learning_rate", "gradient_limit", "detail", "weight")
    not_below = ("weight_decay", "mixup", "cutmix", "extra_weight")
    sizes = all(0 < share <= 1 and side >= 1 for share, side in recipe.sizes)
    values = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    return {
        **{
            f"{name} must be at least 1, not {values[name]}": values[name] >= 1
            for name in ("epochs", "batch", "members")
        },
        **{f"{name} must be 0 to 1, not {values[name]}": 0 <= values[name] <= 1 for name in shares},
        **{f"{name} must be above 0, not {values[name]}": values[name] > 0 for name in above_zero},
        **{f"{name} must not be below 0, but is {values[name]}": values[name] >= 0 for name in not_below},
        f"momentum must be 0 to 1 (without 1), not {recipe.momentum}": 0 <= recipe.momentum < 1,
        f"sizes must be pairs of a share and a side, like [[0.5, 64]], not {recipe.sizes}": sizes,
        f"optimizer must be one of {', '.join(optimizers)}, not {recipe.optimizer!r}": recipe.optimizer in optimizers,
    }
