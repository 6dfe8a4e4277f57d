"""LitServe server: batches of raw images, decoded and classified in its workers."""

from typing import Annotated

import fastapi
import litserve
import numpy as np
import numpy.typing as npt

from benchmarks.peers import network


class ImageClassifierApi(litserve.LitAPI):
    """The API that each worker runs."""

    def setup(self, device: str) -> None:  # noqa: ARG002 (only the CPU is used)
        """Load the network."""
        self._network = network.Network()

    def decode_request(self, request: Annotated[bytes, fastapi.Body()]) -> npt.NDArray[np.uint8]:
        """Decode one image."""
        return self._network.pixels(request)

    def batch(self, inputs: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
        """Return them unchanged: the network takes a list."""
        return inputs

    def predict(self, x: list[npt.NDArray[np.uint8]]) -> list[str]:
        """Classify a batch."""
        return self._network.labels(x)

    def unbatch(self, output: list[str]) -> list[str]:
        """Return them unchanged: the network takes a list."""
        return output

    def encode_response(self, output: str) -> dict[str, str]:
        """Shape one response."""
        return {"label": output}


if __name__ == "__main__":
    api = ImageClassifierApi(
        max_batch_size=network.setting("batch", 32), batch_timeout=network.setting("wait_ms", 5) / 1000
    )
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=network.setting("workers", 2), fast_queue=True, timeout=60
    )
    server.run(
        host="127.0.0.1",
        port=network.port(),
        num_api_servers=network.setting("servers", 1),
        generate_client_file=False,
        log_level="warning",
    )
