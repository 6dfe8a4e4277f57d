"""Values of filters: whether they exist, so that a misspelled one is an error and not an empty list."""

from typing import Any

import sqlalchemy as sa

from core import errors
from core.db.expressions import JOBS, MODELS, RESULTS
from core.db.queries import jobs, results


def split_version(model: str | None, version: str | None) -> dict[str, str | None]:
    """Return model and version of a filter whose model may be NAME@VERSION.

    Raises:
        errors.BadParameter: both name a version, and not the same.
    """
    name, separator, own_version = (model or "").partition("@")
    if not separator:
        return {"model": model, "version": version}
    if version not in (None, own_version):
        raise errors.BadParameter(f"The model {model!r} and the version {version!r} differ; give one of them.")
    return {"model": name, "version": own_version}


def require_existing(conn: sa.Connection, filters: results.ResultFilter, owner: str | None) -> None:
    """Check that there are the job, the label, the model, its version and the error code that a filter asks for.

    `owner` is the key that asks; None sees every key's jobs.

    Raises:
        errors.JobNotFound, errors.JobPurged: the job does not exist, or not any more.
        errors.UnknownValue: another one does not exist; the message names those that do.
    """
    if filters.job is not None:
        jobs.get(conn, filters.job, owner)
    if filters.model is not None:
        require_model(conn, filters.model)
    if filters.version is not None:
        _require_version(conn, filters.model, filters.version)
    if filters.label is not None and not _has_result(conn, RESULTS.c.label == filters.label):
        _require_label(conn, filters.model, filters.label)
    if filters.error is not None:
        _require_error_code(conn, filters.error)


def require_model(conn: sa.Connection, name: str) -> None:
    """Check that a model is in the registry, or has jobs or results.

    Raises:
        errors.UnknownValue: it is not; the message names those that are.
    """
    is_known = (
        _exists(conn, sa.select(MODELS.c.id).where(MODELS.c.name == name))
        or _exists(conn, sa.select(JOBS.c.id).where(JOBS.c.model == name, JOBS.c.purged_at.is_(None)))
        or _has_result(conn, RESULTS.c.model_name == name)
    )
    if not is_known:
        raise errors.UnknownValue.of("model", "model", name, _registry(conn, MODELS.c.name))


def _require_version(conn: sa.Connection, model: str | None, version: str) -> None:
    is_model = [] if model is None else [MODELS.c.name == model]
    is_in_registry = sa.select(MODELS.c.id).where(MODELS.c.version == version, *is_model)
    if not _exists(conn, is_in_registry) and not _has_result(conn, RESULTS.c.model_version == version):
        raise errors.UnknownValue.of("version", "version", version, _registry(conn, MODELS.c.version, *is_model))


def _require_label(conn: sa.Connection, model: str | None, label: str) -> None:
    is_model = [] if model is None else [MODELS.c.name == model]
    manifests = conn.execute(sa.select(MODELS.c.manifest).where(*is_model)).scalars()
    labels = {known for manifest in manifests for known in manifest.get("labels", ())}
    if label not in labels:
        raise errors.UnknownValue.of("label", "label", label, labels)


def _require_error_code(conn: sa.Connection, code: str) -> None:
    if code not in errors.IMAGE_ERRORS and not _has_result(conn, RESULTS.c.error_code == code):
        raise errors.UnknownValue.of("error", "error code", code, errors.IMAGE_ERRORS)


def _registry(conn: sa.Connection, column: Any, *conditions: sa.ColumnElement[bool]) -> list[str]:
    return list(conn.execute(sa.select(column).where(*conditions).distinct()).scalars())


def _has_result(conn: sa.Connection, condition: sa.ColumnElement[bool]) -> bool:
    return _exists(conn, sa.select(RESULTS.c.image_id).where(condition))


def _exists(conn: sa.Connection, query: sa.Select[Any]) -> bool:
    return conn.execute(query.limit(1)).first() is not None
