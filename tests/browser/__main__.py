"""The picture of the page in the README: `python -m tests.browser FILE`."""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser import stage

SIZE = {"width": 1060, "height": 720}
COLOURS = 256  # enough for the eye, and a third of the bytes


def main(file: Path) -> None:
    """Start everything, send drawn pictures and a text, and take the picture when all is shown."""
    path = stage.chromium()
    if path is None:
        sys.exit("This needs a Chromium on the PATH.")
    expect.set_options(timeout=60_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        stage.up(Path(folder) / "data") as told,
        stage.browser(path) as browser,
    ):
        page = browser.new_page(viewport=SIZE)
        play(page, told, Path(folder))
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    shot.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, optimize=True)


def play(page: Page, told: dict[str, str], folder: Path) -> None:
    """Log in, send, and wait for the last thumbnail."""
    page.goto(told["url"])
    page.get_by_label("Key").fill(told["key"])
    page.keyboard.press("Enter")
    pictures = stage.draw(folder, 5)
    mixed = [path for pair in zip(pictures[:5], pictures[5:], strict=True) for path in pair]
    (folder / "menu.jpg").write_text("This is no picture.", encoding="utf-8")
    page.get_by_label("Choose pictures").set_input_files([*mixed[1:7], folder / "menu.jpg", *mixed[7:]])
    expect(page.locator(".head .badge")).to_have_text("done")
    expect(page.locator(".card img")).to_have_count(len(mixed) - 1)
    expect(page.locator("#sending")).to_be_hidden()
    expect(page.locator(".strip")).to_contain_text("a second")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
