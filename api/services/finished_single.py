"""Rows of a finished single image, made from its notice: the same that a read of the database returns."""

from typing import Any

from core import enums
from core.broker import job_notice


class FinishedJob:
    """The row of a job with its only image finished; attributes as of `jobs.get`.

    Args:
        row: the job as it was read before.
        notice: what has changed.
    """

    def __init__(self, row: Any, notice: job_notice.JobNotice) -> None:
        is_done = notice.result["status"] == enums.Status.DONE
        self._row = row
        self.status = notice.result["status"]
        self.running, self.done, self.failed = 0, int(is_done), int(not is_done)
        self.started_at, self.finished_at = notice.started_at, notice.finished_at
        self.result = FinishedResult(row, notice)
        """The row of its result."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._row, name)


class FinishedResult:
    """The row of a result without a review; attributes as of `results.list_page`."""

    def __init__(self, job_row: Any, notice: job_notice.JobNotice) -> None:
        self.__dict__.update(notice.result)
        self.owner = job_row.owner
        self.review_verdict = None
