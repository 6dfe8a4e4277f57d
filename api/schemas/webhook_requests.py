"""Request schemas of webhooks."""

import pydantic

from api.schemas import base, request_fields
from core import enums


class DeliveryListQuery(base.PageQuery):
    """Filters of the list of webhook deliveries."""

    job: request_fields.Id | None = pydantic.Field(None, description="the id of a job")
    status: enums.DeliveryStatus | None = pydantic.Field(None, description=f"one of {', '.join(enums.DeliveryStatus)}")
    cursor: request_fields.Id | None = request_fields.cursor()
