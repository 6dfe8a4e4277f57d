"""Model manager: keep each model loaded at the version that the registry wants, and swap versions between batches.

One thread polls the registry, and loads and tests new versions; the pipeline gets the current version for each batch. A
batch keeps the version that it began with.
"""

import collections
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa

from core import errors, settings
from core.db import database
from core.db.queries import model_tests, models
from core.storage import base
from model.packaging import manifest
from worker.models import bundle_cache, loaded_model, model_process

log = logging.getLogger(__name__)
SHADOW_NICENESS = 10


class ModelManager:
    """Which version of each model this worker serves, and the versions that it has loaded."""

    def __init__(
        self, worker_settings: settings.Settings, db: database.Database, store: base.BlobStore, worker_id: str
    ) -> None:
        """Load the default model of the settings.

        Raises:
            manifest.InvalidBundle: its bundle cannot be used.
        """
        self._settings = worker_settings
        self._db = db
        self._worker_id = worker_id
        self._cache = bundle_cache.BundleCache(worker_settings.model_cache, store)
        self._lock = threading.Lock()
        self._test_lock = threading.Lock()
        self._loaded: collections.OrderedDict[models.Version, loaded_model.LoadedModel] = collections.OrderedDict()
        self._serving: dict[str, models.Version] = {}
        self._shadows: Mapping[str, Sequence[models.Version]] = {}
        self._rejected: dict[models.Version, str] = {}
        self.default_model = loaded_model.load_bundle(worker_settings.default_bundle, worker_settings.device)
        """The model of the settings, served until another version is promoted."""
        self._default_is_registered = False

    def register_default(self, conn: sa.Connection) -> None:
        """Add the default model to the registry, within the caller's transaction."""
        manifest_text = (self._settings.default_bundle / manifest.MANIFEST_FILE).read_text("utf-8")
        self._default_is_registered = models.register_bundled(conn, json.loads(manifest_text))
        if not self._default_is_registered:
            log.error(
                "the registry's %s differs from the bundle in %s: the registry's is served",
                self.default_model.qualified_name,
                self._settings.default_bundle,
            )

    def model_names(self) -> list[str]:
        """Return the names of the models that are served."""
        return sorted(name for name, version in self._serving.items() if version not in self._rejected)

    def serving(self) -> dict[str, str]:
        """Return the version served of each model: {name: version}."""
        return {name: version.version for name, version in sorted(self._serving.items())}

    def rejected(self) -> dict[str, str]:
        """Return the versions that should be served but cannot be used: {name@version: reason}."""
        return {version.qualified_name: reason for version, reason in self._rejected.items()}

    def shadow_versions(self, name: str) -> Sequence[models.Version]:
        """Return the versions that classify a share of a model's images beside the live one."""
        return [version for version in self._shadows.get(name, []) if version not in self._rejected]

    def get(self, model_name: str) -> loaded_model.LoadedModel:
        """Return the version of a model for the next batch; load it again if it was evicted.

        Raises:
            errors.ServiceUnavailable: its bundle cannot be fetched now.
            manifest.InvalidBundle: its bundle cannot be used any more.
        """
        return self.load(self._serving[model_name])

    def load(self, version: models.Version) -> loaded_model.LoadedModel:
        """Return a version, loaded if necessary; remember one that cannot be used as rejected.

        Raises:
            errors.ServiceUnavailable: its bundle cannot be fetched now.
            manifest.InvalidBundle: it cannot be used.
        """
        with self._lock:
            already_loaded = self._loaded.pop(version, None)
        try:
            loaded = already_loaded or self._load(version)
        except errors.ServiceUnavailable:
            raise
        except Exception as error:
            reason = str(error) or type(error).__name__
            self.reject(version, reason)
            is_expected = isinstance(error, manifest.InvalidBundle)
            log.error("%s is rejected: %s", version.qualified_name, reason, exc_info=not is_expected)
            raise manifest.InvalidBundle(reason) from error
        with self._lock:
            self._loaded[version] = loaded
            while len(self._loaded) > self._settings.max_loaded_models:
                self._loaded.popitem(last=False)
        return loaded

    def refresh(self) -> None:
        """Serve the versions that the registry wants; where one cannot be used, serve the one promoted before it.

        Raises:
            errors.DatabaseUnavailable: the registry does not answer; the served versions stay.
        """
        for name in self._db.write(model_tests.fail_versions_of_lost_workers):
            log.error(
                "%s is blocked because workers were lost while testing or loading it; "
                "`sortbelt models promote --force` unblocks it",
                name,
            )
        desired = self._db.read(models.desired_versions)
        groups = (*desired.live.values(), *desired.shadows.values())
        tested_at = {version: version.tested_at for group in groups for version in group}
        with self._lock:
            self._rejected = {
                version: reason
                for version, reason in self._rejected.items()
                if version in tested_at and version.tested_at == tested_at[version]  # else it has another chance
            }
        for name, versions in desired.live.items():
            self._switch_version(name, versions)
        self._shadows = desired.shadows

    def test_next(self) -> None:
        """Test the oldest version that no worker has tested yet and that can be fetched, so that it can be promoted."""
        for version in self._db.read(model_tests.list_untested, self._worker_id):
            try:
                self._test(version)
            except errors.ServiceUnavailable as error:
                log.warning("%s is not tested: %s", version.qualified_name, error)
                continue
            except manifest.InvalidBundle as error:
                log.error("%s cannot be used: %s", version.qualified_name, error)
            return

    def start_process(self, version: models.Version) -> model_process.ModelProcess:
        """Load a version into a process of its own; remember one that cannot be used as rejected.

        Raises:
            errors.ServiceUnavailable: its bundle cannot be fetched now.
            manifest.InvalidBundle: it cannot be used.
        """
        try:
            if version.test_error is not None:
                raise manifest.InvalidBundle(version.test_error)  # noqa: TRY301 (rejected like the others)
            folder, memory_bytes = self._folder(version), self._settings.model_memory_bytes
            return model_process.ModelProcess(folder, memory_bytes, SHADOW_NICENESS)
        except manifest.InvalidBundle as error:
            self.reject(version, str(error))
            raise

    def reject(self, version: models.Version, reason: str) -> None:
        """Remember that a version cannot be used."""
        with self._lock:
            self._rejected = {**self._rejected, version: reason}

    def _folder(self, version: models.Version) -> Path:
        if version.files is None:
            if self._default_is_registered and _matches(version, self.default_model):
                return self._settings.default_bundle
            raise manifest.InvalidBundle(
                f"{version.qualified_name} was bundled with other workers and is missing in SORTBELT_BUNDLES here: "
                "add it with `sortbelt models add`."
            )
        return self._cache.path_for(version.files)

    def _test(self, version: models.Version) -> None:
        """Load and test a version in a process of its own, noted before and after, so that all workers know.

        Raises:
            errors.ServiceUnavailable: its bundle cannot be fetched now, or another worker is testing it.
            manifest.InvalidBundle: it cannot be used.
        """
        try:
            folder = self._folder(version)
        except manifest.InvalidBundle as error:  # recorded: it would else be the next one again, before all later ones
            self._db.write(model_tests.end, self._worker_id, version.id, str(error))
            raise
        with self._test_lock:
            if not self._db.write(model_tests.begin, self._worker_id, version.id):
                raise errors.ServiceUnavailable("It has just been tested, or another worker is testing it.")
            try:
                model_process.ModelProcess(folder, self._settings.model_memory_bytes).close()
            except manifest.InvalidBundle as error:
                self._db.write(model_tests.end, self._worker_id, version.id, str(error))
                raise
            except BaseException:
                self._db.write(model_tests.end_loading, self._worker_id, version.id)
                raise
            self._db.write(model_tests.end, self._worker_id, version.id, None)

    def _switch_version(self, name: str, versions: Sequence[models.Version]) -> None:
        """Serve the first of these versions that can be used; until it is loaded, the current one stays."""
        current = self._serving.get(name)
        for version in versions:
            try:
                if version != current and version not in self._rejected:
                    self.load(version)
                    log.info(
                        "serving %s instead of %s",
                        version.qualified_name,
                        current.qualified_name if current else "no version",
                    )
            except errors.ServiceUnavailable as error:
                log.warning("%s cannot be fetched yet: %s", version.qualified_name, error.detail)
                return
            except manifest.InvalidBundle:
                continue
            if version not in self._rejected:
                self._serving = {**self._serving, name: version}
                return

    def _load(self, version: models.Version) -> loaded_model.LoadedModel:
        if self._default_is_registered and _matches(version, self.default_model):
            return self.default_model
        if version.test_error is not None:
            raise manifest.InvalidBundle(version.test_error)
        if version.files is not None and version.tested_at is None:  # it was promoted by force
            self._test(version)
        loaded = self._load_bundle(version)
        if not _matches(version, loaded):
            raise manifest.InvalidBundle(
                f"The files of {version.qualified_name} are those of {loaded.qualified_name}: add it again."
            )
        return loaded

    def _load_bundle(self, version: models.Version) -> loaded_model.LoadedModel:
        """Load a version in this process, noted meanwhile: what passes its test may still kill a worker."""
        folder = self._folder(version)
        self._db.write(model_tests.begin_loading, self._worker_id, version.id)
        try:
            return loaded_model.load_bundle(folder, self._settings.device)
        finally:
            self._db.write(model_tests.end_loading, self._worker_id, version.id)


def _matches(version: models.Version, loaded: loaded_model.LoadedModel) -> bool:
    model_ref = loaded.model_ref
    return (version.name, version.version, version.digest) == (model_ref.name, model_ref.version, model_ref.digest)
