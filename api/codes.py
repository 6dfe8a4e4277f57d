"""Every code of a problem, with what it means: read off the errors themselves."""

from collections.abc import Iterator

from api import auth, errors, formats
from jobs import errors as all_errors


def meanings() -> dict[str, str]:
    """What each code means, in a sentence."""
    raised = {kind.code: _sentence(kind) for kind in _below(all_errors.SortbeltError)}
    of_requests = {"no_key": auth.NoKey, "not_allowed": auth.NotAllowed, "not_acceptable": formats.NotAcceptable}
    asked = {code: _sentence(kind) for code, kind in of_requests.items()}
    return raised | asked | errors.MEANINGS | all_errors.PICTURES


def _below(kind: type[all_errors.SortbeltError]) -> Iterator[type[all_errors.SortbeltError]]:
    yield kind
    for sub in kind.__subclasses__():
        yield from _below(sub)


def _sentence(kind: type[Exception]) -> str:
    return str(kind.__doc__).partition("\n")[0]
