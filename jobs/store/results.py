"""Results: what became of images, by job, or across all of them by anything else."""

import contextlib
import enum
import functools
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from jobs.store import environments
from jobs.store.sql import ENVIRONMENTS, IMAGES, JOBS, RESULTS, Page, aside

LATELY, MANY = 5_000, 50  # of so many results so many are many
AT_ONCE = timedelta(minutes=1)  # more than any transaction lasts
LOOK_AT = 20_000  # results of which a page is made, where it cannot be known how many of them are asked for
SHOWN = (RESULTS, IMAGES.c.name, IMAGES.c.custom_id, IMAGES.c.worker, *environments.SHOWN)
WHERE_FROM = RESULTS.join(IMAGES, IMAGES.c.id == RESULTS.c.image_id).outerjoin(
    ENVIRONMENTS, ENVIRONMENTS.c.id == RESULTS.c.environment_id
)


Compare = Callable[[Any, Any], sa.ColumnElement[bool]]


class Order(enum.StrEnum):
    """In which order results come."""

    IMAGE = "image"  # that in which their pictures came
    NEWEST = "newest"  # the reverse
    CONFIDENCE = "confidence"  # the least confident first; only those that have a label


class Place(NamedTuple):
    """Where a page ended."""

    image_id: int
    confidence: float = 0.0
    """Of the last result, where they come by confidence."""


@dataclass(frozen=True)
class Filter:
    """Which results are asked for; what is None does not matter."""

    owner: str | None = None
    job: str | None = None
    label: str | None = None
    min_confidence: float | None = None
    max_confidence: float | None = None
    status: str | None = None
    error: str | None = None
    model: str | None = None
    version: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    name: str | None = None
    """A text that the picture's name contains, in any case."""
    custom_id: str | None = None


def page(
    c: sa.Connection,
    wanted: Filter,
    *,
    limit: int,
    after: Place | None = None,
    order: Order = Order.IMAGE,
    look_at: int = LOOK_AT,
) -> Page:
    """Results in an order, from beyond a place.

    What no index knows is looked for among the next `look_at` results only: a page may have fewer rows than `limit`, or
    none, and yet a place where the next begins.
    """
    if order is Order.CONFIDENCE and wanted.error is not None:
        return Page()  # what has an error has no confidence
    newest = order is Order.NEWEST
    along = _by_confidence(c, wanted) if order is Order.CONFIDENCE else _by_image(c, wanted, newest=newest)
    if newest and along.is_long and wanted.until is not None and (late := _later_than(c, wanted.until)) is not None:
        after = late if after is None else min(after, late)
    query = sa.select(*SHOWN).select_from(WHERE_FROM).where(*along.course, *along.others)
    course = sa.select(*along.columns).where(*along.course)
    if after is not None:
        beyond = operator.lt if newest else operator.gt
        query, course = query.where(*along.bounds(beyond, after)), course.where(along.bound(beyond, after))
    else:
        query, course = query.where(*along.start), course.where(*along.start)
    ordered = [column.desc() if newest else column for column in along.columns]
    end = c.execute(course.order_by(*ordered).offset(look_at - 1).limit(1)).one_or_none() if along.is_long else None
    last = None
    if end is not None:
        last = Place(end[-1], end[0] if order is Order.CONFIDENCE else 0.0)
        query = query.where(*along.bounds(operator.ge if newest else operator.le, last))
    rows = c.execute(query.order_by(*ordered).limit(limit)).all()
    if len(rows) == limit:
        last = Place(rows[-1].image_id, rows[-1].confidence or 0.0)
    return Page(rows, last)


def first(c: sa.Connection, jobs: Collection[sa.Row[Any]], *, limit: int) -> Mapping[str, Sequence[sa.Row[Any]]]:
    """The first results of each of these jobs, by its id; all that have no more than those are read by one query."""
    large = {job.id: page(c, Filter(job=job.id), limit=limit) for job in jobs if job.total > limit}
    small: dict[str, list[sa.Row[Any]]] = {job.id: [] for job in jobs if job.total <= limit}
    for row in c.execute(_of_jobs(), {"jobs": list(small)}):
        small[row.job_id].append(row)
    return {**large, **small}


