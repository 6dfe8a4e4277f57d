"""Request schemas of images."""

from typing import Annotated

import pydantic

from api.schemas import base, request_fields


class LinkQuery(base.RequestModel):
    """The parameters of a signed link, as an export gives them."""

    key: request_fields.Id = pydantic.Field(description="the id of the key that made the link")
    expires: Annotated[int, pydantic.Field(ge=0, lt=10**12)] = pydantic.Field(
        description="when it expires, in seconds since 1970"
    )
    signature: Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")] = pydantic.Field(
        description="64 hexadecimal digits"
    )
