"""Keeps the forward pass: a bundle on a device, pixels in, calibrated probabilities out."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

import torch

from model import blocks, devices, fused, graphs, inputs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from model.bundle import Bundle


class Classifier:
    """One network on one device.

    In float32 on a CPU with AVX-512 a picture's answer was the same to the last bit whatever its neighbours and its
    place in the batch; batches of 1 to 128 moved it by at most 9e-8, because other kernels add in another order. So
    four digits of a probability can be shown as the picture's own. On a GPU, in bfloat16,
    batches of 1 to 512 moved it by at most 1.1e-6.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", precision: str = "auto") -> None:
        """Puts a copy of the bundle's network on the device.

        Args:
            bundle: as `bundle.load` gives it; it stays as it is.
            device: "auto" (the GPU if there is one), "cpu", "cuda", "cuda:1" …
            precision: "float32", "bfloat16" or "auto": bfloat16 where the device multiplies matrices in it.

        Raises:
            ValueError: for a device or precision that is unknown or not here.
        """
        self.device = devices.named(device)
        self._dtype = devices.arithmetic(precision, self.device)
        self.precision = str(self._dtype).removeprefix("torch.")
        network = copy.deepcopy(bundle.network).to(self.device, self._dtype).eval()
        # With the copy in the bundle's place, whoever has no use for the original may drop it.
        self.bundle = dataclasses.replace(bundle, network=network)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stub
        self._network = fused.fused(network) if self.device.type == "cpu" else network
        self._normalise = inputs.Normalise(bundle.preprocess, self.device)
        self._ours = self._graphs = None
        if self.device.type == "cuda":
            if self._dtype == torch.bfloat16:
                self._ours = blocks.fast(bundle.network, bundle.preprocess, self.device)
            self._graphs = graphs.Graphs(self.forward, self.device)

    @torch.inference_mode()
    def classify(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities, float32 [N, classes], for uint8 pixels [N, height, width, 3] in RGB.

        Whatever the network gave comes back, NaN too: the caller judges. torch.OutOfMemoryError comes
        through, so that the caller can halve the batch.

        Raises:
            ValueError: for another shape or type.
        """
        self._check(pixels)
        if self._graphs is not None and len(pixels):
            return self._graphs.classify(pixels)
        probabilities: npt.NDArray[np.float32] = self.forward(torch.from_numpy(pixels).to(self.device)).cpu().numpy()
        return probabilities

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """The same for pixels that are on the device, as one pass, whose answers stay there."""
        if self._ours is not None:
            logits = self._ours(pixels)
        else:
            logits = self._network(self._normalise.pixels(pixels).to(self._dtype))
        return torch.softmax(logits.float() / self.bundle.temperature, dim=1)

    def _check(self, pixels: npt.NDArray[np.uint8]) -> None:
        expected = (self.bundle.preprocess.height, self.bundle.preprocess.width, 3)
        if pixels.ndim != 4 or pixels.shape[1:] != expected or pixels.dtype != "uint8":
            raise ValueError(f"pixels must be uint8 [N, {expected}], not {pixels.dtype} {pixels.shape}.")
