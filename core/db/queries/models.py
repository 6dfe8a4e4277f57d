"""Model registry: the versions of each model, which one is live, promotions and rollbacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from core import enums, errors
from core.db import clock, tables
from core.db.expressions import API_KEYS, MODELS, WORKERS, insert

PROMOTIONS: Any = tables.Promotion.__table__
MAX_FALLBACKS = 3
LIVE, SHADOW = enums.Stage.LIVE.value, enums.Stage.SHADOW.value


@dataclass(frozen=True)
class Version:
    """A version of a model, with what a worker needs to load it."""

    id: int
    name: str
    version: str
    digest: str
    files: Mapping[str, str] | None = field(compare=False)
    """{file name: SHA-256 of its blob}; None for a version that is bundled with the workers."""
    share: float | None = field(default=None, compare=False)
    tested_at: datetime | None = field(default=None, compare=False)
    """When a worker has tested it; None for never."""
    test_error: str | None = field(default=None, compare=False)
    """Why it did not pass."""

    @property
    def qualified_name(self) -> str:
        """Return NAME@VERSION."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class DesiredVersions:
    """The versions that workers should serve."""

    live: Mapping[str, Sequence[Version]]
    """For each model its live version, then those that were live before it, as fallbacks."""
    shadows: Mapping[str, Sequence[Version]]
    """For each model the versions that classify a share of its images beside the live one."""


VERSION_COLUMNS = [
    MODELS.c[name] for name in ("id", "name", "version", "digest", "files", "share", "tested_at", "test_error")
]


def add(
    conn: sa.Connection, manifest: Mapping[str, Any], files: Mapping[str, str] | None, created_by: str | None
) -> tuple[sa.Row[Any], bool]:
    """Add a version, whose files must be in the blob store already. Return its row, and whether it is new.

    Raises:
        errors.VersionConflict: the version exists with other content.
    """
    statement = insert(conn.dialect.name, MODELS).values(_model_row(manifest, files, created_by))
    inserted_id = conn.execute(
        statement.on_conflict_do_nothing(index_elements=["name", "version"]).returning(MODELS.c.id)
    ).scalar()
    row = get_version(conn, manifest["name"], manifest["version"])
    if inserted_id is None and (row.manifest != manifest or (row.files or files) != files):
        raise errors.VersionConflict(
            f"{row.name}@{row.version} exists with other content (its weights' digest is "
            f"{row.digest[:12]}…): a version never changes; use another version number."
        )
    if row.files is None and files is not None:  # it was bundled with the workers; from now on all can fetch it
        conn.execute(sa.update(MODELS).where(MODELS.c.id == row.id).values(files=files))
    return get_version(conn, row.name, row.version), inserted_id is not None


def register_bundled(conn: sa.Connection, manifest: Mapping[str, Any]) -> bool:
    """Register the model that a worker is bundled with; it is live until another of its name is promoted.

    Returns False if the registry holds other content under this version: then the registry's content counts.
    """
    is_same_version = (MODELS.c.name == manifest["name"], MODELS.c.version == manifest["version"])
    # It was not uploaded, so the workers define it: a later release may bundle another under the same version.
    content = {"digest": manifest["digest"], "manifest": dict(manifest)}
    conn.execute(sa.update(MODELS).where(*is_same_version, MODELS.c.files.is_(None)).values(content))
    try:
        row, _ = add(conn, manifest, conn.execute(sa.select(MODELS.c.files).where(*is_same_version)).scalar(), None)
    except errors.VersionConflict:
        return False
    _lock_name(conn, row.name)
    latest = conn.execute(_active_promotions(row.name)).first()
    if latest is None or (latest.promoted_by is None and latest.model_id != row.id):
        _make_live(conn, row.name, row.id)
        conn.execute(sa.insert(PROMOTIONS).values(model_id=row.id, promoted_at=clock.now()))
    return True


def promote(conn: sa.Connection, name: str, version_: str, promoted_by: str, *, retest: bool = False) -> sa.Row[Any]:
    """Make a version the live one of its name; repeating changes nothing. With `retest`, workers test it again first.

    Raises:
        errors.ModelNotFound: the version does not exist.
    """
    _lock_name(conn, name)
    row = get_version(conn, name, version_)
    if retest:
        conn.execute(sa.update(MODELS).where(MODELS.c.id == row.id).values(tested_at=None, test_error=None))
        conn.execute(sa.update(WORKERS).where(WORKERS.c.loading_model_id == row.id).values(loading_model_id=None))
    if row.stage != LIVE:
        _make_live(conn, name, row.id)
        conn.execute(sa.insert(PROMOTIONS).values(model_id=row.id, promoted_at=clock.now(), promoted_by=promoted_by))
    return get_version(conn, name, version_)


def rollback(conn: sa.Connection, name: str, reverted_by: str) -> sa.Row[Any]:
    """Revert the last promotion: the version that was live before is live again. Each repeat reverts one more.

    Raises:
        errors.ModelNotFound: the model does not exist.
        errors.NoPreviousVersion: no version was live before.
    """
    _lock_name(conn, name)
    latest, previous = [*conn.execute(_active_promotions(name).limit(2)), None, None][:2]
    if latest is None and not conn.execute(sa.select(MODELS.c.id).where(MODELS.c.name == name).limit(1)).first():
        raise errors.ModelNotFound.of(name)
    if latest is None or previous is None:
        raise errors.NoPreviousVersion(f"No version of {name} was live before; promote one.")
    reverted = {"reverted_at": clock.now(), "reverted_by": reverted_by}
    conn.execute(sa.update(PROMOTIONS).where(PROMOTIONS.c.id == latest.id).values(reverted))
    _make_live(conn, name, previous.model_id)
    return conn.execute(_version_query().where(MODELS.c.id == previous.model_id)).one()


