"""The pictures: photo-like JPEGs of about 100 KB, drawn once, and stamped so that no two uploads are the same bytes."""

import concurrent.futures
import io
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

SEED = 20_261_123
BYTES = 100_000  # of the mean file
SIDES = (500, 1000)
QUALITY = (85, 90)
SUFFIXES = {".jpg", ".jpeg"}
STAMP = struct.Struct(">HH16s")  # a JPEG comment: marker, length, text


def folder(where: Path, count: int, seed: int = SEED) -> list[Path]:
    """Photo-like JPEGs, the same ones every time; drawn on all cores unless they are there already."""
    where.mkdir(parents=True, exist_ok=True)
    paths = [where / f"{seed}-{number:05}.jpg" for number in range(count)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    with concurrent.futures.ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for number, data in zip(missing, pool.map(draw, [[seed, n] for n in missing], chunksize=8), strict=True):
            paths[number].write_bytes(data)
    return paths


def found(where: Path) -> list[Path]:
    """The JPEGs of somebody's folder, in order.

    Raises:
        SystemExit: it has none.
    """
    paths = sorted(path for path in where.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"{where} holds no JPEG files; leave IMAGES out, and pictures are drawn.")
    return paths


def draw(seed: Sequence[int]) -> bytes:
    """One JPEG file. Its detail is chosen so that it weighs what a photo of its area weighs."""
    dice = np.random.default_rng(seed)
    width, height = (int(side) for side in dice.integers(*SIDES, 2))
    quality = int(dice.integers(*QUALITY, endpoint=True))
    wanted = BYTES * width * height / np.mean(SIDES) ** 2 * dice.uniform(0.8, 1.2)
    scene, grain = _scene(dice, width, height), _grain(dice, width, height)
    low, high = 0.0, 60.0
    for _ in range(5):
        middle = (low + high) / 2
        data = _encoded(scene + middle * grain, quality)
        low, high = (middle, high) if len(data) < wanted else (low, middle)
    return data


def stamped(data: bytes, text: bytes) -> tuple[bytes, memoryview]:
    """A JPEG in two pieces that together are new bytes and the same pixels: a comment of 16 bytes goes in after SOI."""
    return data[:2] + STAMP.pack(0xFFFE, STAMP.size - 2, text), memoryview(data)[2:]


def copies(paths: Sequence[Path], where: Path, count: int, run: bytes) -> list[Path]:
    """`count` files that no server has seen, made of these pictures in turn; `run` is of at most 8 bytes."""
    where.mkdir(parents=True)
    made = []
    for number in range(count):
        source = paths[number % len(paths)]
        made.append(where / f"{number:06}-{source.name}")
        made[-1].write_bytes(b"".join(stamped(source.read_bytes(), run.ljust(8) + struct.pack(">Q", number))))
    os.sync()  # or the disk would still be busy with them while something is measured
    return made


def _scene(dice: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float32]:
    """What a photo has: light that changes slowly, and things with edges before it; float [height, width, 3]."""
    light = Image.fromarray(_clouds(dice, 64, 1.8)).resize((width, height), Image.Resampling.BICUBIC)
    back = dice.uniform(0, 255, 3) + np.asarray(light)[..., None] * dice.uniform(10, 80, 3)
    scene = Image.fromarray(back.clip(0, 255).astype(np.uint8))
    pencil = ImageDraw.Draw(scene)
    for _ in range(int(dice.integers(4, 14))):
        x, y, across = dice.uniform(0, width), dice.uniform(0, height), dice.uniform(0.1, 0.9) * width
        colour = tuple(int(part) for part in dice.integers(0, 256, 3))
        pencil.ellipse((x, y, x + across, y + across * dice.uniform(0.5, 2)), fill=colour)
    return np.asarray(scene, np.float32)


def _grain(dice: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float32]:
    """Texture whose power falls with frequency, as that of photos does, and a little of a sensor's white noise."""
    texture = _clouds(dice, max(SIDES) + 24, 1.0)[:height, :width]
    texture += 0.2 * dice.standard_normal((height, width), np.float32)
    return texture[..., None] * dice.uniform(0.7, 1.0, 3).astype(np.float32)


def _clouds(dice: np.random.Generator, side: int, fall: float) -> npt.NDArray[np.float32]:
    """Noise of amplitude 1 / frequency ** fall, of mean 0 and deviation 1; float [side, side]."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]).astype(np.float32)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(dice.standard_normal((side, side), np.float32)) / frequency**fall
    field = np.fft.irfft2(spectrum, (side, side)).astype(np.float32)
    return field / field.std()


def _encoded(pixels: npt.NDArray[np.float32], quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return file.getvalue()