def _of(owner: str) -> sa.ColumnElement[bool]:
    """Whether a result is this owner's, looked up for each result that is met on the way."""
    mine = (JOBS.c.id == RESULTS.c.job_id, aside(JOBS.c.owner) == owner, JOBS.c.purged_at.is_(None))
    return sa.exists().where(*mine)


def _are_many(c: sa.Connection, *conditions: sa.ColumnElement[bool]) -> bool:
    """Whether many of the latest results are such: who walks along any index then meets enough of them.

    The few of another kind are found by an index of their own, and sorted. SQLite knows neither, and would sort a
    million.
    """
    newest = c.execute(sa.select(sa.func.max(RESULTS.c.image_id))).scalar() or 0
    lately = sa.select(RESULTS.c.image_id).join(IMAGES, IMAGES.c.id == RESULTS.c.image_id)
    lately = lately.where(RESULTS.c.image_id > newest - LATELY, *conditions).limit(MANY)
    return len(c.execute(lately).all()) == MANY


def _later_than(c: sa.Connection, moment: datetime) -> Place | None:
    """The place of an image that came after a moment, if one is found: it and all with higher numbers ended later.

    Else who asks for what ended before would walk over all that has come since. Numbers are given in the order in which
    images come, but for transactions that run at the same time, which are over within `AT_ONCE`.
    """
    number = sa.select(RESULTS.c.image_id).where(RESULTS.c.job_id == JOBS.c.id).order_by(RESULTS.c.image_id).limit(1)
    with contextlib.suppress(OverflowError):
        later = (JOBS.c.created_at > moment + AT_ONCE, JOBS.c.purged_at.is_(None))
        next_ones = sa.select(number.scalar_subquery()).where(*later).order_by(JOBS.c.created_at, JOBS.c.id).limit(10)
        return min((Place(found) for found in c.execute(next_ones).scalars() if found is not None), default=None)
    return None


@functools.cache
def _of_jobs() -> sa.Select[Any]:
    query = sa.select(*SHOWN).select_from(WHERE_FROM)
    some = query.where(RESULTS.c.job_id.in_(sa.bindparam("jobs", expanding=True)))
    return some.order_by(RESULTS.c.job_id, RESULTS.c.image_id)


@dataclass(frozen=True)
class _Along:
    """Along which index a page is read."""

    columns: Sequence[Any]
    """By which it is ordered; the last is the number of the image."""
    course: Sequence[sa.ColumnElement[bool]]
    """What the index knows of what is asked."""
    others: Sequence[sa.ColumnElement[bool]]
    """What is asked besides."""
    is_long: bool
    """Whether that may hold so seldom that no page can look for all of it."""
    bound: Callable[[Compare, Place], sa.ColumnElement[bool]]
    """Compares where one is with a place."""
    start: Sequence[sa.ColumnElement[bool]] = ()
    """What the index knows besides of where the first page begins; a later one begins at its place."""
    twin: Any = None
    """The number of the image in the other table: a join that merges them would begin at the end of one not bounded."""

    def bounds(self, compare: Compare, place: Place) -> list[sa.ColumnElement[bool]]:
        """That comparison in both tables."""
        twins = [] if self.twin is None else [compare(self.twin, place.image_id)]
        return [self.bound(compare, place), *twins]


def _by_confidence(c: sa.Connection, wanted: Filter) -> _Along:
    leading = Filter(**{name: getattr(wanted, name) for name in LEADS})
    walks = leading != Filter() and _are_many(c, *_conditions(leading, walks=True))
    wanted, owned, passes = _owned(c, wanted)
    others = [*owned, *_conditions(wanted, walks=walks)]
    columns = [RESULTS.c.confidence, RESULTS.c.image_id]
    here = sa.tuple_(*columns)
    return _Along(
        columns,
        [RESULTS.c.confidence.is_not(None)],
        others,
        bool(others) and passes and (walks or leading == Filter()),
        lambda compare, place: compare(here, sa.tuple_(sa.literal(place.confidence), sa.literal(place.image_id))),
    )


