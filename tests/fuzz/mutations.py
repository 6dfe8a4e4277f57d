"""Valid images of every format, and mutations of them: bits, bytes, lengths, spliced parts."""

import random

from PIL import Image

from tests.support import image_files

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "HEIC", "AVIF", "JPEG XL")
MODES = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "RGBA", "P", "I;16", "1", "LA"), "GIF": ("P", "L")}
EDGE_VALUES = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


def make_valid_image(image_format, rng):
    """Return a valid image file with noise in it."""
    mode = rng.choice(MODES.get(image_format, ("RGB", "L")))
    size = rng.choice([(1, 1), (7, 5), (33, 40), (120, 64)])
    noise = Image.effect_noise((max(2, size[0] // 3), max(2, size[1] // 3)), 90).resize(size)
    options = {"JPEG": {"progressive": rng.random() < 0.5}, "TIFF": {"compression": rng.choice(["raw", "tiff_lzw"])}}
    return image_files.encode(noise.convert(mode), image_format, **options.get(image_format, {}))


def mutate(data, rng, others=()):
    """Return a mutated copy of `data`; parts of `others` may be spliced in."""
    mutated = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        if not mutated:
            break
        rng.choice([_flip_bit, _set_byte, _set_integer, _truncate, _duplicate, _delete, _splice_other])(
            mutated, rng, others
        )
    return bytes(mutated)


def _flip_bit(data, rng, _):
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set_byte(data, rng, _):
    # Prefer the header: it decides how the rest is parsed.
    data[rng.randrange(min(len(data), rng.choice([16, 64, 512, 10**9])))] = rng.choice([0, 255, rng.randrange(256)])


def _set_integer(data, rng, _):
    size, byte_order = rng.choice([2, 4]), rng.choice(["big", "little"])
    offset = rng.randrange(len(data))
    data[offset : offset + size] = (rng.choice(EDGE_VALUES) % 256**size).to_bytes(size, byte_order)


def _truncate(data, rng, _):
    del data[rng.randrange(len(data)) :]


def _duplicate(data, rng, _):
    start, length = rng.randrange(len(data)), rng.choice([1, 8, 64, 512])
    data[start:start] = data[start : start + length] * rng.choice([1, 2, 50])


def _delete(data, rng, _):
    start = rng.randrange(len(data))
    del data[start : start + rng.choice([1, 2, 4, 16, 64])]


def _splice_other(data, rng, others):
    if others:
        donor = rng.choice(others)
        start = rng.randrange(max(1, len(donor)))
        offset = rng.randrange(len(data))
        data[offset : offset + rng.choice([0, 64])] = donor[start : start + rng.choice([8, 64, 512])]


def generate(seed, count):
    """Yield `count` mutated images, the same ones for the same seed."""
    rng = random.Random(seed)  # noqa: S311 (a seed, not a secret)
    pool = [make_valid_image(image_format, rng) for image_format in FORMATS for _ in range(4)]
    for _ in range(count):
        yield mutate(rng.choice(pool), rng, pool)
