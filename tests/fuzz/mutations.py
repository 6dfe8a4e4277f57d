"""Good pictures of every format, bent: bits, bytes, lengths, pieces; what the decoder's door is tried with."""

import io
import random

from PIL import Image

FORMS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
MODES = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "RGBA", "P", "I;16", "1", "LA"), "GIF": ("P", "L")}
ODD = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


def good(form, dice):
    """A good picture with something in it."""
    mode = dice.choice(MODES.get(form, ("RGB", "L")))
    size = dice.choice([(1, 1), (7, 5), (33, 40), (120, 64)])
    small = Image.effect_noise((max(2, size[0] // 3), max(2, size[1] // 3)), 90).resize(size)
    options = {"JPEG": {"progressive": dice.random() < 0.5}, "TIFF": {"compression": dice.choice(["raw", "tiff_lzw"])}}
    file = io.BytesIO()
    small.convert(mode).save(file, form, **options.get(form, {}))
    return file.getvalue()


def bent(data, dice, others=()):
    """The same with some of it changed; `others` are pictures of which a piece may come in."""
    changed = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 4, 16])):
        if not changed:
            break
        dice.choice([_bit, _byte, _number, _cut, _double, _drop, _splice])(changed, dice, others)
    return bytes(changed)


def _bit(data, dice, _):
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _byte(data, dice, _):
    # The head is where the decisions are made.
    data[dice.randrange(min(len(data), dice.choice([16, 64, 512, 10**9])))] = dice.choice([0, 255, dice.randrange(256)])


def _number(data, dice, _):
    size, order = dice.choice([2, 4]), dice.choice(["big", "little"])
    place = dice.randrange(len(data))
    data[place : place + size] = (dice.choice(ODD) % 256**size).to_bytes(size, order)


def _cut(data, dice, _):
    del data[dice.randrange(len(data)) :]


def _double(data, dice, _):
    start, length = dice.randrange(len(data)), dice.choice([1, 8, 64, 512])
    data[start:start] = data[start : start + length] * dice.choice([1, 2, 50])


def _drop(data, dice, _):
    start = dice.randrange(len(data))
    del data[start : start + dice.choice([1, 2, 4, 16, 64])]


def _splice(data, dice, others):
    if others:
        other = dice.choice(others)
        start = dice.randrange(max(1, len(other)))
        place = dice.randrange(len(data))
        data[place : place + dice.choice([0, 64])] = other[start : start + dice.choice([8, 64, 512])]


def some(seed, count):
    """So many bent pictures; the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311 (a seed, not a secret)
    pool = [good(form, dice) for form in FORMS for _ in range(4)]
    for _ in range(count):
        yield bent(dice.choice(pool), dice, pool)
