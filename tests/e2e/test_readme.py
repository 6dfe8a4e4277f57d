"""The README's snippets run against a real stack."""

import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from tests.e2e.conftest import REPOSITORY


def test_the_snippets_of_the_readme(start_stack, tmp_path):
    """Its Python program and its curl command run unchanged, on the user's own images."""
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    stack = start_stack()
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for name in ("lunch.jpg", "dinner.jpg"):
        Image.new("RGB", (200, 150), (200, 120, 80)).save(tmp_path / name)
    program = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    options = {"cwd": tmp_path, "env": stack.environment, "capture_output": True, "text": True}
    python = subprocess.run([sys.executable, "-c", program], **options, check=False)
    assert python.returncode == 0, python.stderr
    assert re.findall(r"^(\S+) (?:sushi|sandwich) 0\.\d+$", python.stdout, re.MULTILINE) == ["lunch.jpg", "dinner.jpg"]

    curl = re.search(r"^\$ (curl .*/v1/jobs)$", readme, re.MULTILINE)[1]
    accepted = subprocess.run(["/bin/sh", "-c", curl], **options, check=False)
    assert '"total":2' in accepted.stdout, accepted.stderr
