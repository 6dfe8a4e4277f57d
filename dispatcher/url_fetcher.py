"""URL fetcher: fetches the bytes of images that were submitted by URL, under the same rules as webhooks are sent.

A slow host delays at most half of the threads: no key gets more.
"""

import io
import logging

import httpcore
import sqlalchemy as sa

from core import errors, settings
from core.broker import wakeup
from core.db import database
from core.db.new_image import NewImage
from core.db.queries import quotas, url_fetches
from core.intake import admission, disk_share, header_check
from core.storage import factory
from core.webhooks import url_policy
from dispatcher import http_client, poller

CONCURRENCY = 6  # each holds an image in memory
CONCURRENCY_PER_OWNER = CONCURRENCY // 2
FETCH_TIMEOUT_SECONDS = 30.0  # for one attempt, in total
FETCH_FAILED = "fetch_failed"
STORE_RETRY_SECONDS = 60.0  # while images cannot be stored
DISPATCHER_LOST = "The dispatcher was lost during the last attempt; retry the job, or submit the image itself."
RETRYABLE_STATUSES = {408, 425, 429, 500, 502, 503, 504}

log = logging.getLogger(__name__)


class FetchFailed(Exception):
    """The bytes were not fetched; the message is one sentence for people."""

    def __init__(
        self,
        detail: str,
        *,
        is_final: bool,
        code: str = FETCH_FAILED,
        received: int = 0,
        retry_seconds: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.retry_seconds = retry_seconds
        """The delay of the next attempt; None: it doubles with each."""
        self.received = received
        """How many bytes arrived all the same."""
        self.is_final = is_final
        """Whether another attempt would fail too."""
        self.code = code


class UrlFetcher(poller.PollingLoop[url_fetches.Claim]):
    """The polling loop over due fetches."""

    def __init__(self, config: settings.Settings, db: database.Database) -> None:
        super().__init__("URLs", CONCURRENCY, db, url_fetches.has_due)
        self._settings = config
        self._default_quotas = admission.default_quotas(config)
        self._http_client = http_client.HttpClient(config.webhook_allow)
        self._blob_store = factory.open_blob_store(config.blob_store)
        self._disk_share = disk_share.DiskShare(db, self._blob_store)
        self._wakeup = wakeup.WakeupSender(config.redis_url)

    def _claim(self, conn: sa.Connection, limit: int) -> list[tuple[str, url_fetches.Claim]]:
        claims = url_fetches.claim(
            conn, limit=limit, max_per_owner=CONCURRENCY_PER_OWNER, in_flight=self._count_in_flight()
        )
        return [(claim.owner, claim) for claim in claims]

    def _describe(self, task: url_fetches.Claim) -> str:
        return f"fetching an image of job {task.job_id}"

    def _run_task(self, task: url_fetches.Claim) -> None:
        """Fetch one image, or record why not."""
        try:
            self._fetch_image(task)
        except FetchFailed as failure:
            log.info("%s, attempt %d: %s", self._describe(task), task.attempts, failure)
            self._charge(task.owner, failure.received)
            self._record_failure(task, failure)
        except errors.BlobsUnavailable as error:
            log.warning("%s is repeated: %s", self._describe(task), error.detail)
            # However often: that images cannot be stored is not the fault of their URLs.
            self._db.write(url_fetches.retry_later, task, seconds=STORE_RETRY_SECONDS, is_counted=False)

    def _fetch_image(self, claim: url_fetches.Claim) -> None:
        if claim.attempts > url_fetches.MAX_ATTEMPTS:
            raise FetchFailed(DISPATCHER_LOST, is_final=True)
        max_bytes = self._settings.max_image_bytes
        data = self._get(claim.url, max_bytes)
        image = header_check.prepare_image(claim.name, data, max_bytes=max_bytes, max_pixels=self._settings.max_pixels)
        if image.data is not None:
            self._put(claim.owner, image, image.data)
        self._charge(claim.owner, len(data))
        self._db.write(url_fetches.store, claim, image)
        self._wakeup.send()

    def _put(self, owner: str, image: NewImage, data: bytes) -> None:
        """Store fetched bytes, of a key that may still store as many.

        Raises:
            FetchFailed: the disk is nearly full, and the key stores more than its share.
            errors.ServiceUnavailable: the store, or the database, is full or does not answer.
        """
        try:
            self._disk_share.admit(owner, quotas.Load(1, len(data)))
        except errors.StoreFull:
            raise FetchFailed(
                "The image was fetched, but the disk for images is nearly full, and this key stores more than its "
                "equal share; delete jobs of this key, then retry this one.",
                is_final=False,
                received=len(data),
                retry_seconds=STORE_RETRY_SECONDS,
            ) from None
        self._blob_store.put([(image.sha256, data)])

    def _charge(self, owner: str, received: int) -> None:
        """Charge a key for the bytes that were fetched for it; what it owes delays its next submissions.

        A failure is logged: the image is not fetched again for it.
        """
        if not received:
            return
        try:
            loads = {owner: quotas.Load(bytes=received)}
            if loads := self._db.read(quotas.limited_loads, loads, self._default_quotas):
                self._db.write(quotas.charge_afterwards, loads, self._default_quotas)
        except errors.DatabaseUnavailable as error:
            log.warning("%d fetched bytes were not charged: %s", received, error.detail)

    def _record_failure(self, claim: url_fetches.Claim, failure: FetchFailed) -> None:
        if failure.is_final or claim.attempts >= url_fetches.MAX_ATTEMPTS:
            self._db.write(url_fetches.fail, claim, failure.code, str(failure))
        else:
            seconds = 2.0**claim.attempts if failure.retry_seconds is None else failure.retry_seconds
            self._db.write(url_fetches.retry_later, claim, seconds=seconds)

    def _get(self, url: str, max_bytes: int) -> bytes:
        """Return the body at a URL, without redirects or proxies.

        Raises:
            FetchFailed: there is none, or it is too large.
        """
        headers = {"Accept": "image/*", "Accept-Encoding": "identity"}
        try:
            with self._http_client.exchange("GET", url, headers, FETCH_TIMEOUT_SECONDS) as response:
                _check_status(response.status)
                return _read_body(response, max_bytes)
        except url_policy.DestinationForbidden as error:
            is_final = not isinstance(error, url_policy.NameServerUnavailable)
            raise FetchFailed(f"No image may be fetched from this URL: {error}.", is_final=is_final) from None
        except http_client.TIMEOUT_ERRORS:
            seconds = f"{FETCH_TIMEOUT_SECONDS:g} seconds"
            raise FetchFailed(f"The host of the URL did not send the image within {seconds}.", is_final=False) from None
        except http_client.CONNECTION_ERRORS as error:
            reason = f"{type(error).__name__} {error}"[:300]
            raise FetchFailed(
                f"The connection to the host of the URL failed, or its response was not HTTP: {reason}.", is_final=False
            ) from None


def _check_status(status: int) -> None:
    if not 200 <= status < 300:
        reason = "a redirect, which is not followed; submit the URL it leads to" if 300 <= status < 400 else "not 2xx"
        raise FetchFailed(
            f"The host of the URL responded with {status}, {reason}.", is_final=status not in RETRYABLE_STATUSES
        )


def _read_body(response: httpcore.Response, max_bytes: int) -> bytes:
    received = 0
    body = io.BytesIO()  # it returns its bytes without a copy of them
    for chunk in response.iter_stream():
        received += body.write(chunk)
        if received > max_bytes:
            detail = f"The file at the URL has more than {max_bytes:,} bytes, which is the maximum. Send a smaller one."
            raise FetchFailed(detail, is_final=True, code="too_large", received=received)
    return body.getvalue()
