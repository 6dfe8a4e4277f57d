"""The shelf: the models that a worker serves, loaded, each at the version that the registry wants.

One thread looks at the registry now and then and puts new versions on the shelf, when they are loaded and tested;
another takes them from there, batch by batch. A batch keeps the version that it has begun with.
"""

import collections
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from jobs import blobs, database, errors, settings
from jobs.store import models, work
from model import bundle, classifier, manifest, preprocess, selftest
from worker import cache, classify

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """One version, loaded: it makes results, by its judge, of pixels of its kind."""

    maker: work.Maker
    judge: classify.Judge
    how: preprocess.Preprocess


def load(folder: Path, device: str) -> Served:
    """A bundle, loaded and tested.

    Raises:
        manifest.BadBundle: it cannot be used.
    """
    network = classifier.Classifier(bundle.load(folder), device)
    selftest.check(network)
    made = network.bundle
    return Served(work.Maker(made.name, made.version, made.digest), classify.Judge(network), made.preprocess)


class Shelf:
    """What is served now, by the names of the models."""

    def __init__(self, wanted: settings.Settings, db: database.Database, store: blobs.Blobs) -> None:
        """Load the model of the settings.

        Raises:
            manifest.BadBundle: its bundle cannot be used.
        """
        self._settings = wanted
        self._db = db
        self._cache = cache.Cache(wanted.model_cache, store)
        self._lock = threading.Lock()
        self._held: collections.OrderedDict[models.Version, Served] = collections.OrderedDict()
        self._serving: dict[str, models.Version] = {}
        self._shadows: Mapping[str, Sequence[models.Version]] = {}
        self._refused: dict[models.Version, str] = {}
        self.own = load(wanted.bundle, wanted.device)
        """The model of the settings, that is served until another version is promoted."""
        self._own_is_registered = False

    def settle(self, c: sa.Connection) -> None:
        """Enter the model of the settings in the registry, in a transaction of somebody else's."""
        text = (self._settings.bundle / manifest.FILE).read_text("utf-8")
        self._own_is_registered = models.settle(c, json.loads(text))
        if not self._own_is_registered:
            at = f"{self.own.maker.name}@{self.own.maker.version}"
            log.error("The registry's %s is another than that in %s, and is what counts.", at, self._settings.bundle)

    def names(self) -> list[str]:
        """The models of which a version is served."""
        return sorted(name for name, version in self._serving.items() if version not in self._refused)

    def serves(self) -> dict[str, str]:
        """The version that is served of each model."""
        return {name: version.version for name, version in sorted(self._serving.items())}

    def refuses(self) -> dict[str, str]:
        """The versions that should be served and cannot, with the reason."""
        return {version.title: reason for version, reason in self._refused.items()}

    def shadows(self, name: str) -> Sequence[models.Version]:
        """The versions that judge a share of a model's pictures beside the live one."""
        return [version for version in self._shadows.get(name, []) if version not in self._refused]

    def take(self, name: str) -> Served:
        """The version of a model that is to answer the next batch.

        Raises:
            errors.Unavailable: it has to be loaded again, and cannot be got at.
            manifest.BadBundle: it has to be loaded again, and cannot be used any more.
        """
        return self.open(self._serving[name])

    def open(self, version: models.Version) -> Served:
        """A version, loaded if it is not; one that cannot be used is remembered as refused.

        Raises:
            errors.Unavailable: it cannot be got at.
            manifest.BadBundle: it cannot be used.
        """
        with self._lock:
            held = self._held.pop(version, None)
        try:
            served = held or self._load(version)
        except errors.Unavailable:
            raise
        except Exception as error:
            reason = str(error) or type(error).__name__
            self._refused = {**self._refused, version: reason}
            foreseen = isinstance(error, manifest.BadBundle)
            log.error("%s is refused: %s", version.title, reason, exc_info=not foreseen)
            raise manifest.BadBundle(reason) from error
        with self._lock:
            self._held[version] = served
            while len(self._held) > self._settings.models_held:
                self._held.popitem(last=False)
        return served

    def refresh(self) -> None:
        """Put on the shelf what the registry wants; what cannot be used is passed over for the version before it.

        Raises:
            errors.DatabaseUnavailable: the registry does not answer; what is served stays.
        """
        wanted = self._db.read(models.wanted)
        named = {version for some in (*wanted.live.values(), *wanted.shadows.values()) for version in some}
        self._refused = {version: reason for version, reason in self._refused.items() if version in named}
        for name, versions in wanted.live.items():
            self._follow(name, versions)
        self._shadows = wanted.shadows

    def _follow(self, name: str, versions: Sequence[models.Version]) -> None:
        """Serve the first of these versions that can be used; the one before serves until it is ready."""
        now = self._serving.get(name)
        for version in versions:
            try:
                if version != now and version not in self._refused:
                    self.open(version)
                    log.info("serves %s from now on, %s before", version.title, now.title if now else "nothing")
            except errors.Unavailable as error:
                log.warning("%s cannot be fetched yet: %s", version.title, error.detail)
                return
            except manifest.BadBundle:
                continue
            if version not in self._refused:
                self._serving = {**self._serving, name: version}
                return

    def _load(self, version: models.Version) -> Served:
        if self._own_is_registered and _is(version, self.own):
            return self.own
        if version.files is None:
            raise manifest.BadBundle(f"{version.title} comes with other workers, and this one has no such bundle.")
        served = load(self._cache.folder(version.files), self._settings.device)
        if not _is(version, served):
            raise manifest.BadBundle(f"The files of {version.title} are of {served.maker.name}@{served.maker.version}.")
        return served


def _is(version: models.Version, served: Served) -> bool:
    maker = served.maker
    return (version.name, version.version, version.digest) == (maker.name, maker.version, maker.digest)
