"""Run the whole system once: `python demo.py FOLDER` starts the stack, classifies the folder, and stops everything.

It uses only the `sortbelt` command, as a user would.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import draw

GENERATED_FOLDER = Path("demo/pictures")


def main(folder: Path) -> int:
    """Classify a folder and print every image's label; return 0 or the exit code of the first step that failed."""
    if folder == GENERATED_FOLDER and not folder.exists():
        draw.main(folder, 12)
    if folder == GENERATED_FOLDER:
        print("These images are drawn by docs/examples/draw.py; for photos: make demo IMAGES=~/Pictures", flush=True)
    with tempfile.TemporaryDirectory(prefix="sortbelt-demo-") as data_dir:
        command = ["sortbelt", "up", "--json", "--port", "0", "--data-dir", data_dir]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        ready = server.stdout.readline()
        code = classify(folder, json.loads(ready), data_dir) if ready else 0
        server.terminate()
        return server.wait() or code


def classify(folder: Path, ready: dict[str, str], manifest_dir: str) -> int:
    """Enqueue the folder, wait for its job, print the results; return the exit code."""
    environment = {**os.environ, "SORTBELT_URL": ready["url"], "SORTBELT_KEY": ready["key"]}
    command = ["sortbelt", "enqueue", str(folder), "--manifest", f"{manifest_dir}/demo.sqlite", "--json"]
    enqueue = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if enqueue.returncode > 1:  # 1: some images could not be classified; the results name them
        return enqueue.returncode
    job = json.loads(enqueue.stdout.splitlines()[-1])
    return subprocess.call(["sortbelt", "results", job["job_id"]], env=environment)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).expanduser()))
