import io
import os
import shutil
from pathlib import Path

import numpy as np

from model.evaluation import plots


def test_a_mistake_may_have_a_name_that_is_not_utf_8(shapes_dir, tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    shutil.copy(shapes_dir / "circle" / "00.png", path)
    sheet = io.BytesIO()

    plots.mistakes(sheet, np.array([[0.1, 0.9]]), np.array([0]), ("a", "b"), [Path(os.fsdecode(path))])

    assert sheet.getvalue().startswith(b"\x89PNG")