def _by_image(c: sa.Connection, wanted: Filter, *, newest: bool) -> _Along:
    """Along the index that leads with one of the columns asked for, if there is one."""
    wanted, owned, passes = _owned(c, wanted)
    lead = next((name for name in LEADS if getattr(wanted, name) is not None), None)
    others = [*owned, *_conditions(wanted, but=lead, walks=lead is not None)]
    is_long = bool(others) and passes
    column: Any = None if lead is None else LEADS[lead]
    image = RESULTS.c.image_id if column is None or column.table is RESULTS else IMAGES.c.id
    at = lambda compare, place: compare(image, place.image_id)  # noqa: E731 (shorter than a function)
    if lead is None:
        return _Along([image], [], others, is_long, at, twin=IMAGES.c.id)
    columns, value = [column, image], getattr(wanted, lead)
    if c.dialect.name == "sqlite":  # which bounds an index by the first of two columns that are compared together
        return _Along(columns, [column == value], others, is_long, at)
    # Bounded, not compared, and the first to order by: PostgreSQL, which knows how many rows have a value, but not that
    # they lie together, would else walk all results and hope to meet some soon. Where a place says where to begin, no
    # other bound may: it would begin at that, and walk to the place over all that lies between.
    here, given = sa.tuple_(*columns), sa.literal(value, column.type)
    at = lambda compare, place: compare(here, sa.tuple_(given, sa.literal(place.image_id)))  # noqa: E731 (as above)
    start, end = (column <= value, column >= value) if newest else (column >= value, column <= value)
    return _Along(columns, [end], others, is_long, at, start=[start])


def _owned(c: sa.Connection, wanted: Filter) -> tuple[Filter, list[sa.ColumnElement[bool]], bool]:
    """What is asked but for the owner, what stands for that, and whether others' results are passed on the way."""
    if wanted.owner is None or wanted.job is not None:
        return wanted, [], True
    if _are_many(c, _of(wanted.owner)):
        return replace(wanted, owner=None), [_of(wanted.owner)], True
    return wanted, [], False


def stats(c: sa.Connection, wanted: Filter, group: str) -> Sequence[sa.Row[Any]]:
    """How many results there are of each kind, with their mean confidence; the most of a kind first, or by time."""
    key = _group(c, group).label("key")
    mean = sa.func.avg(RESULTS.c.confidence).label("confidence")
    query = sa.select(key, sa.func.count().label("count"), mean).where(*_conditions(wanted)).group_by(key)
    if wanted.name is not None or wanted.custom_id is not None:
        query = query.join_from(RESULTS, IMAGES, IMAGES.c.id == RESULTS.c.image_id)
    by_time = group in ("day", "hour")
    return c.execute(query.order_by(key if by_time else sa.desc("count"), key).limit(10_000)).all()


def _group(c: sa.Connection, group: str) -> sa.ColumnElement[Any]:
    columns: dict[str, sa.ColumnElement[Any]] = {
        "label": RESULTS.c.label,
        "status": RESULTS.c.status,
        "error": RESULTS.c.error_code,
    }
    if group in columns:
        return columns[group]
    if group == "model":
        version = sa.func.coalesce(RESULTS.c.model_version, sa.literal_column("''"))
        return sa.func.trim(RESULTS.c.model + sa.literal_column("' '") + version, type_=sa.String())
    # Written out, not bound: PostgreSQL sees that what is grouped by is what is selected.
    sqlite, postgresql = {
        "day": ("'%Y-%m-%d'", "'YYYY-MM-DD'"),
        "hour": ("'%Y-%m-%dT%H:00:00Z'", '\'YYYY-MM-DD"T"HH24:00:00"Z"\''),
    }[group]
    if c.dialect.name == "sqlite":
        return sa.func.strftime(sa.literal_column(sqlite), RESULTS.c.finished_at, type_=sa.String())
    return sa.func.to_char(RESULTS.c.finished_at, sa.literal_column(postgresql))


