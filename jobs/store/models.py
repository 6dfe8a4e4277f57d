"""Models: which versions there are, which of each name is live, and how one comes to be so and ceases to be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from jobs import clock, errors, tables
from jobs.store.sql import KEYS, MODELS, insert

PROMOTIONS: Any = tables.Promotion.__table__
FALLBACKS = 3
LIVE, SHADOW = tables.Stage.LIVE.value, tables.Stage.SHADOW.value


@dataclass(frozen=True)
class Version:
    """A version of a model, as far as one must know it to use it."""

    id: int
    name: str
    version: str
    digest: str
    files: Mapping[str, str] | None = field(compare=False)
    """{file name: SHA-256 of its blob}; None where it comes with the workers."""
    share: float | None = field(default=None, compare=False)

    @property
    def title(self) -> str:
        """How people write it."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Wanted:
    """What workers should serve."""

    live: Mapping[str, Sequence[Version]]
    """For each model its live version, then those that were live before it: to fall back on."""
    shadows: Mapping[str, Sequence[Version]]
    """For each model the versions that judge a share of its pictures beside the live one."""


COLUMNS = [MODELS.c[name] for name in ("id", "name", "version", "digest", "files", "share")]


def add(
    c: sa.Connection, manifest: Mapping[str, Any], files: Mapping[str, str] | None, who: str | None
) -> tuple[sa.Row[Any], bool]:
    """Take in a version, whose files must be among the blobs already; its row, and whether it is new.

    Raises:
        errors.VersionTaken: the version is there with other content.
    """
    new = insert(c.dialect.name, MODELS).values(_row(manifest, files, who))
    made = c.execute(new.on_conflict_do_nothing(index_elements=["name", "version"]).returning(MODELS.c.id)).scalar()
    row = version(c, manifest["name"], manifest["version"])
    if made is None and (row.manifest != manifest or (row.files or files) != files):
        raise errors.VersionTaken(
            f"{row.name}@{row.version} is there already, with other content (its weights' digest is "
            f"{row.digest[:12]}…): a version never changes; give the new one a version of its own."
        )
    if row.files is None and files is not None:  # it came with the workers; from now on everybody can fetch it
        c.execute(sa.update(MODELS).where(MODELS.c.id == row.id).values(files=files))
    return version(c, row.name, row.version), made is not None


def settle(c: sa.Connection, manifest: Mapping[str, Any]) -> bool:
    """Enter the model that a worker comes with; it is live while nobody has promoted another of its name.

    Returns False where the registry holds other content under this version: then that is what counts.
    """
    at = (MODELS.c.name == manifest["name"], MODELS.c.version == manifest["version"])
    # Nobody uploaded it, so it is what the workers say: a later release may bring another under the same version.
    content = {"digest": manifest["digest"], "manifest": dict(manifest)}
    c.execute(sa.update(MODELS).where(*at, MODELS.c.files.is_(None)).values(content))
    try:
        row, _ = add(c, manifest, c.execute(sa.select(MODELS.c.files).where(*at)).scalar(), None)
    except errors.VersionTaken:
        return False
    _lock(c, row.name)
    last = c.execute(_standing(row.name)).first()
    if last is None or (last.promoted_by is None and last.model_id != row.id):
        _make_live(c, row.name, row.id)
        c.execute(sa.insert(PROMOTIONS).values(model_id=row.id, promoted_at=clock.now()))
    return True


def promote(c: sa.Connection, name: str, version_: str, who: str) -> sa.Row[Any]:
    """Make a version the live one of its name; again changes nothing.

    Raises:
        errors.ModelNotFound: there is no such version.
    """
    _lock(c, name)
    row = version(c, name, version_)
    if row.stage != LIVE:
        _make_live(c, name, row.id)
        c.execute(sa.insert(PROMOTIONS).values(model_id=row.id, promoted_at=clock.now(), promoted_by=who))
    return version(c, name, version_)


def rollback(c: sa.Connection, name: str, who: str) -> sa.Row[Any]:
    """Take the last promotion back: the version that was live before it is live again. Again goes one further back.

    Raises:
        errors.ModelNotFound: there is no such model.
        errors.NothingBefore: no version was live before.
    """
    _lock(c, name)
    last, before = [*c.execute(_standing(name).limit(2)), None, None][:2]
    if last is None and not c.execute(sa.select(MODELS.c.id).where(MODELS.c.name == name).limit(1)).first():
        raise errors.ModelNotFound(f"There is no model {name!r}.")
    if last is None or before is None:
        raise errors.NothingBefore(f"No version of {name} was live before; promote another.")
    undone = {"undone_at": clock.now(), "undone_by": who}
    c.execute(sa.update(PROMOTIONS).where(PROMOTIONS.c.id == last.id).values(undone))
    _make_live(c, name, before.model_id)
    return c.execute(_view().where(MODELS.c.id == before.model_id)).one()


