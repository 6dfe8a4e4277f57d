"""Run the snippets of the tutorial and the how-tos, unchanged, against a real stack."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from sortbelt.local import data_directory
from tests.support import servers

REPOSITORY = Path(__file__).parent.parent.parent
DOCS = REPOSITORY / "docs"
BIN = Path(sys.executable).parent
TRACES = re.compile("trace|TRACING")


def blocks(page, language):
    """Return the code blocks of a page in a language, indented ones too."""
    text = (DOCS / page).read_text(encoding="utf-8")
    matches = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return ["\n".join(line.removeprefix(indent) for line in block.splitlines()) for indent, block in matches]


def commands(page):
    """Return the shell commands of a page."""
    return [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]


@contextlib.contextmanager
def run_stack(folder, words=("sortbelt", "up"), **settings):
    """Run a stack; yield the environment variables for its clients."""
    environ = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **settings}
    command = [*words, "--json", "--port", "0", "--data-dir", str(folder)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            ready = json.loads(process.stdout.readline())
            client_variables = {
                "SORTBELT_URL": ready["url"],
                "SORTBELT_KEY": ready["key"],
                "SORTBELT_DATA_DIR": str(folder),
            }
            yield environ | client_variables
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def exported_sources(s3_url, tmp_path_factory):
    """Return the sources that the page exports, with the bucket's credentials; $PWD is a temporary folder."""
    (export,) = [line for line in commands("howto/bulk-from-s3.md") if line.startswith("export SORTBELT_SOURCES")]
    name, value = re.fullmatch(r'export (\w+)="(.*)"', export).groups()
    return servers.s3_environment(s3_url) | {name: value.replace("$PWD", str(tmp_path_factory.mktemp("server")))}


@pytest.fixture(scope="module")
def stack(tmp_path_factory, exported_sources):
    """Run the stack that most pages use."""
    with run_stack(
        tmp_path_factory.mktemp("data"), SORTBELT_WEBHOOK_ALLOW="127.0.0.0/8", **exported_sources
    ) as environ:
        yield environ


@pytest.fixture
def work_dir(tmp_path):
    """Create a folder with two images and a link to the documents."""
    return make_work_dir(tmp_path)


def make_work_dir(tmp_path):
    """Make a folder with two images and a link to the documents, and return it."""
    for name in ("lunch.jpg", "dinner.jpg"):
        Image.new("RGB", (200, 150), (200, 120, 80)).save(tmp_path / name)
    (tmp_path / "docs").symlink_to(DOCS)
    return tmp_path


