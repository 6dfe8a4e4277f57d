"""The intake: an order and its pictures become blobs, then rows, then a bell; in this order."""

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from jobs import bell, blobs, company, database, destinations, errors, gate, pictures, settings, tables, tracing
from jobs.store import blobs as store_blobs
from jobs.store import incoming, jobs, models, quotas, retry

MAX_NAME = 1024


@dataclass(frozen=True)
class Upload:
    """One picture as it came: the caller's name for it, its bytes, and the caller's identifier of it."""

    name: str
    data: bytes
    custom_id: str | None = None


@dataclass(frozen=True)
class Reference:
    """One picture whose bytes its owner has sent before: by their SHA-256."""

    name: str
    sha256: str
    custom_id: str | None = None


@dataclass(frozen=True)
class Intake:
    """What taking in needs."""

    settings: settings.Settings
    db: database.Database
    blobs: blobs.Blobs
    bell: bell.Bell
    keeper: gate.Gate | None = None
    """Who is let in; without one, everybody."""

    def create(
        self,
        job: jobs.NewJob,
        uploads: Sequence[Upload],
        *,
        references: Sequence[Reference] = (),
        refuse_bad: bool = False,
    ) -> sa.Row[Any]:
        """Take in a new job, and return it. Whatever is killed after this, each picture gets one result.

        Raises:
            errors.BadPicture: with `refuse_bad`, a picture that its header condemns; else it fails by itself.
            errors.Refused: the order cannot be taken as it is.
            errors.Later: there is no room for it now; nothing was taken in.
            errors.Unavailable: the database or the blobs do not answer; nothing was taken in.
        """
        self._look_up(job.model)
        if job.webhook is not None:
            destinations.Rules.read(self.settings.webhook_allow).check(job.webhook)
        images = self._examine(uploads)
        if refuse_bad and (bad := next((image.error for image in images if image.error is not None), None)):
            raise errors.BadPicture(bad.code, bad.detail)
        every = self._named(images + self._refer(job.owner, references))
        self._admit(job, every)
        self._keep(images, uploads)
        job = replace(job, fingerprint=_fingerprint(job, every))
        return self._take(job, every)

    def again(self, job: jobs.NewJob, image: incoming.NewImage) -> sa.Row[Any]:
        """Take in a new job of one picture whose bytes are stored already, and return it.

        Raises:
            errors.UnknownModel: the model is not served.
            errors.Later: there is no room for it now; nothing was taken in.
            errors.Unavailable: the database does not answer; nothing was taken in.
        """
        self._look_up(job.model)
        self._admit(job, [image])
        return self._take(job, [image])

    @cached_property
    def _company(self) -> company.Company[jobs.Order, sa.Row[Any]]:
        return company.Company(lambda orders: self.db.write(jobs.take, orders))

    def _take(self, job: jobs.NewJob, images: Sequence[incoming.NewImage]) -> sa.Row[Any]:
        """Write an order, in one transaction with those that others bring meanwhile; one that cannot be fails alone."""
        row = None
        if not job.limits.limited:  # else it may have to wait for others of its key, and nobody shall wait with it
            try:
                row = self._company.ask((job, images))
            except errors.Unavailable:
                raise
            except Exception:  # noqa: BLE001, S110 (whoever's fault it is: by itself each learns its own)
                pass
        if row is None:
            (row,) = self.db.write(jobs.take, [(job, images)])
        self.bell.ring()
        return row

    def add(
        self,
        job_id: str,
        owner: str,
        uploads: Sequence[Upload],
        *,
        references: Sequence[Reference] = (),
        own: quotas.Quotas = quotas.NONE,
    ) -> None:
        """Take in more pictures of an open job; names that it has already are left alone. `own` is what its owner may.

        Raises:
            errors.Refused: the order cannot be taken as it is.
            errors.Later: there is no room for them now; nothing was taken in.
            errors.Unavailable: the database or the blobs do not answer; nothing was taken in.
        """
        job = self.db.read(jobs.job, job_id, owner)  # nobody fills our disk through a job that is not theirs
        images = self._examine(uploads)
        every = self._named(images + self._refer(owner, references))
        try:
            self._check(owner, own, incoming.load(every), job.priority)
        except (errors.Later, errors.TooManyImages):
            if self.db.read(jobs.unknown, job_id, every):
                raise  # else it is a repeat, which adds nothing
        self._keep(images, uploads)
        self.db.write(jobs.add, job_id, owner, every, own)
        self.bell.ring()

    def retry(self, job_id: str, owner: str, own: quotas.Quotas = quotas.NONE) -> str:
        """Order anew what got no label in a job; asked again, the same. Returns the id of the new job.

        Raises:
            errors.Refused: there is no such job, or nothing in it to be tried again.
            errors.Later: there is no room for it now.
            errors.Unavailable: the database does not answer.
        """
        try:
            self._check(owner, quotas.NONE, quotas.Load(1))  # how many they are is known when they are ordered
        except errors.Later:
            if self.db.read(retry.known, job_id) is None:
                raise
        new = self.db.write(retry.retry, job_id, owner, own, tracing.traceparent())
        self.bell.ring()
        return new

    def _admit(self, job: jobs.NewJob, images: Sequence[incoming.NewImage]) -> None:
        """See that there is room for an order, unless it was taken in before."""
        try:
            if images:
                self._check(job.owner, job.limits, incoming.load(images), job.priority)
        except (errors.Later, errors.TooManyImages):
            if not self.db.read(jobs.is_repeat, job):
                raise

    def _check(self, owner: str, own: quotas.Quotas, wanted: quotas.Load, priority: int = tables.Priority.BULK) -> None:
        if self.keeper is not None:
            self.keeper.check(owner, own, wanted, priority)

    def _look_up(self, model: str) -> None:
        """See that somebody serves a model: that of the settings, or one with a live version."""
        if model != self.settings.model and model not in (live := self.db.read(models.live_names)):
            there = ", ".join(sorted({self.settings.model, *live}))
            raise errors.UnknownModel(f"There is no model {model!r}; there is: {there}.")

    def _refer(self, owner: str, references: Sequence[Reference]) -> list[incoming.NewImage]:
        """Pictures whose bytes this owner has sent before."""
        if not references:
            return []
        self._limit(references)
        sizes = self.db.read(store_blobs.known, owner, {reference.sha256 for reference in references})
        for reference in references:
            if reference.sha256 not in sizes:
                raise errors.UnknownBlob(f"You have not sent the bytes of {reference.name!r} yet; send the picture.")
        return [incoming.NewImage(_name(r.name), r.sha256, sizes[r.sha256], custom_id=r.custom_id) for r in references]

    def _examine(self, uploads: Sequence[Upload]) -> list[incoming.NewImage]:
        self._limit(uploads)
        limits = {"max_bytes": self.settings.max_image_bytes, "max_pixels": self.settings.max_pixels}
        judged = [pictures.judge(_name(u.name), u.data, custom_id=u.custom_id, **limits) for u in uploads]
        return self._named(judged)

    def _limit(self, uploads: Sequence[Upload | Reference]) -> None:
        if len(uploads) > self.settings.max_images_per_request:
            raise errors.TooManyImages(
                f"The request holds {len(uploads):,} pictures; send at most "
                f"{self.settings.max_images_per_request:,} at a time, and the rest to the job's images_url."
            )

    @staticmethod
    def _named(images: list[incoming.NewImage]) -> list[incoming.NewImage]:
        names = set()
        for image in images:
            if image.name in names:
                raise errors.DuplicateName(f"Two pictures are named {image.name!r}; a name is unique in its job.")
            names.add(image.name)
        return images

    def _keep(self, images: Sequence[incoming.NewImage], uploads: Sequence[Upload]) -> None:
        self.blobs.put((i.sha256, u.data) for i, u in zip(images, uploads, strict=True) if i.error is None)


def _name(name: str) -> str:
    """The caller's name for a picture, fit to be stored and shown: no control characters, not endless."""
    if not name.isprintable():  # else none of it is
        name = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(x) in ("Cc", "Cs") else x for x in name)
    if not 0 < len(name) <= MAX_NAME:
        raise errors.BadParameter(f"A picture's name has 1 to {MAX_NAME} characters; this one has {len(name)}.")
    return name


def _fingerprint(job: jobs.NewJob, images: Sequence[incoming.NewImage]) -> str:
    order: list[Any] = [job.model, int(job.priority), job.metadata, job.sealed, job.expires_in, job.fresh]
    order += [[image.name, image.sha256, *filter(None, [image.custom_id])] for image in images]
    order += [job.webhook] if job.webhook else []
    return hashlib.sha256(json.dumps(order, sort_keys=True).encode()).hexdigest()