def shadow(c: sa.Connection, name: str, version_: str, share: float) -> sa.Row[Any]:
    """Let a version judge a share of the pictures of its name beside the live one; a share of 0 ends that.

    Raises:
        errors.ModelNotFound: there is no such version.
        errors.IsLive: it is the live one.
    """
    _lock(c, name)
    row = version(c, name, version_)
    if row.stage == LIVE:
        raise errors.IsLive(f"{name}@{version_} is the live version; it cannot be its own shadow.")
    idle = tables.Stage.CANDIDATE if row.promoted_at is None else tables.Stage.RETIRED
    values = {"stage": SHADOW, "share": share} if share else {"stage": idle.value, "share": None}
    c.execute(sa.update(MODELS).where(MODELS.c.id == row.id).values(values))
    return version(c, name, version_)


def version(c: sa.Connection, name: str, version_: str) -> sa.Row[Any]:
    """One version.

    Raises:
        errors.ModelNotFound: there is no such version.
    """
    row = c.execute(_view().where(MODELS.c.name == name, MODELS.c.version == version_)).one_or_none()
    if row is None:
        raise errors.ModelNotFound(f"There is no {name}@{version_} in the registry.")
    return row


def page(c: sa.Connection) -> Sequence[sa.Row[Any]]:
    """All versions, by name, the newest of each first."""
    return c.execute(_view().order_by(MODELS.c.name, MODELS.c.id.desc())).all()


def live_names(c: sa.Connection) -> Sequence[str]:
    """The models that have a live version."""
    return c.execute(sa.select(MODELS.c.name).where(MODELS.c.stage == LIVE).order_by(MODELS.c.name)).scalars().all()


def wanted(c: sa.Connection) -> Wanted:
    """What workers should serve now."""
    age = sa.func.row_number().over(partition_by=MODELS.c.name, order_by=PROMOTIONS.c.id.desc()).label("age")
    stand = sa.select(*COLUMNS, age).join(PROMOTIONS).where(PROMOTIONS.c.undone_at.is_(None)).subquery()
    latest = sa.select(stand).where(stand.c.age <= FALLBACKS).order_by(stand.c.name, stand.c.age)
    live = [Version(*row[:-1]) for row in c.execute(latest)]
    shadows = [Version(*row) for row in c.execute(sa.select(*COLUMNS).where(MODELS.c.stage == SHADOW))]
    return Wanted(_by_name(live), _by_name(shadows))


def _by_name(versions: Sequence[Version]) -> dict[str, list[Version]]:
    return {name: [v for v in versions if v.name == name] for name in sorted({v.name for v in versions})}


def _make_live(c: sa.Connection, name: str, id_: int) -> None:
    retired = {"stage": tables.Stage.RETIRED.value}
    c.execute(sa.update(MODELS).where(MODELS.c.name == name, MODELS.c.stage == LIVE).values(retired))
    c.execute(sa.update(MODELS).where(MODELS.c.id == id_).values(stage=LIVE, share=None))


def _lock(c: sa.Connection, name: str) -> None:
    """Take turns: what is live of a name changes in one transaction at a time."""
    c.execute(sa.select(MODELS.c.id).where(MODELS.c.name == name).order_by(MODELS.c.id).with_for_update())


def _standing(name: str) -> sa.Select[Any]:
    """The promotions of a name that were not taken back, the newest first."""
    query = sa.select(PROMOTIONS).join(MODELS).where(MODELS.c.name == name, PROMOTIONS.c.undone_at.is_(None))
    return query.order_by(PROMOTIONS.c.id.desc())


def _view() -> sa.Select[Any]:
    maker = sa.select(KEYS.c.name).where(KEYS.c.id == MODELS.c.created_by).scalar_subquery()
    last = sa.select(PROMOTIONS.c.promoted_at).where(PROMOTIONS.c.model_id == MODELS.c.id)
    last = last.order_by(PROMOTIONS.c.id.desc()).limit(1)
    return sa.select(MODELS, maker.label("creator"), last.scalar_subquery().label("promoted_at"))


def _row(manifest: Mapping[str, Any], files: Mapping[str, str] | None, who: str | None) -> dict[str, Any]:
    return {
        "name": manifest["name"],
        "version": manifest["version"],
        "digest": manifest["digest"],
        "manifest": dict(manifest),
        "files": files,
        "stage": tables.Stage.CANDIDATE.value,
        "created_at": clock.now(),
        "created_by": who,
    }
