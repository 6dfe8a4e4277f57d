"""Request schemas of the purge log."""

from api.schemas import base, request_fields


class PurgeListQuery(base.PageQuery):
    """A page of the purge log."""

    cursor: request_fields.TimestampCursor | None = request_fields.cursor()
