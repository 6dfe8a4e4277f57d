"""Draws pictures of sushi and of sandwiches, which may be shipped and shown: `python draw.py FOLDER [COUNT]`."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

SIZE = 480


def main(folder: Path, count: int) -> None:
    """Draw `count` of each, the same ones every time."""
    for label, draw in (("sushi", sushi), ("sandwich", sandwich)):
        for number in range(count):
            path = folder / label / f"{label}-{number + 1:02}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(draw, random.Random(f"{label} {number}")).save(path, quality=88)  # noqa: S311 (drawing, not secrecy)


def picture(draw: Callable[[ImageDraw.ImageDraw, random.Random], None], dice: random.Random) -> Image.Image:
    """A plate on a table, with something on it, in soft light."""
    image = Image.new("RGB", (SIZE, SIZE), shade((110, 78, 52), dice, 30))
    pencil = ImageDraw.Draw(image)
    for y in range(0, SIZE, dice.randint(30, 60)):
        pencil.line((0, y, SIZE, y + dice.randint(-8, 8)), fill=shade((90, 62, 40), dice, 20), width=3)
    pencil.ellipse((20, 40, SIZE - 20, SIZE - 20), fill=shade((232, 230, 224), dice, 16))
    pencil.ellipse((60, 80, SIZE - 60, SIZE - 60), fill=shade((244, 243, 238), dice, 8))
    draw(pencil, dice)
    noise = Image.effect_noise((SIZE, SIZE), 40).convert("RGB")
    return Image.blend(image.filter(ImageFilter.GaussianBlur(1.5)), noise, 0.06)


def sushi(pencil: ImageDraw.ImageDraw, dice: random.Random) -> None:
    """Rolls in seaweed and rice with fish upon it."""
    for column in range(3):
        for row in range(3):
            x, y = 105 + column * 95 + dice.randint(-8, 8), 120 + row * 95 + dice.randint(-8, 8)
            filling = shade(dice.choice([(240, 120, 80), (205, 50, 50), (120, 170, 70), (250, 200, 70)]), dice, 20)
            if dice.random() < 0.6:
                pencil.ellipse((x, y, x + 80, y + 76), fill=shade((26, 34, 28), dice, 10))
                pencil.ellipse((x + 8, y + 7, x + 72, y + 69), fill=shade((248, 246, 240), dice, 6))
                pencil.ellipse((x + 27, y + 24, x + 53, y + 50), fill=filling)
            else:
                pencil.rounded_rectangle((x, y + 20, x + 84, y + 72), 22, fill=shade((248, 246, 240), dice, 6))
                pencil.rounded_rectangle((x - 3, y + 4, x + 87, y + 44), 18, fill=filling)
                for stripe in range(3):
                    left = x + 8 + stripe * 26
                    pencil.line((left, y + 8, left + 14, y + 40), fill=shade((252, 205, 180), dice, 10), width=4)


def sandwich(pencil: ImageDraw.ImageDraw, dice: random.Random) -> None:
    """Toast cut in two, and all that is between; the cut faces to the viewer."""
    fillings = [((110, 165, 60), 16), ((206, 60, 48), 22), ((248, 206, 90), 14), ((190, 120, 96), 20)]
    fillings.append(((110, 165, 60), 14))
    for half in range(2):
        x, y = 60 + half * 190 + dice.randint(-8, 8), 110 + half * 50 + dice.randint(-8, 8)
        crust, crumb = shade((170, 112, 56), dice, 18), shade((226, 190, 130), dice, 14)
        pencil.polygon(slice_(x, y, 60), fill=crumb, outline=crust, width=8)
        y += 60
        for colour, height in fillings:
            pencil.polygon(slice_(x, y, height), fill=shade(colour, dice, 18))
            y += height - 2
        pencil.polygon(slice_(x, y, 70), fill=crumb, outline=crust, width=8)


def slice_(x: int, y: int, height: int) -> list[tuple[int, int]]:
    """The corners of something flat that lies askew."""
    return [(x, y + 70), (x + 200, y), (x + 200, y + height), (x, y + 70 + height)]


def shade(colour: tuple[int, int, int], dice: random.Random, most: int) -> tuple[int, ...]:
    """Nearly this colour."""
    return tuple(max(0, min(255, part + dice.randint(-most, most))) for part in colour)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 12)
