"""Problem codes with their meanings, from the docstrings of the error classes."""

from collections.abc import Iterator

from api.http import problems
from core import errors as all_errors


def meanings() -> dict[str, str]:
    """Return the meaning of each code, in a sentence."""
    from_classes = {kind.code: _first_line(kind) for kind in _subclasses(all_errors.SortbeltError)}
    return from_classes | problems.CODE_MEANINGS | all_errors.IMAGE_ERRORS


def _subclasses(error_class: type[all_errors.SortbeltError]) -> Iterator[type[all_errors.SortbeltError]]:
    yield error_class
    for subclass in error_class.__subclasses__():
        yield from _subclasses(subclass)


def _first_line(error_class: type[Exception]) -> str:
    return str(error_class.__doc__).partition("\n")[0]
