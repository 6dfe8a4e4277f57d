"""BentoML server: adaptive batches of images, decoded and classified in its workers."""

from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType

from benchmarks.peers import network


@bentoml.service(workers=network.setting("workers", 2), traffic={"timeout": 60, "max_concurrency": 256})
class ImageClassifier:
    """The service that each worker runs."""

    def __init__(self) -> None:
        self._network = network.Network()

    @bentoml.api(
        route="/predict",
        batchable=True,
        max_batch_size=network.setting("batch", 32),
        max_latency_ms=network.setting("latency_ms", 1000),
    )
    def predict(self, images: list[Annotated[Path, ContentType("image/jpeg")]]) -> list[dict[str, str]]:
        """Classify a batch."""
        pixels = [self._network.pixels(image.read_bytes()) for image in images]
        return [{"label": label} for label in self._network.labels(pixels)]
