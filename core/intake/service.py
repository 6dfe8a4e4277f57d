"""Submission service: a submission becomes blobs, then rows, then a wake-up; in this order."""

import hashlib
import json
from collections.abc import Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from core import enums, errors, settings
from core.broker import wakeup as wakeup_broker
from core.concurrency import blocking_call
from core.db import database
from core.db.job_row import JobRow
from core.db.new_image import UNREAD_DIGEST, URL_SOURCE, NewImage
from core.db.queries import jobs, known_blobs, models, new_images, quotas, retries
from core.intake import admission, header_check, job_writer
from core.storage import base
from core.tracing import tracer
from core.webhooks import url_policy
from sortbelt.files import file_names

MAX_FAULTS = 100  # named in one error


@dataclass(frozen=True)
class Upload:
    """One uploaded image: the caller's name for it, its bytes, and the caller's identifier."""

    name: str
    data: bytes
    custom_id: str | None = None


@dataclass(frozen=True)
class BlobReference:
    """One image whose bytes its owner has uploaded before, by their SHA-256."""

    name: str
    sha256: str
    custom_id: str | None = None


@dataclass(frozen=True)
class UrlReference:
    """One image that the dispatcher fetches from a URL."""

    name: str
    url: str
    custom_id: str | None = None


SubmittedImage = Upload | BlobReference | UrlReference


