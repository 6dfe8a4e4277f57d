"""A model version loaded on this worker's device."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from core.db.queries import claims as claim_queries
from model.inference import classifier, selftest
from model.preprocessing import decode
from worker import inference


@dataclass(frozen=True)
class LoadedModel:
    """One version, loaded: its classifier, and the preprocessing that its images need."""

    model_ref: claim_queries.ModelRef
    batch_classifier: inference.BatchClassifier
    preprocess: decode.Preprocess

    @property
    def qualified_name(self) -> str:
        """Return NAME@VERSION."""
        return f"{self.model_ref.name}@{self.model_ref.version}"

    @property
    def network(self) -> classifier.Classifier:
        """Return the network on its device."""
        return cast("classifier.Classifier", self.batch_classifier.network)


def load_bundle(folder: Path, device: str) -> LoadedModel:
    """Load a bundle and run its self-test.

    Raises:
        manifest.InvalidBundle: it cannot be used.
    """
    loaded_classifier = selftest.load_verified(folder, device)
    loaded_bundle = loaded_classifier.bundle
    return LoadedModel(
        claim_queries.ModelRef(loaded_bundle.name, loaded_bundle.version, loaded_bundle.digest),
        inference.BatchClassifier(loaded_classifier),
        loaded_bundle.preprocess,
    )