def run(words, folder, environ):
    """Run a program in a folder; return its output."""
    environ = {**environ, "XDG_STATE_HOME": str(folder / "state")}
    completed = subprocess.run(words, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def shell(lines, folder, environ):
    """Run lines in one shell, which stops at the first failure; return its output."""
    return run(["bash", "-e", "-c", "\n".join(lines)], folder, environ)


def test_curl_submits_and_polls(stack, work_dir):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")

    results = json.loads(shell(commands("howto/submit-and-poll.md"), work_dir, stack))["results"]

    assert {result["image"] for result in results} == {"lunch.jpg", "dinner.jpg"}
    assert all(result["label"] for result in results)


@pytest.mark.parametrize("number", [0, 1])
def test_python_submits_and_polls(stack, work_dir, number):
    printed = run([sys.executable, "-c", blocks("howto/submit-and-poll.md", "python")[number]], work_dir, stack)

    assert sorted(line.split()[0] for line in printed.splitlines()) == ["dinner.jpg", "lunch.jpg"]


def test_javascript_submits_and_polls(stack, work_dir):
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    (program,) = blocks("howto/submit-and-poll.md", "javascript")
    (work_dir / "submit.mjs").write_text(program, encoding="utf-8")

    printed = run(["node", "submit.mjs"], work_dir, stack)

    assert sorted(line.split()[0] for line in printed.splitlines()) == ["dinner.jpg", "lunch.jpg"]


@pytest.mark.parametrize(
    ("language", "command"),
    [("python", [sys.executable, "-u", "-c"]), ("javascript", ["node", "--input-type=module", "-e"])],
)
def test_a_receiver_gets_and_verifies_a_webhook(stack, work_dir, language, command):
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    (program,) = blocks("howto/webhooks.md", language)
    _, submit, secret, *log_commands = commands("howto/webhooks.md")
    port = servers.free_port()
    ours = {"PORT": str(port), "RECEIVER": f"http://127.0.0.1:{port}/labels"}
    ours["WEBHOOK_SECRET"] = shell([secret, "echo $WEBHOOK_SECRET"], work_dir, stack).strip()

    with subprocess.Popen(
        [*command, program], env=stack | ours, stdout=subprocess.PIPE, text=True, cwd=work_dir
    ) as receiver:
        try:
            servers.wait_for_port(port, process=receiver)
            forged = httpx.post(
                ours["RECEIVER"], content=b"{}", headers={"webhook-id": "x", "webhook-signature": "v1,x"}
            )
            job = json.loads(shell([f"{submit} --json"], work_dir, stack | ours))
            while not (line := receiver.stdout.readline()).count(" done "):
                assert line
        finally:
            receiver.terminate()

    assert forged.status_code == 400
    assert line.split()[1:] == [job["id"], "done", "2"]
    assert job["id"] in shell(log_commands[:1], work_dir, stack)
    assert json.loads(shell(log_commands[1:], work_dir, stack)) == {"deliveries": []}


def test_a_key_is_made_limited_and_revoked(stack, work_dir):
    *lines, revoke = commands("howto/keys-and-limits.md")
    (program,) = blocks("howto/keys-and-limits.md", "python")

    output = shell([*lines, "echo $CAMERA_KEY $CAMERA_ID"], work_dir, stack)
    key, id_ = output.splitlines()[-1].split()
    later = run([sys.executable, "-c", program], work_dir, stack | {"CAMERA_KEY": key}).split()
    shell([revoke], work_dir, stack | {"CAMERA_ID": id_})
    response = httpx.get(f"{stack['SORTBELT_URL']}/v1/jobs", headers={"Authorization": f"Bearer {key}"})

    assert 'ratelimit-policy: "images";q=600;w=60' in output.lower()
    assert "lunch.jpg" in output
    assert later[:2] == ["429", "rate_limited"]
    assert 0 < float(later[2]) <= 60
    assert (response.status_code, response.json()["code"]) == (401, "no_key")


@pytest.fixture(scope="module")
def image_bucket(s3_url, tmp_path_factory):
    """Create a bucket with twenty images and a text file."""
    lunch = tmp_path_factory.mktemp("photos") / "lunch.jpg"
    Image.new("RGB", (200, 150), (90, 120, 80)).save(lunch)
    objects = {f"2026/january/{number}.jpg": lunch.read_bytes() for number in range(20)}
    servers.create_bucket(s3_url, "photos", objects | {"2026/notes.txt": b"not an image"})


def test_a_bucket_is_classified_and_a_repeat_sends_nothing(stack, work_dir, image_bucket):
    (line,) = (line for line in commands("howto/bulk-from-s3.md") if line.startswith("python "))

    printed = shell([line], work_dir, stack)
    again = shell([line], work_dir, stack)

    assert len(printed.splitlines()) == 20
    assert sorted(again.splitlines()) == sorted(printed.splitlines())


def test_a_bucket_and_a_folder_are_classified_in_place(stack, work_dir, image_bucket):
    _, _, sources, bucket, folder, *curl = [
        line
        for line in commands("howto/bulk-from-s3.md")
        if not line.startswith(("python ", "export HTTPS_PROXY"))  # there is no proxy here
    ]
    camera = Path(stack["SORTBELT_SOURCES"].rpartition("camera=")[2])
    (camera / "january").mkdir(parents=True)
    Image.new("RGB", (64, 64), (1, 2, 3)).save(camera / "january" / "dinner.jpg")

    assert "camera" in shell([sources], work_dir, stack)
    jobs = [json.loads(shell([f"{line} --json"], work_dir, stack)) for line in (bucket, folder)]
    last = shell([*curl[:-1], f"{curl[-1]} --json"], work_dir, stack)

    assert [job["counts"]["done"] for job in jobs] == [20, 1]
    assert json.loads(last.splitlines()[-1])["counts"]["done"] == 20
    dinner = hashlib.sha256((camera / "january" / "dinner.jpg").read_bytes()).hexdigest()
    assert not list(Path(stack["SORTBELT_DATA_DIR"], "blobs").rglob(dinner))


def test_the_sql_queries_run(stack, work_dir):
    shell(["sortbelt submit lunch.jpg dinner.jpg --wait"], work_dir, stack)

    printed = shell(commands("howto/query-with-sql.md"), work_dir, stack)

    assert "sushi-or-sandwich" in printed
    assert (work_dir / "jobs.csv").read_text().startswith("id,owner,model")


def test_the_operator_s_commands_run(stack, work_dir):
    """Every command of the how-to runs, and prints the metrics that it says to monitor."""
    ours = {
        "SORTBELT_DATABASE_URL": f"sqlite:///{stack['SORTBELT_DATA_DIR']}/sortbelt.db",
        "SORTBELT_BLOB_STORE": f"{stack['SORTBELT_DATA_DIR']}/blobs",
    }

    lines = [line for line in commands("howto/operate.md") if not TRACES.search(line)]
    printed = shell(lines, work_dir, stack | ours)

    assert re.search(r"^sortbelt_images_open \d", printed, re.MULTILINE)
    assert 'sortbelt_workers{state="working"} 1.0' in printed
    assert '"status":"ready"' in printed


def test_a_trace_is_printed_as_on_the_page(work_dir, tmp_path_factory):
    """Except for durations and ids, and on a free port."""
    receive, start, submit = [line for line in commands("howto/operate.md") if TRACES.search(line)]
    switch, *words = start.split()
    port = str(servers.free_port())
    ours = dict([switch.split("=")]) | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    (shown,) = blocks("howto/operate.md", "text")
    program = [sys.executable, *receive.split()[1:], port]

    with subprocess.Popen(program, cwd=work_dir, stdout=subprocess.PIPE, text=True) as receiver:
        try:
            assert port in receiver.stdout.readline()
            with run_stack(tmp_path_factory.mktemp("data"), words, **ours) as environ:
                shell([submit], work_dir, environ)
                printed, names = [], {_span_name(line) for line in shown.splitlines()}
                while not names <= {_span_name(line) for line in printed}:
                    printed.append(receiver.stdout.readline())
                    assert printed[-1], printed
        finally:
            receiver.terminate()

    assert _constant(printed) == _constant(shown.splitlines())


def _span_name(line):
    return line.split()[2]


def _constant(lines):
    """Return the constant parts of the lines of a trace: without durations, ids and transactions."""
    kept = [re.sub(r"\d+\.\d ms|job [0-9a-f-]{36}", "", line).split() for line in lines if "transaction" not in line]
    return sorted(["the caller's" if id_ == "4bf92f35" else "a new one", *more] for id_, *more in kept)


def test_a_second_worker_takes_its_share(stack, work_dir):
    announcement = data_directory.read_announcement(Path(stack["SORTBELT_DATA_DIR"]))
    ours = {
        "SORTBELT_DATABASE_URL": f"sqlite:///{stack['SORTBELT_DATA_DIR']}/sortbelt.db",
        "SORTBELT_REDIS_URL": announcement.redis_url,
        "SORTBELT_BLOB_STORE": f"{stack['SORTBELT_DATA_DIR']}/blobs",
    }
    lines = commands("howto/add-a-worker.md")
    exports = dict(re.fullmatch(r"export (\w+)=(\S+)", line).groups() for line in lines if line.startswith("export"))
    (start,) = (line for line in lines if line.startswith("python -m worker"))
    (check,) = (line for line in lines if line.startswith("curl"))
    assert exports.keys() == ours.keys()

    environ = {
        name: value
        for name, value in stack.items()
        if name not in {"SORTBELT_URL", "SORTBELT_KEY", "SORTBELT_DATA_DIR"}
    }
    with subprocess.Popen(["bash", "-c", f"exec {start}"], env=environ | ours, cwd=work_dir) as worker:
        try:
            deadline = time.monotonic() + 120
            while f":{worker.pid}:" not in shell([check], work_dir, stack):
                assert time.monotonic() < deadline
                time.sleep(0.5)
        finally:
            worker.terminate()


@pytest.mark.timeout(900)
def test_the_tutorial_ends_with_sorted_images(work_dir):
    """Every step runs: the labels are not tested here."""
    lines = [line for line in commands("tutorial.md") if line != "make setup" and not line.startswith("source ")]
    (start,) = (line for line in lines if line.endswith("sortbelt up"))
    at = lines.index(start)
    shell(lines[:at], work_dir, {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"})
    settings = dict(word.split("=") for word in start.replace("$PWD", str(work_dir)).split() if "=" in word)

    with run_stack(work_dir / "data", **settings) as environ:
        printed = shell(lines[at + 1 :], work_dir, environ)
        program = run([sys.executable, "-c", blocks("tutorial.md", "python")[0]], work_dir, environ)
        response = httpx.get(
            f"{environ['SORTBELT_URL']}/v1/results", headers={"Authorization": f"Bearer {environ['SORTBELT_KEY']}"}
        )

    assert len(list((work_dir / "sorted").rglob("*.jpg"))) == 20
    assert (work_dir / "labels.csv").read_text().count("\n") == 21
    assert len(program.splitlines()) == 2
    assert {result["model"]["name"] for result in response.json()["results"]} == {"lunch"}
    assert printed


@pytest.mark.timeout(900)
def test_the_page_on_training_trains_and_evaluates(work_dir):
    """Every step runs."""
    run([sys.executable, "docs/examples/draw.py", "photos", "6"], work_dir, os.environ)
    *lines, start = commands("howto/train-your-own.md")
    assert start.endswith("sortbelt up")

    shell(lines, work_dir, {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"})

    assert (work_dir / "models" / "lunch" / "CARD.md").exists()
    assert list((work_dir / "report").iterdir())