def set_shadow_share(conn: sa.Connection, name: str, version_: str, share: float) -> sa.Row[Any]:
    """Let a version classify a share of the images of its name beside the live one; a share of 0 ends that.

    Raises:
        errors.ModelNotFound: the version does not exist.
        errors.VersionIsLive: the version is the live one.
    """
    _lock_name(conn, name)
    row = get_version(conn, name, version_)
    if row.stage == LIVE:
        raise errors.VersionIsLive(
            f"{name}@{version_} is the live version; it cannot be its own shadow; choose another."
        )
    idle_stage = enums.Stage.CANDIDATE if row.promoted_at is None else enums.Stage.RETIRED
    values = {"stage": SHADOW, "share": share} if share else {"stage": idle_stage.value, "share": None}
    conn.execute(sa.update(MODELS).where(MODELS.c.id == row.id).values(values))
    return get_version(conn, name, version_)


def get_version(conn: sa.Connection, name: str, version_: str) -> sa.Row[Any]:
    """Return one version.

    Raises:
        errors.ModelNotFound: the version does not exist.
    """
    row = conn.execute(_version_query().where(MODELS.c.name == name, MODELS.c.version == version_)).one_or_none()
    if row is None:
        raise errors.ModelNotFound(f"There is no {name}@{version_} in the registry; add it first.")
    return row


def list_all(conn: sa.Connection) -> Sequence[sa.Row[Any]]:
    """List all versions, by name, the newest of each first."""
    return conn.execute(_version_query().order_by(MODELS.c.name, MODELS.c.id.desc())).all()


def live_names(conn: sa.Connection) -> Sequence[str]:
    """List the models that have a live version."""
    return conn.execute(sa.select(MODELS.c.name).where(MODELS.c.stage == LIVE).order_by(MODELS.c.name)).scalars().all()


def desired_versions(conn: sa.Connection) -> DesiredVersions:
    """Return the versions that workers should serve now."""
    rank = sa.func.row_number().over(partition_by=MODELS.c.name, order_by=PROMOTIONS.c.id.desc()).label("age")
    ranked = sa.select(*VERSION_COLUMNS, rank).join(PROMOTIONS).where(PROMOTIONS.c.reverted_at.is_(None)).subquery()
    latest = sa.select(ranked).where(ranked.c.age <= MAX_FALLBACKS).order_by(ranked.c.name, ranked.c.age)
    live = [Version(*row[:-1]) for row in conn.execute(latest)]
    shadows = [Version(*row) for row in conn.execute(sa.select(*VERSION_COLUMNS).where(MODELS.c.stage == SHADOW))]
    return DesiredVersions(_by_name(live), _by_name(shadows))


def _by_name(versions: Sequence[Version]) -> dict[str, list[Version]]:
    return {name: [v for v in versions if v.name == name] for name in sorted({v.name for v in versions})}


def _make_live(conn: sa.Connection, name: str, id_: int) -> None:
    retired = {"stage": enums.Stage.RETIRED.value}
    conn.execute(sa.update(MODELS).where(MODELS.c.name == name, MODELS.c.stage == LIVE).values(retired))
    conn.execute(sa.update(MODELS).where(MODELS.c.id == id_).values(stage=LIVE, share=None))


def _lock_name(conn: sa.Connection, name: str) -> None:
    """Serialize changes: the live version of a name changes in one transaction at a time."""
    conn.execute(sa.select(MODELS.c.id).where(MODELS.c.name == name).order_by(MODELS.c.id).with_for_update())


def _active_promotions(name: str) -> sa.Select[Any]:
    """Select the promotions of a name that were not reverted, the newest first."""
    query = sa.select(PROMOTIONS).join(MODELS).where(MODELS.c.name == name, PROMOTIONS.c.reverted_at.is_(None))
    return query.order_by(PROMOTIONS.c.id.desc())


def _version_query() -> sa.Select[Any]:
    creator_name = sa.select(API_KEYS.c.name).where(API_KEYS.c.id == MODELS.c.created_by).scalar_subquery()
    promoted_at = sa.select(PROMOTIONS.c.promoted_at).where(PROMOTIONS.c.model_id == MODELS.c.id)
    promoted_at = promoted_at.order_by(PROMOTIONS.c.id.desc()).limit(1)
    return sa.select(MODELS, creator_name.label("creator"), promoted_at.scalar_subquery().label("promoted_at"))


def _model_row(manifest: Mapping[str, Any], files: Mapping[str, str] | None, created_by: str | None) -> dict[str, Any]:
    return {
        "name": manifest["name"],
        "version": manifest["version"],
        "digest": manifest["digest"],
        "manifest": dict(manifest),
        "files": files,
        "stage": enums.Stage.CANDIDATE.value,
        "created_at": clock.now(),
        "created_by": created_by,
    }
