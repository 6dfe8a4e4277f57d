"""The intake: an order and its pictures become blobs, then rows, then a bell; in this order."""

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobs import bell, blobs, database, errors, pictures, settings
from jobs.store import jobs

MAX_NAME = 1024


@dataclass(frozen=True)
class Upload:
    """One picture as it came: the caller's name for it, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Intake:
    """What taking in needs."""

    settings: settings.Settings
    db: database.Database
    blobs: blobs.Blobs
    bell: bell.Bell

    def create(self, job: jobs.NewJob, uploads: Sequence[Upload], *, refuse_bad: bool = False) -> str:
        """Take in a new job, and return its id. Whatever is killed after this, each picture gets one result.

        Raises:
            errors.BadPicture: with `refuse_bad`, a picture that its header condemns; else it fails by itself.
            errors.Refused: the order cannot be taken as it is.
            errors.Unavailable: the database or the blobs do not answer; nothing was taken in.
        """
        if job.model != self.settings.model:
            raise errors.UnknownModel(f"There is no model {job.model!r}; there is {self.settings.model!r}.")
        images = self._examine(uploads)
        if refuse_bad and (bad := [image.error for image in images if image.error is not None]):
            raise bad[0]
        job = replace(job, fingerprint=_fingerprint(job, images))
        self._keep(images, uploads)
        id_ = self.db.write(jobs.create, job, images)
        self.bell.ring()
        return id_

    def add(self, job_id: str, owner: str, uploads: Sequence[Upload]) -> None:
        """Take in more pictures of an open job; names that it has already are left alone.

        Raises:
            errors.Refused: the order cannot be taken as it is.
            errors.Unavailable: the database or the blobs do not answer; nothing was taken in.
        """
        self.db.read(jobs.job, job_id, owner)  # nobody fills our disk through a job that is not theirs
        images = self._examine(uploads)
        self._keep(images, uploads)
        self.db.write(jobs.add, job_id, owner, images)
        self.bell.ring()

    def _judge(self, upload: Upload) -> jobs.NewImage:
        """A picture's digest and size, and what its header says against it."""
        image = jobs.NewImage(_name(upload.name), hashlib.sha256(upload.data).hexdigest(), len(upload.data))
        try:
            limits = self.settings
            pictures.inspect(upload.data, max_bytes=limits.max_image_bytes, max_pixels=limits.max_pixels)
        except errors.BadPicture as error:
            return replace(image, error=error)
        return image

    def _examine(self, uploads: Sequence[Upload]) -> list[jobs.NewImage]:
        if len(uploads) > self.settings.max_images_per_request:
            raise errors.TooManyImages(
                f"The request holds {len(uploads):,} pictures; send at most "
                f"{self.settings.max_images_per_request:,} at a time, and the rest to the job's images_url."
            )
        images = [self._judge(upload) for upload in uploads]
        names = set()
        for image in images:
            if image.name in names:
                raise errors.DuplicateName(f"Two pictures are named {image.name!r}; a name is unique in its job.")
            names.add(image.name)
        return images

    def _keep(self, images: Sequence[jobs.NewImage], uploads: Sequence[Upload]) -> None:
        self.blobs.put((i.sha256, u.data) for i, u in zip(images, uploads, strict=True) if i.error is None)


def _name(name: str) -> str:
    """The caller's name for a picture, fit to be stored and shown: no control characters, not endless."""
    name = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(x) in ("Cc", "Cs") else x for x in name)
    if not 0 < len(name) <= MAX_NAME:
        raise errors.BadParameter(f"A picture's name has 1 to {MAX_NAME} characters; this one has {len(name)}.")
    return name


def _fingerprint(job: jobs.NewJob, images: Sequence[jobs.NewImage]) -> str:
    order: list[Any] = [job.model, int(job.priority), job.metadata, job.sealed]
    order += [[image.name, image.sha256] for image in images]
    return hashlib.sha256(json.dumps(order, sort_keys=True).encode()).hexdigest()
