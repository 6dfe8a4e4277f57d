"""What a call does not know: refused by name with what there is, since what is passed over in silence misleads."""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

from jobs import errors, version

MOST_NAMED = 5
MOST_CHARACTERS = 100


def refuse(kind: str, given: Iterable[str], known: Collection[str], hints: Mapping[str, str] | None = None) -> None:
    """See that all names given are known; `kind` is what they are, such as a parameter.

    `hints` say of some that are not what to do instead.

    Raises:
        errors.BadParameter: some are not; the sentence names them.
    """
    if strange := [name for name in given if name not in known]:
        instead = [hint for name, hint in (hints or {}).items() if name in strange]
        raise errors.BadParameter(" ".join([sentence(kind, strange, known), *instead]))


def refuse_repeated(kind: str, given: Mapping[str, Sequence[str]]) -> None:
    """See that nothing is given twice: one of them would be passed over.

    Raises:
        errors.BadParameter: something is.
    """
    for name, values in given.items():
        if len(values) > 1:
            raise errors.BadParameter(f"The {kind} {_shown(name)} is given {len(values):,} times; give it once.")


def sentence(kind: str, strange: Sequence[str], known: Collection[str], place: str = "") -> str:
    """What is not known, the nearest that is, and all there are; the version is for whoever has a newer client."""
    named = ", ".join(map(_shown, strange[:MOST_NAMED])) + (", …" if len(strange) > MOST_NAMED else "")
    start = f"This server (version {version.VERSION}) knows no {kind} {named} {place or 'here'}"
    if not known:
        return f"{start}: there are none."
    return f"{start}{_nearest(strange, known)} There are: {', '.join(sorted(known))}."


def _nearest(strange: Sequence[str], known: Collection[str]) -> str:
    close = [match for name in strange[:MOST_NAMED] for match in difflib.get_close_matches(name.lower(), known, n=1)]
    return f"; did you mean {' and '.join(dict.fromkeys(close))}?" if close else "."


def _shown(name: str) -> str:
    return repr(name if len(name) <= MOST_CHARACTERS else name[:MOST_CHARACTERS] + "…")
