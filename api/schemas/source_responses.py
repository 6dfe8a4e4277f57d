"""Response schemas of sources."""

from typing import Annotated

from typing_extensions import TypedDict

from api.schemas.fields import doc
from core.sources import base


class Source(TypedDict):
    """A folder or bucket whose images can be classified without being uploaded."""

    name: Annotated[str, doc("its name in a scan", examples=["photos"])]
    address: Annotated[str | None, doc("where it is; null to keys that are not of an admin")]


class Sources(TypedDict):
    """All sources."""

    sources: Annotated[list[Source], doc("sorted by name")]


def serialize_source(source: base.Source, *, show_address: bool) -> Source:
    """Return a source; only admins see its address."""
    return {"name": source.name, "address": source.address if show_address else None}
