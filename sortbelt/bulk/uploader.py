"""Uploader: add a batch of images to an open job, by reference where the server has the bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sortbelt import errors
from sortbelt.bulk import run_manifest
from sortbelt.client import image_files, responses
from sortbelt.client.sync_client import Client

TOO_MANY_IMAGES_CODE = "too_many_images"
UNKNOWN_BLOB_CODE = "unknown_blob"  # the bytes were purged after `known_blobs` reported them
IMAGE_POINTER = re.compile(r"#/images/(\d+)(?:/.*)?", re.ASCII)  # JSON pointer into the request body, RFC 6901


class UploadBatch(NamedTuple):
    """Images for one job; `by_reference` if the server reported that it has all their bytes."""

    job_id: str
    files: Sequence[image_files.Image]
    by_reference: bool = False


@dataclass
class UploadResult:
    """Outcome of a batch: the job after each request, the images in it, and the images that cannot be sent."""

    jobs: list[responses.Job] = field(default_factory=list)
    accepted: list[image_files.Image] = field(default_factory=list)
    failures: list[run_manifest.FailedImage] = field(default_factory=list)


class Uploader:
    """Sends batches. Thread-safe.

    Args:
        client: client of the server.
        on_unsupported: called when the server does not accept images by reference.
    """

    def __init__(self, client: Client, on_unsupported: Callable[[], None]) -> None:
        self._client = client
        self._on_unsupported = on_unsupported

    def upload(self, upload_batch: UploadBatch) -> UploadResult:
        """Send one batch. An image that cannot be read, or that the server rejects, fails alone."""
        result = UploadResult()
        to_upload = upload_batch.files
        if upload_batch.by_reference:
            to_upload = self._add_by_reference(upload_batch.job_id, upload_batch.files, result)
        for batch in image_files.batches(to_upload):
            self._upload_files(upload_batch.job_id, _load_images(batch, result), result)
        return result

    def _add_by_reference(
        self, job_id: str, images: Sequence[image_files.Image], result: UploadResult
    ) -> Sequence[image_files.Image]:
        """Add images by digest; return those that have to be uploaded after all."""
        if not images:
            return ()
        try:
            result.jobs.append(self._client.add_known(job_id, [(image.name, image.sha256) for image in images]))
        except errors.InvalidRequest as problem:
            if problem.code == TOO_MANY_IMAGES_CODE and len(images) > 1:
                first, second = _halves(images)
                return [
                    *self._add_by_reference(job_id, first, result),
                    *self._add_by_reference(job_id, second, result),
                ]
            missing = _rejected_names(problem, images)
            if missing:
                known = [image for image in images if image.name not in missing]
                to_upload = [image for image in images if image.name in missing]
                return [*to_upload, *self._add_by_reference(job_id, known, result)]
            if problem.code != UNKNOWN_BLOB_CODE:
                self._on_unsupported()
            return images
        result.accepted.extend(images)
        return ()

    def _upload_files(self, job_id: str, batch: Sequence[image_files.Image], result: UploadResult) -> None:
        if not batch:
            return
        try:
            result.jobs.append(self._client.add_images(job_id, batch))
            result.accepted.extend(batch)
        except errors.InvalidRequest as problem:
            if len(batch) == 1:
                image = batch[0]
                failure = run_manifest.FailedImage(image.name, problem.code, str(problem), image.size, image.mtime_ns)
                result.failures.append(failure)
                return
            for half in _halves(batch):
                self._upload_files(job_id, half, result)


def _rejected_names(problem: errors.ApiError, images: Sequence[image_files.Image]) -> set[str]:
    """Return the names of the images in the problem's `errors`: by `image`, else by `pointer`."""
    names = set()
    for error in problem.errors:
        pointer = IMAGE_POINTER.fullmatch(str(error.get("pointer") or ""))
        if error.get("image"):
            names.add(str(error["image"]))
        elif pointer and int(pointer[1][:9]) < len(images):
            names.add(images[int(pointer[1][:9])].name)
    return names & {image.name for image in images}


def _halves(
    images: Sequence[image_files.Image],
) -> tuple[Sequence[image_files.Image], Sequence[image_files.Image]]:
    middle = len(images) // 2
    return images[:middle], images[middle:]


def _load_images(batch: Sequence[image_files.Image], result: UploadResult) -> list[image_files.Image]:
    """Read the bytes once, so that a retried request sends the same ones."""
    loaded = []
    for image in batch:
        try:
            loaded.append(image.with_bytes())
        except errors.BadInput as problem:
            result.failures.append(run_manifest.FailedImage(image.name, problem.code, str(problem)))
    return loaded