@dataclass(frozen=True)
class SubmissionService:
    """Create and extend jobs."""

    settings: settings.Settings
    db: database.Database
    blob_store: base.BlobStore
    wakeup: wakeup_broker.WakeupSender
    admission_control: admission.AdmissionControl | None = None
    """None accepts everything."""

    def start_job(
        self, job: jobs.NewJob, submitted: Sequence[SubmittedImage], *, reject_invalid: bool = False
    ) -> futures.Future[JobRow]:
        """Check a submission, as far as that takes neither database nor disk; return the future of its job.

        Once the future is done, each image of the job gets one result, whichever process is killed then.

        Both this and the future raise:
            errors.ImageFailed: with `reject_invalid`, an image fails its header check; else only that image fails.
            errors.ClientError: the submission cannot be accepted as it is.
            errors.TemporarilyRejected: it cannot be accepted now; nothing was written.
            errors.ServiceUnavailable: the database or the blob store does not answer; no row was written.
        """
        self.check_count(len(submitted))
        if job.webhook_url is not None:
            self._url_policy.validate(job.webhook_url)
        has_references = any(isinstance(image, BlobReference) for image in submitted)
        if has_references or job.model != self.settings.model:
            return blocking_call.BlockingCall(lambda: self._look_up_and_create(job, submitted, reject_invalid))
        return self._create(job, self._prepare_images(submitted), reject_invalid)

    def _look_up_and_create(
        self, job: jobs.NewJob, submitted: Sequence[SubmittedImage], reject_invalid: bool
    ) -> JobRow:
        images = self._prepare_images(submitted)
        if job.idempotency_key is not None:
            job = replace(job, fingerprint=_fingerprint(job, images))
            if (repeated := self.find_repeated(job)) is not None:
                return repeated  # whether or not its model and its bytes are still there
        self._require_model(job.model)
        images = self._resolve_references(job.owner, images)
        return blocking_call.wait(self._create(job, images, reject_invalid))

    def find_repeated(self, job: jobs.NewJob) -> JobRow | None:
        """Return the job of which a new one with a fingerprint is a repeat, under its idempotency key; None for none.

        Raises:
            errors.ClientError: the key was used for another submission, or its job was purged.
            errors.ServiceUnavailable: the database does not answer.
        """
        if job.idempotency_key is None:
            return None
        (repeated,) = self.db.read(jobs.find_repeated, [job])
        if isinstance(repeated, errors.ClientError):
            raise repeated
        return repeated

    def _create(self, job: jobs.NewJob, images: Sequence[NewImage], reject_invalid: bool) -> futures.Future[JobRow]:
        if reject_invalid and (rejection := next((image.error for image in images if image.error is not None), None)):
            raise errors.ImageFailed(rejection.code, rejection.detail)
        if job.idempotency_key is not None and job.fingerprint is None:
            job = replace(job, fingerprint=_fingerprint(job, images))
        is_small = sum(image.bytes for image in images) <= job_writer.MAX_BYTES
        if job.sealed and is_small and not job.key_quotas.is_limited:
            return self._job_writer.submit(job, images)
        # Many bytes take long, and another process may hold the lock of the key: no other submission waits for that.
        return blocking_call.BlockingCall(lambda: self._create_alone(job, images))

    def _create_alone(self, job: jobs.NewJob, images: Sequence[NewImage]) -> JobRow:
        """Create a large job, an open one, or one of a key with quotas, in a transaction of its own."""
        if (repeated := self.find_repeated(job)) is not None:
            return repeated
        load = jobs.submission_load(job, images)
        self._check_admission(job.owner, job.key_quotas, load, job.priority)
        if job.key_quotas.is_limited:
            self._charge(job.owner, job.key_quotas, load)
            job = replace(job, key_quotas=job.key_quotas.without_rates())
        self._store_blobs(images)
        return self._insert(job, images)

    def _insert(self, job: jobs.NewJob, images: Sequence[NewImage]) -> JobRow:
        job = replace(job, max_open_jobs=self.settings.key_open_jobs)
        (row,) = self.db.write(jobs.insert_jobs, [(job, images)])
        self.wakeup.send()
        return row

    def create_from_stored_images(self, job: jobs.NewJob, images: Sequence[NewImage]) -> JobRow:
        """Create a job of images whose bytes are stored already, and return it.

        Raises:
            errors.UnknownModel: the model is not served.
            errors.IdempotencyMismatch: the idempotency key was used for another submission.
            errors.ImageGone: an image was deleted, or removed by retention, and its bytes with it.
            errors.TemporarilyRejected: it cannot be accepted now; nothing was written.
            errors.ServiceUnavailable: the database does not answer; nothing was written.
        """
        self._require_model(job.model)
        try:
            return blocking_call.wait(self._create(job, images, reject_invalid=False))
        except errors.UnknownBlob as error:
            others = f" (and {len(error.faults) - 1:,} others)" if len(error.faults) > 1 else ""
            raise errors.ImageGone(
                f"The image {error.faults[0].image!r}{others} was deleted just now, or removed by retention; upload it "
                "again."
            ) from None

    @cached_property
    def _url_policy(self) -> url_policy.UrlPolicy:
        return url_policy.UrlPolicy.parse(self.settings.webhook_allow)

    @cached_property
    def _job_writer(self) -> job_writer.JobWriter:
        return job_writer.JobWriter(self.db, self.blob_store, self.wakeup, self.admission_control)

    def add_images(
        self,
        job_id: str,
        owner: str,
        submitted: Sequence[SubmittedImage],
        *,
        key_quotas: quotas.Quotas = quotas.UNSET,
    ) -> JobRow:
        """Add images to an open job, without those whose name it has already, and return the job.

        `key_quotas` are those of the owner.

        Raises:
            errors.ClientError: the submission cannot be accepted as it is.
            errors.TemporarilyRejected: it cannot be accepted now; nothing was written.
            errors.ServiceUnavailable: the database or the blob store does not answer; no row was written.
        """
        self.check_count(len(submitted))
        images = self._resolve_references(owner, self._prepare_images(submitted))
        names = [image.name for image in images]
        job, existing_names = self.db.read(jobs.get_with_names, job_id, owner, names)  # before bytes are stored
        images = [image for image in images if image.name not in existing_names]
        if not images:
            return job  # without new names it is a repeat, which adds nothing
        if job.sealed_at is not None:
            raise errors.JobSealed.of(job_id)
        load = new_images.total_load(images)
        self._check_admission(owner, key_quotas, load, job.priority)
        self._charge(owner, key_quotas, load)
        self._store_blobs(images)
        row = self.db.write(jobs.extend, job_id, owner, images, key_quotas.without_rates())
        self.wakeup.send()
        return row

    def retry_failed(self, job_id: str, owner: str, key_quotas: quotas.Quotas = quotas.UNSET) -> str:
        """Create a job of the images that got no label; called again, the same job. Return its id.

        Of many images `reaper.copy_retry` copies the rest.

        Raises:
            errors.ClientError: the owner has no such job, or nothing in it can be retried.
            errors.TemporarilyRejected: it cannot be accepted now.
            errors.ServiceUnavailable: the database does not answer.
        """
        retryable = self.db.read(retries.find_retryable, job_id, owner)
        if retryable is not None and retryable.load.images:
            self._check_admission(owner, quotas.UNSET, retryable.load)
        new_job_id = self.db.write(retries.create_retry, job_id, owner, key_quotas, tracer.traceparent(), retryable)
        self.wakeup.send()
        return new_job_id

    def _check_admission(
        self, owner: str, key_quotas: quotas.Quotas, load: quotas.Load, priority: int = enums.Priority.BULK
    ) -> None:
        if self.admission_control is not None:
            self.admission_control.refresh_estimate()
            self.admission_control.admit(owner, key_quotas, load, priority)

    def _charge(self, owner: str, key_quotas: quotas.Quotas, load: quotas.Load) -> None:
        """Take what a submission costs, before its bytes are stored: it is not given back if it is rejected later."""
        if key_quotas.per_minute != quotas.NO_LOAD:
            self.db.write(quotas.charge, owner, key_quotas, load)

    def _require_model(self, model: str) -> None:
        """Check that the model is served: it is that of the settings, or has a live version."""
        if model != self.settings.model and model not in (live_names := self.db.read(models.live_names)):
            available = ", ".join(sorted({self.settings.model, *live_names}))
            raise errors.UnknownModel(f"There is no model {model!r}; the models are: {available}.")

    def check_count(self, images: int) -> None:
        """Check that the number of images does not exceed the limit of a request.

        Raises:
            errors.TooManyImages: they do.
        """
        if images > self.settings.max_images_per_request:
            raise errors.TooManyImages(
                f"The request contains {images:,} images; send at most "
                f"{self.settings.max_images_per_request:,} at a time, and the rest to the job's images_url."
            )

    def _prepare_images(self, submitted: Sequence[SubmittedImage]) -> list[NewImage]:
        """Return images with their digests; uploads also with their bytes and sizes, or the error of their header.

        Raises:
            errors.BadParameter: a name is empty or too long, or a URL may not be fetched.
            errors.DuplicateName: a name is repeated.
        """
        limits = {"max_bytes": self.settings.max_image_bytes, "max_pixels": self.settings.max_pixels}
        images: dict[str, NewImage] = {}
        duplicates = []
        for index, image in enumerate(submitted):
            name = _clean_name(image.name)
            if name in images:
                duplicates.append(
                    errors.Fault(f"#/images/{index}/name", "duplicate_name", "The name is repeated.", name)
                )
            elif isinstance(image, Upload):
                images[name] = header_check.prepare_image(name, image.data, custom_id=image.custom_id, **limits)
            elif isinstance(image, UrlReference):
                self._check_url(image.url)
                images[name] = NewImage(
                    name, UNREAD_DIGEST, 0, custom_id=image.custom_id, source=URL_SOURCE, url=image.url
                )
            else:
                pointer = f"#/images/{index}/sha256"
                images[name] = NewImage(name, image.sha256, 0, custom_id=image.custom_id, reference=pointer)
        if duplicates:
            detail = f"Two images are named {duplicates[0].image!r}; a name is unique in its job."
            raise errors.DuplicateName(detail, duplicates[:MAX_FAULTS])
        return list(images.values())

    def _check_url(self, url: str) -> None:
        if not self.settings.fetch_urls:
            raise errors.BadParameter(
                "This server does not fetch images from URLs; send the bytes, or have SORTBELT_FETCH_URLS set."
            )
        self._url_policy.validate(url, "No image may be fetched from")

    def _resolve_references(self, owner: str, images: list[NewImage]) -> list[NewImage]:
        """Return images with the sizes of those that are references.

        Raises:
            errors.UnknownBlob: the owner has not sent the bytes of a reference before.
        """
        digests = {image.sha256 for image in images if image.reference}
        if not digests:
            return images
        sizes = self.db.read(known_blobs.find_known, owner, digests)
        unknown = [(image.reference, image.name) for image in images if image.reference and image.sha256 not in sizes]
        if unknown:
            raise errors.UnknownBlob.of_images(unknown)
        return [replace(image, bytes=sizes[image.sha256]) if image.reference else image for image in images]

    def _store_blobs(self, images: Sequence[NewImage]) -> None:
        self.blob_store.put((image.sha256, image.data) for image in images if image.data is not None)


