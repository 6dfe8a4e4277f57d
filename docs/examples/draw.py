"""Generate images of sushi and sandwiches, free of copyright: `python draw.py FOLDER [COUNT]`."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

SIZE = 480


def main(folder: Path, count: int) -> None:
    """Write `count` JPEGs per label; the same ones in every run."""
    for label, draw in (("sushi", sushi), ("sandwich", sandwich)):
        for number in range(count):
            path = folder / label / f"{label}-{number + 1:02}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            table(draw, random.Random(f"{label} {number}")).save(path, quality=88)  # noqa: S311 (reproducible images, not secrets)


def table(draw: Callable[[ImageDraw.ImageDraw, random.Random], None], rng: random.Random) -> Image.Image:
    """Draw a table with food on it, slightly blurred and noisy."""
    image = Image.new("RGB", (SIZE, SIZE), shade((110, 78, 52), rng, 30))
    canvas = ImageDraw.Draw(image)
    for y in range(0, SIZE, rng.randint(30, 60)):
        canvas.line((0, y, SIZE, y + rng.randint(-8, 8)), fill=shade((90, 62, 40), rng, 20), width=3)
    draw(canvas, rng)
    noise = Image.effect_noise((SIZE, SIZE), 40).convert("RGB")
    return Image.blend(image.filter(ImageFilter.GaussianBlur(1.5)), noise, 0.06)


def sushi(canvas: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Draw a slate, with seaweed rolls and rice with fish on it."""
    canvas.rounded_rectangle((30, 60, SIZE - 30, SIZE - 40), 10, fill=shade((50, 52, 56), rng, 10))
    for column in range(3):
        for row in range(3):
            x, y = 105 + column * 95 + rng.randint(-8, 8), 120 + row * 95 + rng.randint(-8, 8)
            filling = shade(rng.choice([(240, 120, 80), (205, 50, 50), (120, 170, 70), (250, 200, 70)]), rng, 20)
            if rng.random() < 0.6:
                canvas.ellipse((x, y, x + 80, y + 76), fill=shade((26, 34, 28), rng, 10))
                canvas.ellipse((x + 8, y + 7, x + 72, y + 69), fill=shade((248, 246, 240), rng, 6))
                canvas.ellipse((x + 27, y + 24, x + 53, y + 50), fill=filling)
            else:
                canvas.rounded_rectangle((x, y + 20, x + 84, y + 72), 22, fill=shade((248, 246, 240), rng, 6))
                canvas.rounded_rectangle((x - 3, y + 4, x + 87, y + 44), 18, fill=filling)
                for stripe in range(3):
                    left = x + 8 + stripe * 26
                    canvas.line((left, y + 8, left + 14, y + 40), fill=shade((252, 205, 180), rng, 10), width=4)


def sandwich(canvas: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Draw a plate with a sandwich cut in two, its cut faces to the viewer."""
    canvas.ellipse((20, 40, SIZE - 20, SIZE - 20), fill=shade((232, 230, 224), rng, 16))
    canvas.ellipse((60, 80, SIZE - 60, SIZE - 60), fill=shade((244, 243, 238), rng, 8))
    fillings = [((110, 165, 60), 16), ((206, 60, 48), 22), ((248, 206, 90), 14), ((190, 120, 96), 20)]
    fillings.append(((110, 165, 60), 14))
    for half in range(2):
        x, y = 60 + half * 190 + rng.randint(-8, 8), 110 + half * 50 + rng.randint(-8, 8)
        crust, crumb = shade((170, 112, 56), rng, 18), shade((226, 190, 130), rng, 14)
        canvas.polygon(layer(x, y, 60), fill=crumb, outline=crust, width=8)
        y += 60
        for colour, height in fillings:
            canvas.polygon(layer(x, y, height), fill=shade(colour, rng, 18))
            y += height - 2
        canvas.polygon(layer(x, y, 70), fill=crumb, outline=crust, width=8)


def layer(x: int, y: int, height: int) -> list[tuple[int, int]]:
    """Return the corners of a flat layer in perspective."""
    return [(x, y + 70), (x + 200, y), (x + 200, y + height), (x, y + 70 + height)]


def shade(colour: tuple[int, int, int], rng: random.Random, spread: int) -> tuple[int, ...]:
    """Return the colour with each channel changed at random by at most `spread`."""
    return tuple(max(0, min(255, part + rng.randint(-spread, spread))) for part in colour)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 12)
