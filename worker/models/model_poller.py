"""Model poller: follow the registry, report which versions this worker serves, and test new ones."""

import threading

from core.broker import wakeup
from core.concurrency import periodic
from core.db import database
from core.db.queries import workers
from worker.models import model_manager


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
        periodic.run_once("models", self.poll)
        periodic.start("models", self.poll, poll_seconds, stop=stop)
        periodic.start("model tests", self._model_manager.test_next, poll_seconds, stop=stop)

    def poll(self) -> None:
        """Serve what the registry wants; report a change, and send a wake-up, since jobs may be waiting for it.

        Raises:
            errors.DatabaseUnavailable: the registry does not answer; the served versions stay.
        """
        self._model_manager.refresh()
        state = (self._model_manager.serving(), self._model_manager.rejected())
        if state != self._reported:
            self._db.write(workers.update_models, self._worker_id, *state)
            self._reported = state
            self._wakeup_sender.send()
