"""Take the README's screenshot of the web page: `python -m tests.browser FILE`."""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser import harness

SIZE = {"width": 1060, "height": 720}
PALETTE_SIZE = 256  # visually the same, at a third of the file size


def main(file: Path) -> None:
    """Start a stack, submit drawn images and a text file, and take a screenshot when every result is shown."""
    chromium_path = harness.find_chromium()
    if chromium_path is None:
        sys.exit("Chromium was not found on the PATH. Install it: apt-get install chromium")
    expect.set_options(timeout=60_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        harness.run_sortbelt(Path(folder) / "data") as server_info,
        harness.launch_browser(chromium_path) as browser,
    ):
        page = browser.new_page(viewport=SIZE)
        run_demo(page, server_info, Path(folder))
        screenshot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    screenshot.quantize(PALETTE_SIZE, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, optimize=True)


def run_demo(page: Page, server_info: dict[str, str], folder: Path) -> None:
    """Log in, submit, and wait for the last thumbnail."""
    page.goto(server_info["url"])
    page.get_by_label("Key").fill(server_info["key"])
    page.keyboard.press("Enter")
    images = harness.draw_images(folder, 5)
    mixed_images = [path for pair in zip(images[:5], images[5:], strict=True) for path in pair]
    (folder / "menu.jpg").write_text("This is not an image.", encoding="utf-8")
    page.get_by_label("Choose images").set_input_files([*mixed_images[1:7], folder / "menu.jpg", *mixed_images[7:]])
    expect(page.locator(".head .badge")).to_have_text("done, 1 failed")
    expect(page.locator(".card img")).to_have_count(len(mixed_images) - 1)
    expect(page.locator("#upload-progress")).to_be_hidden()
    expect(page.locator(".status-bar")).to_contain_text("per second")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
