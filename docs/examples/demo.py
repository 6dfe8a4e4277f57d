"""The whole main job in one go: `python demo.py FOLDER` starts everything, classifies the folder, and stops.

It uses nothing but the `sortbelt` command, as you would.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import draw

OWN = Path("demo/pictures")


def main(folder: Path) -> int:
    """Classify a folder and show every picture's label; the exit code of the first step that failed, or 0."""
    if folder == OWN and not folder.exists():
        draw.main(folder, 12)
    if folder == OWN:
        print("These pictures are drawn by docs/examples/draw.py; for photos: make demo IMAGES=~/Pictures", flush=True)
    with tempfile.TemporaryDirectory(prefix="sortbelt-demo-") as data:
        command = ["sortbelt", "up", "--json", "--port", "0", "--data-dir", data]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        ready = server.stdout.readline()
        code = classify(folder, json.loads(ready), data) if ready else 0
        server.terminate()
        return server.wait() or code


def classify(folder: Path, ready: dict[str, str], manifests: str) -> int:
    """Enqueue the folder, wait for it, show the results."""
    where = {**os.environ, "SORTBELT_URL": ready["url"], "SORTBELT_KEY": ready["key"]}
    command = ["sortbelt", "enqueue", str(folder), "--manifest", f"{manifests}/demo.sqlite", "--json"]
    enqueue = subprocess.run(command, env=where, stdout=subprocess.PIPE, text=True, check=False)
    if enqueue.returncode > 1:  # 1: some pictures could not be classified; the results say which, and why
        return enqueue.returncode
    job = json.loads(enqueue.stdout.splitlines()[-1])
    return subprocess.call(["sortbelt", "results", job["job_id"]], env=where)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).expanduser()))