def _clean_name(name: str) -> str:
    """Return a name of an image that is fit to be stored and shown: control characters are escaped.

    Raises:
        errors.BadParameter: it is empty or too long.
    """
    if not name.isprintable():  # which is quick to see, and mostly not so
        name = file_names.storable_name(name)
    if not 0 < len(name) <= file_names.MAX_NAME_LENGTH:
        raise errors.BadParameter(
            f"An image's name has 1 to {file_names.MAX_NAME_LENGTH} characters; this one has {len(name)}."
        )
    if file_names.has_too_many_bytes(name):
        raise errors.BadParameter(
            f"An image's name has at most {file_names.MAX_NAME_BYTES:,} bytes in UTF-8; this one has "
            f"{len(name.encode()):,}."
        )
    return name


def _fingerprint(job: jobs.NewJob, images: Sequence[NewImage]) -> str:
    content: list[Any] = [job.model, int(job.priority), job.metadata, job.sealed, job.expires_in, job.fresh]
    content += [
        [image.name, image.sha256, *filter(None, [image.custom_id, image.url, image.location])] for image in images
    ]
    content += [job.webhook_url] if job.webhook_url else []
    content += [{"name": job.name}] if job.name else []
    return fingerprint(content)


def fingerprint(content: Any) -> str:
    """Return the digest of what was submitted, by which a repeat under an idempotency key is recognized."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
