"""Selections: several images with their results, to be reviewed, deleted, resubmitted or downloaded at once."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from core import enums, errors
from core.db.expressions import IMAGES, JOBS, RESULTS, REVIEWS, URL_FETCHES, is_job_of
from core.db.queries import deletions, results, reviews
from sortbelt.files import file_names

IMAGE_COLUMNS = ("id", "name", "sha256", "bytes", "source", "location", "attempt", "custom_id")
RESULT_COLUMNS = ("status", "label", "error_code", "model_name")
MAX_SUFFIX_LENGTH = 20  # what comes after the last dot of a name is a suffix, if it is not longer
MAX_STEP_IMAGES = 25  # changed in one transaction: on SQLite all other writers wait for it
Faults = Sequence[tuple[int, errors.SortbeltError]]


@dataclass
class Deletion:
    """The outcome of a deletion: receipts, and the images that stay with the reason."""

    receipts: list[sa.Row[Any]] = field(default_factory=list)
    digests: set[str] = field(default_factory=set)
    """The SHA-256 of the deleted images."""
    faults: list[tuple[int, errors.SortbeltError]] = field(default_factory=list)

    def add(self, other: "Deletion") -> None:
        """Add the outcome of another step."""
        self.receipts += other.receipts
        self.digests |= other.digests
        self.faults += other.faults


def steps(image_ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield images in groups, each for a transaction of its own: repeating a request that was cut off completes it."""
    in_order = sorted(image_ids)  # so that two selections do not wait for each other
    for start in range(0, len(in_order), MAX_STEP_IMAGES):
        yield in_order[start : start + MAX_STEP_IMAGES]


def list_rows(conn: sa.Connection, image_ids: Sequence[int], owner: str | None) -> Sequence[sa.Row[Any]]:
    """Return images with their results and reviews, in the order of the ids; `owner` None sees every key's.

    Raises:
        errors.ImageNotFound: the owner has no such image, or it has no result yet.
    """
    rows = {row.id: row for row in list_existing_rows(conn, image_ids, owner)}
    missing = [image_id for image_id in image_ids if image_id not in rows]
    if missing:
        others = f" (nor {len(missing) - 1:,} others of the request)" if len(missing) > 1 else ""
        raise errors.ImageNotFound(
            f"There is no finished image '{missing[0]}' that this key may see{others}; GET /v1/results lists them."
        )
    return [rows[image_id] for image_id in image_ids]


def list_existing_rows(conn: sa.Connection, image_ids: Sequence[int], owner: str | None) -> Sequence[sa.Row[Any]]:
    """Return those of the images that there are, as `list_rows` does, in any order."""
    query: sa.Select[Any] = (
        sa.select(
            *[IMAGES.c[name] for name in IMAGE_COLUMNS],
            *[RESULTS.c[name] for name in RESULT_COLUMNS],
            REVIEWS.c.verdict,
            REVIEWS.c.label.label("review_label"),
            URL_FETCHES.c.url,
        )
        .select_from(
            RESULTS.join(IMAGES, IMAGES.c.id == RESULTS.c.image_id)
            .join(JOBS, JOBS.c.id == RESULTS.c.job_id)
            .outerjoin(REVIEWS, results.IS_REVIEW_OF_RESULT)
            .outerjoin(URL_FETCHES, URL_FETCHES.c.image_id == IMAGES.c.id)
        )
        .where(RESULTS.c.image_id.in_(image_ids), JOBS.c.purged_at.is_(None), *is_job_of(owner))
    )
    return conn.execute(query).all()


def is_rejected(row: sa.Row[Any]) -> bool:
    """Return whether the header check rejected an image, so that its bytes were not stored."""
    return bool(row.attempt == 0 and row.status == enums.Status.FAILED)


def count_codes(rows: Iterable[sa.Row[Any]]) -> Mapping[str, int]:
    """Count images by their error code."""
    return dict(sorted(Counter(row.error_code for row in rows).items()))


def review(
    conn: sa.Connection, image_ids: Sequence[int], owner: str | None, reviewer: str, verdict: reviews.NewReview
) -> Faults:
    """Give each image of a step the same review, as `reviews.put`; return those that cannot have it, and why."""
    faults: list[tuple[int, errors.SortbeltError]] = []
    for image_id in image_ids:
        try:
            reviews.put(conn, image_id, owner, reviewer, verdict)
        except errors.ClientError as error:
            faults.append((image_id, error))
    return faults


def delete(conn: sa.Connection, image_ids: Sequence[int], owner: str | None, deleted_by: str) -> Deletion:
    """Delete each image of a step with its result, as `deletions.delete_image`."""
    deletion = Deletion()
    for image_id in image_ids:
        try:
            receipt, digest = deletions.delete_image(conn, image_id, owner, deleted_by)
        except errors.ClientError as error:
            deletion.faults.append((image_id, error))
        else:
            deletion.receipts.append(receipt)
            deletion.digests.update(filter(None, [digest]))
    return deletion


def unique_names(names: Iterable[str]) -> list[str]:
    """Return names with a number for those that are repeated, such as `a (2).jpg`."""
    taken: set[str] = set()
    last_numbers: dict[str, int] = {}
    unique = []
    for name in names:
        number, candidate = last_numbers.get(name, 1), name
        while candidate in taken:
            number += 1
            candidate = _numbered(name, number)
        last_numbers[name] = number
        taken.add(candidate)
        unique.append(candidate)
    return unique


def _numbered(name: str, number: int) -> str:
    """Return a name with a number that is never cut off, so that each number makes another name."""
    folder, slash, file_name = name.rpartition("/")
    stem, dot, suffix = file_name.rpartition(".")
    if not stem or len(suffix) > MAX_SUFFIX_LENGTH:
        stem, dot, suffix = file_name, "", ""
    end = f" ({number}){dot}{suffix}"
    start = f"{folder}{slash}{stem}"[: file_names.MAX_NAME_LENGTH - len(end)]
    return start.encode()[: file_names.MAX_NAME_BYTES - len(end.encode())].decode(errors="ignore") + end
