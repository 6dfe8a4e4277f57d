"""Annotations of Label Studio as reviews: its JSON export of tasks that Sortbelt made."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sortbelt import errors

NONE_OF_THESE, BAD_IMAGE = "none_of_these", "bad_image"
"""Choices that are verdicts without a label, if the labelling interface offers them."""


@dataclass(frozen=True)
class Annotation:
    """The label that a person chose for a result; None for a task without an annotation."""

    result_id: str
    choice: str | None

    @property
    def verdict(self) -> str:
        """Return the verdict of the review."""
        return self.choice if self.choice in (NONE_OF_THESE, BAD_IMAGE) else "label"


def read(path: Path) -> Iterator[Annotation]:
    """Yield the last annotation of each task; skipped ones do not count.

    Raises:
        errors.BadInput: the file is not such an export, or a task is not of Sortbelt or has several choices.
    """
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise errors.BadInput(f"{path} cannot be read as JSON ({error}): export the project as JSON.") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise errors.BadInput(f"{path} is not a list of tasks: export the project as JSON, not as JSON-MIN.")
    for number, task in enumerate(tasks, start=1):
        result_id = (task.get("meta") or {}).get("result_id")
        if result_id is None:
            problem = f"{path}: task {number} has no meta.result_id"
            raise errors.BadInput(f"{problem}; import tasks that `sortbelt results --format labelstudio` has written.")
        valid = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
        yield Annotation(str(result_id), _choice(valid[-1], f"{path}: task {number}") if valid else None)


def _choice(annotation: Mapping[str, Any], title: str) -> str | None:
    choices = [
        choice
        for region in annotation.get("result") or ()
        if region.get("type") == "choices"
        for choice in region["value"]["choices"]
    ]
    if len(choices) > 1:
        raise errors.BadInput(f"{title} has the choices {', '.join(choices)}: an image has one label.")
    return choices[0] if choices else None
