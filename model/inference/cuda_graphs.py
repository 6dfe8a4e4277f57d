"""Run a forward pass on a GPU as CUDA graphs, with two batches in flight through pinned memory.

Launching a graph is one call, while the kernels of a small network would wait for Python. A graph has a fixed batch
size, so a batch is padded to the next power of two; every row is computed independently, and the padding is dropped.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import queue
import threading
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Forward = Callable[[torch.Tensor], torch.Tensor]

log = logging.getLogger(__name__)
MAX_GRAPH_BATCH = 1024  # images; a larger batch is split
MAX_IN_FLIGHT = 2
_capture_lock = threading.Lock()  # two captures in different threads must not overlap


def bucket_size(count: int) -> int:
    """Return the batch size of the graph for `count` images: the next power of two."""
    return 1 << max(0, count - 1).bit_length()


@dataclasses.dataclass(frozen=True)
class _Graph:
    """The graph of one batch size, with its input and output memory on the device and in pinned host memory."""

    graph: torch.cuda.CUDAGraph
    pinned_pixels: torch.Tensor
    pixels: torch.Tensor
    outputs: torch.Tensor
    pinned_outputs: torch.Tensor


@dataclasses.dataclass(frozen=True)
class Pending:
    """A batch in flight. Call `result` exactly once: it frees the slot."""

    slot: _Slot
    graph: _Graph
    count: int
    done_event: torch.cuda.Event

    def result(self) -> npt.NDArray[np.float32]:
        """Wait for the batch and return probabilities [N, classes]."""
        try:
            self.done_event.synchronize()
            probabilities: npt.NDArray[np.float32] = self.graph.pinned_outputs[: self.count].numpy().copy()
            return probabilities
        finally:
            self.slot.release()


class CudaGraphRunner:
    """A forward pass on one GPU, from uint8 pixels [N, H, W, 3] to float32 probabilities [N, classes].

    Graphs are captured when their batch size first occurs.
    """

    def __init__(self, forward: Forward, device: torch.device) -> None:
        self._forward = forward
        self._device = device
        self._free_slots: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for _ in range(MAX_IN_FLIGHT):
            self._free_slots.put(_Slot(forward, device, self._free_slots))
        self.disabled_reason = ""
        """Why graphs are not used any more; empty while they are."""

    def classify(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return probabilities for host pixels [N, H, W, 3] with N >= 1. Thread-safe.

        Raises:
            torch.OutOfMemoryError: the batch is too large for the GPU.
        """
        if not self.disabled_reason:
            try:
                return self._run_pipelined(pixels)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                # A network with data-dependent control flow cannot be captured, but it still runs.
                self.disabled_reason = str(error).splitlines()[0]
                log.warning("the network runs without CUDA graphs: %s", self.disabled_reason)
        return self._run_eager(pixels)

    def submit(self, pixels: npt.NDArray[np.uint8], *, wait: bool = True) -> Pending:
        """Start a batch of at most `MAX_GRAPH_BATCH` images when a slot is free.

        Raises:
            queue.Empty: both slots are in use, and `wait` is false.
        """
        slot = self._free_slots.get(block=wait)
        try:
            return slot.submit(pixels)
        except BaseException:
            slot.release()
            raise

    def _run_pipelined(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Split a batch into chunks and start each before waiting for the one before it."""
        results: list[npt.NDArray[np.float32]] = []
        in_flight: collections.deque[Pending] = collections.deque()
        try:
            for start in range(0, len(pixels), MAX_GRAPH_BATCH):
                chunk = pixels[start : start + MAX_GRAPH_BATCH]
                try:
                    in_flight.append(self.submit(chunk, wait=not in_flight))
                except queue.Empty:  # waiting here while holding a slot could deadlock with another thread
                    results.append(in_flight.popleft().result())
                    in_flight.append(self.submit(chunk))
                if len(in_flight) == MAX_IN_FLIGHT:
                    results.append(in_flight.popleft().result())
            results += [pending.result() for pending in _popped(in_flight)]
        finally:
            for pending in _popped(in_flight):
                pending.result()
        return results[0] if len(results) == 1 else np.concatenate(results)

    @torch.inference_mode()
    def _run_eager(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        probabilities: npt.NDArray[np.float32] = self._forward(torch.from_numpy(pixels).to(self._device)).cpu().numpy()
        return probabilities


def _popped(in_flight: collections.deque[Pending]) -> Iterator[Pending]:
    while in_flight:
        yield in_flight.popleft()


class _Slot:
    """One batch in flight: a stream, and graphs that share working memory because only one of them runs at a time."""

    def __init__(self, forward: Forward, device: torch.device, free_slots: queue.SimpleQueue[_Slot]) -> None:
        self._forward = forward
        self._device = device
        self._free_slots = free_slots
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[int, _Graph] = {}

    def release(self) -> None:
        """Make the slot available for another batch."""
        self._free_slots.put(self)

    @torch.inference_mode()
    def submit(self, pixels: npt.NDArray[np.uint8]) -> Pending:
        size, count = bucket_size(len(pixels)), len(pixels)
        graph = self._graphs.get(size) or self._capture(size, pixels.shape[1:])
        graph.pinned_pixels[:count].numpy()[:] = pixels
        with torch.cuda.stream(self._stream):
            graph.pixels[:count].copy_(graph.pinned_pixels[:count], non_blocking=True)
            graph.graph.replay()
            graph.pinned_outputs[:count].copy_(graph.outputs[:count], non_blocking=True)
            done_event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done_event.record(self._stream)
        return Pending(self, graph, count, done_event)

    def _capture(self, size: int, shape: tuple[int, ...]) -> _Graph:
        """Capture the graph of a batch size, after two warm-up passes in which cuDNN chooses its algorithms."""
        pixels = torch.zeros(size, *shape, dtype=torch.uint8, device=self._device)
        with _capture_lock:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                for _ in range(2):
                    outputs = self._forward(pixels)
            self._stream.synchronize()
            graph, outputs = torch.cuda.CUDAGraph(), torch.empty_like(outputs)
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                outputs.copy_(self._forward(pixels))
        pinned_pixels = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
        pinned_outputs = torch.empty(outputs.shape, dtype=outputs.dtype, pin_memory=True)
        self._graphs[size] = _Graph(graph, pinned_pixels, pixels, outputs, pinned_outputs)
        return self._graphs[size]
