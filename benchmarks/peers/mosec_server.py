"""mosec server: a stage that decodes and a stage that classifies batches, or one stage that does both."""

import sys

import mosec
import numpy as np
import numpy.typing as npt

from benchmarks.peers import network


class Decode(mosec.Worker):
    """Stage from bytes to pixels."""

    def __init__(self) -> None:
        super().__init__()
        self._network = network.Network()

    def deserialize(self, data: bytes) -> bytes:
        """Return the body, which is the image."""
        return data

    def forward(self, data: bytes) -> npt.NDArray[np.uint8]:
        """Decode one image."""
        return self._network.pixels(data)


class Classify(mosec.Worker):
    """Stage from pixels to labels, in batches."""

    def __init__(self) -> None:
        super().__init__()
        self._network = network.Network()

    def forward(self, data: list[npt.NDArray[np.uint8]]) -> list[dict[str, str]]:
        """Classify a batch."""
        return [{"label": label} for label in self._network.labels(data)]


class DecodeAndClassify(Classify):
    """Stage from bytes to labels, in batches."""

    def deserialize(self, data: bytes) -> bytes:
        """Return the body, which is the image."""
        return data

    def forward(self, data: list[bytes]) -> list[dict[str, str]]:  # type: ignore[override]  # the first stage gets bytes
        """Classify a batch."""
        return super().forward([self._network.pixels(jpeg) for jpeg in data])


if __name__ == "__main__":
    batch, wait = network.setting("batch", 32), network.setting("wait_ms", 5)
    workers, decoders = network.setting("workers", 1), network.setting("decoders", 2)
    sys.argv = ["mosec", "--address", "127.0.0.1", "--port", str(network.port()), "--timeout", "60000"]
    sys.argv += ["--log-level", "warning", "--max-request-size", "20000000"]
    server = mosec.Server()
    if decoders:
        server.append_worker(Decode, num=decoders)
    server.append_worker(
        Classify if decoders else DecodeAndClassify, num=workers, max_batch_size=batch, max_wait_time=wait
    )
    server.run()
