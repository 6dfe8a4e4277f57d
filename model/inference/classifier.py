"""Run a bundle's network on a device: uint8 pixels in, calibrated probabilities out."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from model.inference import cpu_fusion, cuda_graphs, devices, familiarity
from model.networks import heads
from model.packaging import manifest
from model.preprocessing import normalize

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from model.packaging.bundle import Bundle

# A CPU runs a batch in chunks of so many pixels, whose features stay in its cache: 5 images of 224 x 224.
CPU_CHUNK_PIXELS = 2**18


class Scores(NamedTuple):
    """Probabilities, float32 [N, classes], and the familiarity, float32 [N], if the bundle has its reference."""

    probabilities: npt.NDArray[np.float32]
    familiarity: npt.NDArray[np.float32] | None


def concatenate(parts: Sequence[Scores]) -> Scores:
    """Join the scores of the parts of a batch."""
    familiarities = [part.familiarity for part in parts if part.familiarity is not None]
    probabilities = np.concatenate([part.probabilities for part in parts])
    return Scores(probabilities, np.concatenate(familiarities) if familiarities else None)


class Classifier:
    """One network on one device.

    On a CPU with AVX-512, in float32, an image's probabilities do not depend on the other images of its batch or on
    its position. The batch size does change them, because other kernels add in another order: by at most 9e-8 between
    batches of 1 and 128. Four digits of a probability are therefore stable.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", precision: str = "auto") -> None:
        """Copy the bundle's network to the device.

        Args:
            bundle: as returned by `bundle.load`; not modified.
            device: "auto" (the GPU if there is one), "cpu", "cuda", "cuda:1" …
            precision: "float32", "bfloat16", or "auto": bfloat16 if the device has instructions for it.

        Raises:
            InvalidBundle: network and familiarity do not fit.
            ValueError: the device or the precision is unknown or not available.
        """
        self.device = devices.resolve_device(device)
        self._dtype = devices.resolve_dtype(precision, self.device)
        self.precision = str(self._dtype).removeprefix("torch.")
        network = copy.deepcopy(bundle.network).to(self.device).eval()
        # Refer to the copy, so that the caller's bundle can be freed.
        self.bundle = dataclasses.replace(bundle, network=network)
        self._familiarity = None
        if bundle.familiarity:
            width = heads.expose_features(network, len(bundle.labels))
            if width != bundle.familiarity.references.shape[1]:
                problem = f"its photos have {bundle.familiarity.references.shape[1]} features, and its network {width}"
                raise manifest.InvalidBundle(f"The bundle {bundle.name} is damaged, {problem}: get it again.")
            self._familiarity = familiarity.FamiliarityScorer(bundle.familiarity, self.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stub
        self._network, self._graph_runner = network, None
        if self.device.type == "cpu":
            self._network = cpu_fusion.fuse(network, self._dtype)
        elif self.device.type == "cuda":
            network.to(self._dtype)
            dense_layers_to_float32(network)
            self._graph_runner = cuda_graphs.CudaGraphRunner(self.forward, self.device)
        self._normalizer = normalize.Normalize(bundle.preprocess, self.device)

    @property
    def labels(self) -> Sequence[str]:
        """The labels in the order of the outputs."""
        return self.bundle.labels

    @property
    def is_on_cpu(self) -> bool:
        """Whether it computes on CPU cores."""
        return self.device.type == "cpu"

    def classify(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the probabilities only; see `score`."""
        return self.score(pixels).probabilities

    @torch.inference_mode()
    def score(self, pixels: npt.NDArray[np.uint8]) -> Scores:
        """Return probabilities and familiarity for uint8 RGB pixels [N, height, width, 3].

        The output is not checked: it may hold NaN.

        Raises:
            ValueError: the pixels have another shape or type.
            torch.OutOfMemoryError: the batch is too large for the device.
        """
        self._check_pixels(pixels)
        outputs: npt.NDArray[np.float32]
        if self._graph_runner is not None and len(pixels):
            outputs = self._graph_runner.classify(pixels)
        else:
            chunk_size = max(1, CPU_CHUNK_PIXELS // (pixels.shape[1] * pixels.shape[2]))
            chunks = torch.split(torch.from_numpy(pixels).to(self.device), chunk_size)
            outputs = torch.cat([self.forward(chunk) for chunk in chunks]).cpu().numpy()
        count = len(self.bundle.labels)
        return Scores(outputs[:, :count], outputs[:, count] if self._familiarity else None)

    def unknown(self, count: int) -> Scores:
        """Return scores of NaN for `count` images."""
        probabilities = np.full((count, len(self.bundle.labels)), np.nan, np.float32)
        return Scores(probabilities, probabilities[:, 0] if self._familiarity else None)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return probabilities on the device for pixels that are on the device; with the familiarity, if there is one.

        It is one tensor, float32 [N, classes] or [N, classes + 1], because a CUDA graph has one output.
        """
        outputs = self._network(self._normalizer.from_uint8(pixels).to(self._dtype)).float()
        count = len(self.bundle.labels)
        probabilities = torch.softmax(outputs[:, :count] / self.bundle.temperature, dim=1)
        if self._familiarity is None:
            return probabilities
        return torch.cat([probabilities, self._familiarity(outputs[:, count:])[:, None]], dim=1)

    def _check_pixels(self, pixels: npt.NDArray[np.uint8]) -> None:
        expected = (self.bundle.preprocess.height, self.bundle.preprocess.width, 3)
        if pixels.ndim != 4 or pixels.shape[1:] != expected or pixels.dtype != "uint8":
            raise ValueError(f"pixels must be uint8 [N, {expected}], not {pixels.dtype} {pixels.shape}.")


def dense_layers_to_float32(network: nn.Module) -> None:
    """Compute the layers after a `Flatten` in float32, in place.

    A GPU chooses the kernel of a dense layer by the batch size. Rounded to bfloat16, its different orders of addition
    could change the third digit of a probability.
    """
    for layers in [layers for layers in network.modules() if isinstance(layers, nn.Sequential)]:
        for index, layer in enumerate(layers):
            if isinstance(layer, nn.Flatten):
                layer.register_forward_hook(lambda _layer, _inputs, output: output.float())
                for dense_layer in list(layers)[index + 1 :]:
                    dense_layer.float()
