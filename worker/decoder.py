"""The decoder: a child process that turns hostile bytes into pixels, with little to lose.

It is told by its parent what to decode, and writes pixels into memory that both see. It can read files, but
neither write one nor grow without end; a picture that costs it its life costs nobody else's.

    parent ◀── "ready" ── child
    parent ── JSON {"preprocess", "pictures": [{"sha256", "path" | null}, …]}, then bytes for each null ──▶ child
    parent ◀── JSON [{"code" | null, "detail", "ms"}, …], in order, when all are done ── child

The first bytes of the memory tell how many of them are done, so that a death has a name.
"""

import contextlib
import hashlib
import json
import os
import sys
import time
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs import confined, parents
from model import preprocess

READY = b"ready"
UNAVAILABLE = "unavailable"  # not the picture's fault
HEAD_BYTES = 64  # of the memory, before the pixels: a cache line
CPU_SECONDS = 3  # a 94 KB JPEG of a thousand scans would take ten


def main(pipe: int, arena: int, config: str) -> None:
    """Decode what the parent sends until it hangs up."""
    limits = json.loads(config)
    parents.die_with(limits["parent"])  # also if a dead disk holds us where we would not see it hang up
    memory: npt.NDArray[np.uint8] = np.memmap(os.fdopen(arena, "r+b"), np.uint8, "r+")
    confined.confine(limits["memory_bytes"])
    with connection.Connection(pipe) as parent, contextlib.suppress(EOFError, BrokenPipeError):
        parent.send_bytes(READY)
        while True:
            orders = json.loads(parent.recv_bytes())
            how = preprocess.Preprocess.from_json(orders["preprocess"])
            done, replies = progress(memory), []
            for slot, order in zip(slots(memory, how), orders["pictures"], strict=False):
                data = None if order["path"] else parent.recv_bytes()
                replies.append(_decode(order, data, how, slot))
                done[0] += 1
            parent.send_bytes(json.dumps(replies).encode())


def progress(memory: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """How many pictures of the last order are done, uint32 [1]; who orders sets it to zero."""
    return memory[:4].view(np.uint32)


def slot_bytes(how: preprocess.Preprocess) -> int:
    """How much memory the pixels of one picture take."""
    return how.height * how.width * 3


def slots(memory: npt.NDArray[np.uint8], how: preprocess.Preprocess) -> npt.NDArray[np.uint8]:
    """The memory as rows of pictures, uint8 [as many as it holds, height, width, 3]."""
    pixels = memory[HEAD_BYTES:]
    count = len(pixels) // slot_bytes(how)
    return pixels[: count * slot_bytes(how)].reshape(count, how.height, how.width, 3)


def _decode(order: Any, data: bytes | None, how: preprocess.Preprocess, slot: npt.NDArray[np.uint8]) -> Any:
    started = time.perf_counter()
    confined.allow_cpu(CPU_SECONDS)
    code: str | None = None
    detail = ""
    try:
        slot[:] = how.pixels(_bytes(order, data))
    except preprocess.BadPicture as bad:
        code, detail = bad.code, bad.detail
    except FileNotFoundError:
        code, detail = "blob_missing", "The picture's bytes are gone from the store."
    except OSError as error:
        code, detail = UNAVAILABLE, f"A picture cannot be read: {error.strerror}."
    except _Corrupt:
        code, detail = "blob_corrupt", "The picture's bytes in the store are not those that were sent."
    return {"code": code, "detail": detail, "ms": (time.perf_counter() - started) * 1000}


class _Corrupt(Exception):
    pass


def _bytes(order: Any, data: bytes | None) -> bytes:
    data = Path(order["path"]).read_bytes() if data is None else data
    if hashlib.sha256(data).hexdigest() != order["sha256"]:
        raise _Corrupt
    return data


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
