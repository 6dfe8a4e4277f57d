"""Model poller: follow the registry, report which versions this worker serves, and test new ones."""

import logging
import threading
from collections.abc import Callable

from core import errors
from core.broker import wakeup
from core.db import database
from core.db.queries import workers
from worker.models import model_manager

log = logging.getLogger(__name__)


class ModelPoller:
    """Refresh the models of a worker, and keep its row in the table of workers up to date."""

    def __init__(
        self,
        worker_id: str,
        db: database.Database,
        manager: model_manager.ModelManager,
        wakeup_sender: wakeup.WakeupSender,
    ) -> None:
        self._worker_id = worker_id
        self._db = db
        self._model_manager = manager
        self._wakeup_sender = wakeup_sender
        self._reported: object = None

    def start(self, poll_seconds: float, stop: threading.Event) -> None:
        """Poll once now, and then in a thread until the worker stops; test in another, since a test takes seconds."""
        self.poll()
        for name, step in (("models", self.poll), ("model tests", self.test)):
            threading.Thread(target=_repeat, args=(step, poll_seconds, stop), name=name, daemon=True).start()

    def poll(self) -> None:
        """Serve what the registry wants; report a change, and send a wake-up, since jobs may be waiting for it."""
        try:
            self._model_manager.refresh()
            state = (self._model_manager.serving(), self._model_manager.rejected())
            if state != self._reported:
                self._db.write(workers.update_models, self._worker_id, *state)
                self._reported = state
                self._wakeup_sender.send()
        except errors.DatabaseUnavailable as error:
            log.warning("the registry could not be polled; the served versions stay: %s", error.detail)
        except Exception:
            log.exception("the registry could not be polled; the served versions stay")

    def test(self) -> None:
        """Test a version that no worker has tested yet."""
        try:
            self._model_manager.test_next()
        except errors.DatabaseUnavailable as error:
            log.warning("no version could be tested; the next test follows: %s", error.detail)
        except Exception:
            log.exception("a version could not be tested; the next test follows")


def _repeat(step: Callable[[], None], seconds: float, stop: threading.Event) -> None:
    while not stop.wait(seconds):
        step()
