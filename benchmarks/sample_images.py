"""Sample images: photo-like JPEGs of about 100 KB, drawn once, with a comment that makes each upload unique."""

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
MEAN_BYTES = 100_000  # of a file
SIDE_RANGE = (500, 1000)
QUALITY_RANGE = (85, 90)
SUFFIXES = {".jpg", ".jpeg"}
COMMENT_SEGMENT = struct.Struct(">HH16s")  # a JPEG comment: marker, length, text
MAX_RUN_ID_BYTES = 8  # of the text; the number of the image is the other half


def find_or_draw(folder_path: Path | None, target_dir: Path, count: int) -> list[Path]:
    """Return the JPEGs below a folder, or draw some into another one if there is none."""
    return draw_folder(target_dir, count) if folder_path is None else find_jpegs(folder_path)


def draw_folder(target_dir: Path, count: int, seed: int = SEED) -> list[Path]:
    """Draw photo-like JPEGs, the same for each seed, on all cores; existing files are kept."""
    target_dir.mkdir(parents=True, exist_ok=True)
    paths = [target_dir / f"{seed}-{number:05}.jpg" for number in range(count)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    with concurrent.futures.ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for number, data in zip(missing, pool.map(draw_jpeg, [[seed, n] for n in missing], chunksize=8), strict=True):
            paths[number].write_bytes(data)
    return paths


def find_jpegs(folder_path: Path) -> list[Path]:
    """Return the JPEGs below a folder, sorted.

    Raises:
        SystemExit: there are none.
    """
    paths = sorted(path for path in folder_path.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"{folder_path} contains no JPEG files. Leave IMAGES out to use drawn images.")
    return paths


def draw_jpeg(seed: Sequence[int]) -> bytes:
    """Draw one JPEG, with as much detail as gives the file size of a photo of its area."""
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(*SIDE_RANGE, 2))
    quality = int(rng.integers(*QUALITY_RANGE, endpoint=True))
    target_bytes = MEAN_BYTES * width * height / np.mean(SIDE_RANGE) ** 2 * rng.uniform(0.8, 1.2)
    scene, grain = _scene(rng, width, height), _grain(rng, width, height)
    low, high = 0.0, 60.0
    for _ in range(5):
        middle = (low + high) / 2
        data = _encode_jpeg(scene + middle * grain, quality)
        low, high = (middle, high) if len(data) < target_bytes else (low, middle)
    return data


def stamp_jpeg(data: bytes, text: bytes) -> tuple[bytes, memoryview]:
    """Insert a comment of 16 bytes after SOI; return the JPEG in two pieces: new bytes, same pixels."""
    return data[:2] + COMMENT_SEGMENT.pack(0xFFFE, COMMENT_SEGMENT.size - 2, text), memoryview(data)[2:]


def write_unique_copies(paths: Sequence[Path], target_dir: Path, count: int, run_id: bytes) -> list[Path]:
    """Write `count` copies of these images in turn, each with unique bytes.

    Raises:
        ValueError: `run_id` has more than 8 bytes: the number of the image would be cut off.
    """
    if len(run_id) > MAX_RUN_ID_BYTES:
        raise ValueError(f"The run id {run_id!r} has {len(run_id)} bytes; at most {MAX_RUN_ID_BYTES} fit.")
    target_dir.mkdir(parents=True)
    written = []
    for number in range(count):
        source = paths[number % len(paths)]
        written.append(target_dir / f"{number:06}-{source.name}")
        text = run_id.ljust(MAX_RUN_ID_BYTES) + struct.pack(">Q", number)
        written[-1].write_bytes(b"".join(stamp_jpeg(source.read_bytes(), text)))
    os.sync()  # so that writing them back does not disturb the measurement
    return written


def _scene(rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float32]:
    """Draw a smooth background with sharp-edged shapes on it; float32 [height, width, 3]."""
    light = Image.fromarray(_power_law_noise(rng, 64, 1.8)).resize((width, height), Image.Resampling.BICUBIC)
    background = rng.uniform(0, 255, 3) + np.asarray(light)[..., None] * rng.uniform(10, 80, 3)
    scene = Image.fromarray(background.clip(0, 255).astype(np.uint8))
    canvas = ImageDraw.Draw(scene)
    for _ in range(int(rng.integers(4, 14))):
        x, y, size = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.1, 0.9) * width
        color = tuple(int(channel) for channel in rng.integers(0, 256, 3))
        canvas.ellipse((x, y, x + size, y + size * rng.uniform(0.5, 2)), fill=color)
    return np.asarray(scene, np.float32)


def _grain(rng: np.random.Generator, width: int, height: int) -> npt.NDArray[np.float32]:
    """Draw a texture whose power falls with frequency, as in photos, plus a little white sensor noise."""
    texture = _power_law_noise(rng, max(SIDE_RANGE) + 24, 1.0)[:height, :width]
    texture += 0.2 * rng.standard_normal((height, width), np.float32)
    return texture[..., None] * rng.uniform(0.7, 1.0, 3).astype(np.float32)


def _power_law_noise(rng: np.random.Generator, side: int, exponent: float) -> npt.NDArray[np.float32]:
    """Return noise of amplitude 1 / frequency ** exponent, mean 0 and deviation 1; float32 [side, side]."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]).astype(np.float32)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((side, side), np.float32)) / frequency**exponent
    field: npt.NDArray[np.float32] = np.fft.irfft2(spectrum, (side, side)).astype(np.float32)
    field /= field.std()
    return field


def _encode_jpeg(pixels: npt.NDArray[np.float32], quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
