"""Count the calls of our own functions that one request makes: a warm multipart POST of one PNG.

    python -m benchmarks.request_path [--calls]

Start the Flask app on SQLite in a temporary directory, send a few requests, then send one more under `sys.setprofile`.
Count the functions of `api` and `core` that were called, the files that they are in, and the changes of file from one
call to the next: a measure of how far a reader has to follow a request. Comprehensions are not counted: they are calls
in Python 3.11 only, and not for a reader. `--calls` lists every call.
"""

import io
import sys
import tempfile
import threading
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

from PIL import Image

from api import app as apps
from core import enums, settings
from core.db.queries import api_keys
from migrations.__main__ import upgrade

REPOSITORY = Path(__file__).parent.parent
PRODUCT_DIRS = tuple(f"{REPOSITORY / name}/" for name in ("api", "core"))
COMPREHENSIONS = {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}
WARMUP_REQUESTS = 5
THREADS = (threading.main_thread().name, "job writer")


@dataclass(frozen=True)
class RequestPath:
    """The calls of one request, each as (file, function)."""

    calls: list[tuple[str, str]]

    @property
    def files(self) -> set[str]:
        """The files that were called into."""
        return {file for file, _ in self.calls}

    @property
    def file_changes(self) -> int:
        """How often a call is in another file than the call before it."""
        return sum(previous[0] != following[0] for previous, following in pairwise(self.calls))


def main() -> None:
    """Print the counts."""
    with tempfile.TemporaryDirectory() as folder:
        request_path = measure(Path(folder))
    if "--calls" in sys.argv:
        print("\n".join(f"{file}:{function}" for file, function in request_path.calls))
    print(f"{len(request_path.calls)} calls, {len(request_path.files)} files, {request_path.file_changes} file changes")


def measure(folder: Path) -> RequestPath:
    """Return the path of one warm request to an app whose data lies in `folder`."""
    database_url = f"sqlite:///{folder}/sortbelt.db"
    app = apps.create_app(
        settings.Settings(
            database_url=database_url, redis_url="redis://127.0.0.1:1/0", blob_store=str(folder / "blobs")
        )
    )
    db = app.extensions["sortbelt"].db
    try:
        db.write(upgrade)
        calls = _record_calls()
        key = api_keys.generate()
        db.write(api_keys.create, "request-path", enums.Role.SUBMIT, key)
        for number in range(WARMUP_REQUESTS):
            _submit(app, key, number)
        calls.clear()
        _submit(app, key, WARMUP_REQUESTS)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        db.close()
    return RequestPath(list(calls))


def _submit(app: Any, key: str, number: int) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (number, 0, 0)).save(buffer, "PNG")
    response = app.test_client().post(
        "/v1/jobs",
        data={"images": (io.BytesIO(buffer.getvalue()), f"{number}.png")},
        headers={"Authorization": f"Bearer {key}"},
    )
    if response.status_code != 202:
        raise RuntimeError(f"The submission was answered {response.status_code}: {response.text}")


def _record_calls() -> list[tuple[str, str]]:
    """Record the calls of this thread, and of the job writer if that is started from now on."""
    calls: list[tuple[str, str]] = []

    def record(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        is_ours = code.co_filename.startswith(PRODUCT_DIRS) and code.co_name not in COMPREHENSIONS
        if event == "call" and is_ours and threading.current_thread().name in THREADS:
            calls.append((code.co_filename.removeprefix(f"{REPOSITORY}/"), code.co_qualname))

    threading.setprofile(record)
    sys.setprofile(record)
    return calls


if __name__ == "__main__":
    main()
