"""Worker runtime: everything that one worker process works with, opened once, and its background threads.

The wake-up listener runs the pipeline when a wake-up arrives; so does the Celery task `drain`. Three more threads run
beside them: the heartbeat, the model poller, and the idle poll, which runs the pipeline if no wake-up arrives, so that
work goes on without Redis.
"""

import logging
import os
import secrets
import socket
import threading
import time

import sqlalchemy as sa

from core import errors, settings
from core.broker import job_events, wakeup, wakeup_listener
from core.db import database
from core.db.queries import environments, installation, workers
from core.sources import catalog
from core.storage import factory
from worker import heartbeat, pid_namespace, pipeline, runtime_info, shadow_runner
from worker.decoding import decoder_pool, decoder_process
from worker.models import model_manager, model_poller

log = logging.getLogger(__name__)
DATABASE_WAIT_SECONDS = 30.0  # at the start


class WorkerRuntime:
    """One worker process: its models, decoders, pipeline and threads."""

    def __init__(self, worker_settings: settings.Settings) -> None:
        """Load the default model, start the decoders, register the worker, start the threads.

        Raises:
            model.packaging.manifest.InvalidBundle: the default bundle cannot be used.
            errors.DatabaseUnavailable: the database does not answer, or is not migrated.
        """
        self.settings = worker_settings
        self.id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self.db = database.Database(worker_settings.database_url)
        self._wakeup_sender = wakeup.WakeupSender(worker_settings.redis_url)
        store = factory.open_blob_store(worker_settings.blob_store)
        self.model_manager = model_manager.ModelManager(worker_settings, self.db, store, self.id)
        limits = decoder_process.DecodeLimits(
            worker_settings.decode_seconds,
            worker_settings.decode_memory_bytes,
            max_pixels=worker_settings.max_pixels,
        )
        self.decoder_pool = decoder_pool.DecoderPool(
            worker_settings.decoder_processes, self.model_manager.default_model.preprocess, store, limits
        )
        environment = runtime_info.describe_environment(self.model_manager.default_model.network)
        environment_id, notice_key = self._register_with_retry(environment)
        source_catalog = catalog.SourceCatalog.parse(worker_settings.sources)
        self._shadow_runner = shadow_runner.ShadowRunner(self.db, self.model_manager, store, limits, source_catalog)
        self.pipeline = pipeline.BatchPipeline(
            worker_settings,
            self.id,
            self.db,
            self._wakeup_sender,
            self.decoder_pool,
            self.model_manager,
            self._shadow_runner,
            job_events.JobEvents(worker_settings.redis_url, notice_key),
            environment_id,
            environment,
        )
        self._stop = threading.Event()
        self._start_threads()
        log.info("worker %s serves %s", self.id, self.model_manager.serving())

    @property
    def is_stopping(self) -> bool:
        """Return whether `stop` was called."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Claim no new batch; the claimed ones are finished or handed back."""
        self._stop.set()
        self.pipeline.stop()
        log.info("worker %s stops: it finishes the current batch", self.id)

    def close(self) -> None:
        """Stop, wait for the current batch, end the threads and the decoders, and unregister the worker."""
        self.stop()
        self.pipeline.close()
        self._shadow_runner.close()
        self._heartbeat.close()
        self.decoder_pool.close()
        try:
            self.db.write(workers.unregister, self.id)
        except errors.DatabaseUnavailable as error:
            log.warning("the worker could not be unregistered: %s", error.detail)

    def _start_threads(self) -> None:
        self._heartbeat = heartbeat.Heartbeat(
            self.settings,
            self.id,
            self.db,
            self._wakeup_sender,
            self.decoder_pool,
            self.model_manager,
            self.pipeline,
            self._stop,
        )
        poller = model_poller.ModelPoller(self.id, self.db, self.model_manager, self._wakeup_sender)
        poller.start(self.settings.model_poll_seconds, self._stop)
        threading.Thread(target=self._idle_poll_loop, name="idle poll", daemon=True).start()
        wakeup_listener.WakeupListener(self.settings.redis_url, self._run_pipeline).start(self._stop)

    def _register_with_retry(self, environment: environments.Environment) -> tuple[int, bytes]:
        """Register the worker; return the id of its environment, and the key of notices.

        Wait for a database that is starting or migrating.
        """
        deadline = time.monotonic() + DATABASE_WAIT_SECONDS
        while True:
            try:
                return self.db.write(self._register, environment)
            except errors.DatabaseUnavailable:
                if time.monotonic() > deadline:
                    self.decoder_pool.close()
                    raise
                time.sleep(0.1)

    def _register(self, conn: sa.Connection, environment: environments.Environment) -> tuple[int, bytes]:
        default_model = self.model_manager.default_model
        network = default_model.network
        workers.register(
            conn,
            self.id,
            default_model.model_ref,
            f"{network.device}, {network.precision}",
            pid=os.getpid(),
            pid_namespace=pid_namespace.name(),
        )
        self.model_manager.register_default(conn)
        return environments.get_or_create_id(conn, environment), installation.get_or_create_id(conn).encode()

    def _idle_poll_loop(self) -> None:
        """Run the pipeline whenever it has been idle for a while."""
        poll_seconds = self.settings.idle_poll_seconds
        while not self._stop.wait(poll_seconds):
            if self.pipeline.monitor.seconds_since_end() >= poll_seconds:
                self._run_pipeline()

    def _run_pipeline(self) -> None:
        try:
            self.pipeline.run()
        except Exception:
            log.exception("a run failed; the next one follows")
