"""BentoML: an adaptive batch of pictures, decoded and classified in its workers."""

from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType

from bench.peers import network


@bentoml.service(workers=network.setting("workers", 2), traffic={"timeout": 60, "max_concurrency": 256})
class Photos:
    """One worker."""

    def __init__(self) -> None:
        self._network = network.Network()

    @bentoml.api(
        route="/predict",
        batchable=True,
        max_batch_size=network.setting("batch", 32),
        max_latency_ms=network.setting("latency_ms", 1000),
    )
    def predict(self, pictures: list[Annotated[Path, ContentType("image/jpeg")]]) -> list[dict[str, str]]:
        """A batch."""
        pixels = [self._network.pixels(picture.read_bytes()) for picture in pictures]
        return [{"label": label} for label in self._network.labels(pixels)]
