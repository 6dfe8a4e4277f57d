"""The page's rules for the files of a folder."""

import re
from pathlib import Path

from sortbelt.files import file_kinds, file_rules

SCRIPT = Path(__file__).parents[4] / "api" / "static" / "files.js"


def test_the_page_takes_the_images_that_the_command_takes():
    """A browser's own type of a file is empty for HEIC, JPEG XL and others."""
    text = SCRIPT.read_text(encoding="utf-8")
    constants = re.findall(r"const ([A-Z_]+) = \[(.*?)\];", text, re.DOTALL)
    lists = {name: re.findall(r'"([^"]+)"', body) for name, body in constants}

    assert lists == {"IMAGE_SUFFIXES": [*file_kinds.IMAGE_SUFFIXES], "SYSTEM_NAMES": sorted(file_rules.SYSTEM_NAMES)}
