"""Keeps the GPU busy: the forward pass as CUDA graphs of fixed sizes, two batches in flight, through pinned memory.

A graph is launched as one, where the kernels of a small network would wait for Python. It knows but one size of a
batch, so a batch goes through the next larger one, and the rows that are too many go along unheeded: each picture is
computed by itself.
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
LARGEST = 1024  # pictures; a larger batch goes in pieces, of which two are in flight
IN_FLIGHT = 2
_capturing = threading.Lock()  # begun in one thread, a capture must not meet another's


def bucket(count: int) -> int:
    """The size of the graph for so many pictures: the next power of two."""
    return 1 << max(0, count - 1).bit_length()


@dataclasses.dataclass(frozen=True)
class _Graph:
    """One size of batch, and the memory that its pictures come in and its answers go out by."""

    graph: torch.cuda.CUDAGraph
    pinned_pixels: torch.Tensor
    pixels: torch.Tensor
    answers: torch.Tensor
    pinned_answers: torch.Tensor


@dataclasses.dataclass(frozen=True)
class Pending:
    """Pictures that are on their way; `result` is to be called, once."""

    slot: _Slot
    graph: _Graph
    count: int
    done: torch.cuda.Event

    def result(self) -> npt.NDArray[np.float32]:
        """Probabilities [N, classes], when they are there."""
        try:
            self.done.synchronize()
            answers: npt.NDArray[np.float32] = self.graph.pinned_answers[: self.count].numpy().copy()
            return answers
        finally:
            self.slot.free()


class Graphs:
    """A forward pass on one GPU: uint8 pixels [N, H, W, 3] on the device in, float32 probabilities out."""

    def __init__(self, forward: Forward, device: torch.device) -> None:
        """Captures nothing yet: each size is captured when it is first wanted."""
        self._forward = forward
        self._device = device
        self._free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for _ in range(IN_FLIGHT):
            self._free.put(_Slot(forward, device, self._free))
        self.plain = ""
        """Why nothing is captured any more; empty while it is."""

    def classify(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities of pixels [N, H, W, 3] of the host, for one picture or more; may be called by several threads.

        Raises:
            torch.OutOfMemoryError: the batch is too large for the card.
        """
        if not self.plain:
            try:
                return self._in_flight(pixels)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                # A network whose way depends on its input cannot be captured, and is no worse for it.
                self.plain = str(error).splitlines()[0]
                log.warning("the network runs without CUDA graphs: %s", self.plain)
        return self._plainly(pixels)

    def submit(self, pixels: npt.NDArray[np.uint8], *, wait: bool = True) -> Pending:
        """Send at most `LARGEST` pictures on their way, when fewer than two batches are in flight.

        Raises:
            queue.Empty: two are, and nobody wants to wait.
        """
        slot = self._free.get(block=wait)
        try:
            return slot.submit(pixels)
        except BaseException:
            slot.free()
            raise

    def _in_flight(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The pieces of a batch, each sent before the answers to the one before are awaited, if there is a place."""
        answers: list[npt.NDArray[np.float32]] = []
        flying: collections.deque[Pending] = collections.deque()
        try:
            for start in range(0, len(pixels), LARGEST):
                piece = pixels[start : start + LARGEST]
                try:
                    flying.append(self.submit(piece, wait=not flying))
                except queue.Empty:  # who holds a place and waited for another would wait for one who does the same
                    answers.append(flying.popleft().result())
                    flying.append(self.submit(piece))
                if len(flying) == IN_FLIGHT:
                    answers.append(flying.popleft().result())
            answers += [pending.result() for pending in _taken(flying)]
        finally:
            for pending in _taken(flying):
                pending.result()
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    @torch.inference_mode()
    def _plainly(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        answers: npt.NDArray[np.float32] = self._forward(torch.from_numpy(pixels).to(self._device)).cpu().numpy()
        return answers


def _taken(flying: collections.deque[Pending]) -> Iterator[Pending]:
    while flying:
        yield flying.popleft()


class _Slot:
    """One batch in flight: a stream, and graphs that share their working memory, because one runs at a time."""

    def __init__(self, forward: Forward, device: torch.device, home: queue.SimpleQueue[_Slot]) -> None:
        self._forward = forward
        self._device = device
        self._home = home
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: dict[int, _Graph] = {}

    def free(self) -> None:
        """It may take another batch."""
        self._home.put(self)

    @torch.inference_mode()
    def submit(self, pixels: npt.NDArray[np.uint8]) -> Pending:
        size, count = bucket(len(pixels)), len(pixels)
        graph = self._graphs.get(size) or self._captured(size, pixels.shape[1:])
        graph.pinned_pixels[:count].numpy()[:] = pixels
        with torch.cuda.stream(self._stream):
            graph.pixels[:count].copy_(graph.pinned_pixels[:count], non_blocking=True)
            graph.graph.replay()
            graph.pinned_answers[:count].copy_(graph.answers[:count], non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(self._stream)
        return Pending(self, graph, count, done)

    def _captured(self, size: int, shape: tuple[int, ...]) -> _Graph:
        """The graph of a size; the first passes, which choose algorithms and compile, are made before."""
        pixels = torch.zeros(size, *shape, dtype=torch.uint8, device=self._device)
        with _capturing:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                for _ in range(2):
                    answers = self._forward(pixels)
            self._stream.synchronize()
            graph, answers = torch.cuda.CUDAGraph(), torch.empty_like(answers)
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                answers.copy_(self._forward(pixels))
        pinned = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
        given = torch.empty(answers.shape, dtype=answers.dtype, pin_memory=True)
        self._graphs[size] = _Graph(graph, pinned, pixels, answers, given)
        return self._graphs[size]