def diff(c: sa.Connection, one: str, other: str, *, limit: int, after: str | None = None) -> Sequence[sa.Row[Any]]:
    """The pictures of two jobs, by name, whose labels are not the same; one that only one job has is not among them."""
    (mine, my_image), (theirs, their_image) = ((RESULTS.alias(), IMAGES.alias()) for _ in range(2))
    query: sa.Select[Any] = (
        sa.select(
            my_image.c.name,
            mine.c.label.label("label_a"),
            mine.c.confidence.label("confidence_a"),
            theirs.c.label.label("label_b"),
            theirs.c.confidence.label("confidence_b"),
        )
        .select_from(my_image)
        .join(mine, mine.c.image_id == my_image.c.id)
        .join(their_image, sa.and_(their_image.c.job_id == other, their_image.c.name == my_image.c.name))
        .join(theirs, theirs.c.image_id == their_image.c.id)
        .where(my_image.c.job_id == one, mine.c.label.is_distinct_from(theirs.c.label))
    )
    if after is not None:
        query = query.where(my_image.c.name > after)
    return c.execute(query.order_by(my_image.c.name).limit(limit)).all()


MADE_OF = ("sha256", "bytes", "source", "location", "attempt")


def one(c: sa.Connection, image_id: int, owner: str | None) -> sa.Row[Any] | None:
    """The result of an image with what is needed to have it made again; `owner` None sees everybody's.

    None also from the first step of a purge of its job on.
    """
    query: sa.Select[Any] = (
        sa.select(*SHOWN, *[IMAGES.c[name] for name in MADE_OF], JOBS.c.owner)
        .select_from(WHERE_FROM.join(JOBS, JOBS.c.id == RESULTS.c.job_id))
        .where(RESULTS.c.image_id == image_id, JOBS.c.purged_at.is_(None))
    )
    query = query if owner is None else query.where(JOBS.c.owner == owner)
    return c.execute(query).one_or_none()


def _conditions(wanted: Filter, *, but: str | None = None, walks: bool = False) -> list[sa.ColumnElement[bool]]:
    """What is asked, but for one; who walks along an index of their own wants SQLite to take none of these."""
    given = {name: value for name, value in vars(wanted).items() if value is not None and name != but}
    others = LEADS if walks else {}
    return [aside(others[name]) == value if name in others else TESTS[name](value) for name, value in given.items()]


# What an index begins with that goes on with the image; that of the fewest rows, as a rule, first.
LEADS: dict[str, Any] = {
    "job": RESULTS.c.job_id,
    "custom_id": IMAGES.c.custom_id,
    "error": RESULTS.c.error_code,
    "version": RESULTS.c.model_version,
    "label": RESULTS.c.label,
    "model": RESULTS.c.model,
}
TESTS: dict[str, Callable[[Any], sa.ColumnElement[bool]]] = {
    "owner": lambda owner: RESULTS.c.job_id.in_(
        sa.select(JOBS.c.id).where(JOBS.c.owner == owner, JOBS.c.purged_at.is_(None))
    ),
    "job": lambda job: RESULTS.c.job_id == job,
    "label": lambda label: RESULTS.c.label == label,
    "min_confidence": lambda confidence: RESULTS.c.confidence >= confidence,
    "max_confidence": lambda confidence: RESULTS.c.confidence <= confidence,
    "status": lambda status: RESULTS.c.status == status,
    "error": lambda code: RESULTS.c.error_code == code,
    "model": lambda model: RESULTS.c.model == model,
    "version": lambda version: RESULTS.c.model_version == version,
    "since": lambda moment: RESULTS.c.finished_at >= moment,
    "until": lambda moment: RESULTS.c.finished_at < moment,
    "custom_id": lambda text: IMAGES.c.custom_id == text,
    "name": lambda text: IMAGES.c.name.icontains(text, autoescape=True),
}
