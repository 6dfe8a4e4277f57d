"""Response schema of errors: problem details (RFC 9457)."""

from typing import Annotated, NotRequired

from typing_extensions import TypedDict

from api.schemas.fields import doc


class ProblemFault(TypedDict):
    """One of the faults of a request."""

    pointer: Annotated[str, doc("a JSON pointer to the wrong value", examples=["#/images/0/sha256"])]
    code: Annotated[
        str,
        doc(
            "stable, for machines: `bad_value`, `unknown_value`, `missing_field`, `unknown_field`, or a code of "
            "the list"
        ),
    ]
    detail: Annotated[str, doc("a sentence for people, which may change")]
    image: NotRequired[Annotated[str, doc("the name of the image that it is about, if any")]]


class Problem(TypedDict):
    """An error (RFC 9457)."""

    type: Annotated[str, doc("the code as a URN")]
    title: Annotated[str, doc("the reason phrase of the status")]
    status: Annotated[int, doc("the HTTP status of the response")]
    code: Annotated[str, doc("stable, for machines; `x-codes` lists all")]
    detail: Annotated[str, doc("a sentence for people, which may change")]
    request_id: Annotated[str, doc("the id under which the server's log has the request")]
    errors: NotRequired[
        Annotated[
            list[ProblemFault], doc("each fault by itself, at most 10 of validation; absent if there is nothing to add")
        ]
    ]
