"""The tutorial and the how-tos do what they say: their snippets run as they stand, against a real stack."""

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

from sortbelt import datafolder
from tests import servers

REPOSITORY = Path(__file__).parent.parent.parent
DOCS = REPOSITORY / "docs"
BIN = Path(sys.executable).parent
TRACES = re.compile("trace|TRACING")


def blocks(page, language):
    """The blocks of a page in a language, in lists too."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return ["\n".join(line.removeprefix(indent) for line in block.splitlines()) for indent, block in found]


def typed(page):
    """What a page has typed in a shell."""
    return [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]


@contextlib.contextmanager
def up(folder, words=("sortbelt", "up"), **settings):
    """A stack that runs for as long as it is wanted: its process's environment for those who use it."""
    environ = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **settings}
    command = [*words, "--json", "--port", "0", "--data-dir", str(folder)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            ready = json.loads(process.stdout.readline())
            where = {"SORTBELT_URL": ready["url"], "SORTBELT_KEY": ready["key"], "SORTBELT_DATA_DIR": str(folder)}
            yield environ | where
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def listed(s3, tmp_path_factory):
    """The sources that a page has exported, with what finds the bucket; $PWD is a folder of its own."""
    export, _ = [line for line in typed("howto/bulk-from-s3.md") if line.startswith(("export", "sortbelt up"))]
    name, said = re.fullmatch(r'export (\w+)="(.*)"', export).groups()
    return servers.s3_variables(s3) | {name: said.replace("$PWD", str(tmp_path_factory.mktemp("server")))}


@pytest.fixture(scope="module")
def stack(tmp_path_factory, listed):
    """The stack that most pages speak of."""
    with up(tmp_path_factory.mktemp("data"), SORTBELT_WEBHOOK_ALLOW="127.0.0.0/8", **listed) as environ:
        yield environ


@pytest.fixture
def here(tmp_path):
    """A folder with two pictures, and with the documents where the repository has them."""
    for name in ("lunch.jpg", "dinner.jpg"):
        Image.new("RGB", (200, 150), (200, 120, 80)).save(tmp_path / name)
    (tmp_path / "docs").symlink_to(DOCS)
    return tmp_path


def run(words, here, environ):
    """Run something in a folder; what it printed."""
    environ = {**environ, "XDG_STATE_HOME": str(here / "state")}
    done = subprocess.run(words, cwd=here, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shell(lines, here, environ):
    """Run lines in one shell, which stops at the first that fails."""
    return run(["bash", "-e", "-c", "\n".join(lines)], here, environ)


def test_curl_submits_and_polls(stack, here):
    if not shutil.which("curl"):
        pytest.skip("there is no curl on this machine")

    results = json.loads(shell(typed("howto/submit-and-poll.md"), here, stack))["results"]

    assert {one["image"] for one in results} == {"lunch.jpg", "dinner.jpg"}
    assert all(one["label"] for one in results)


@pytest.mark.parametrize("number", [0, 1])
def test_python_submits_and_polls(stack, here, number):
    printed = run([sys.executable, "-c", blocks("howto/submit-and-poll.md", "python")[number]], here, stack)

    assert sorted(line.split()[0] for line in printed.splitlines()) == ["dinner.jpg", "lunch.jpg"]


def test_javascript_submits_and_polls(stack, here):
    if not shutil.which("node"):
        pytest.skip("there is no node on this machine")
    (program,) = blocks("howto/submit-and-poll.md", "javascript")
    (here / "submit.mjs").write_text(program, encoding="utf-8")

    printed = run(["node", "submit.mjs"], here, stack)

    assert sorted(line.split()[0] for line in printed.splitlines()) == ["dinner.jpg", "lunch.jpg"]


@pytest.mark.parametrize(
    ("language", "command"),
    [("python", [sys.executable, "-u", "-c"]), ("javascript", ["node", "--input-type=module", "-e"])],
)
def test_a_receiver_is_told_and_knows_by_whom(stack, here, language, command):
    if not shutil.which(command[0]):
        pytest.skip(f"there is no {command[0]} on this machine")
    (program,) = blocks("howto/webhooks.md", language)
    submit, secret, *look = typed("howto/webhooks.md")
    port = servers.free_port()
    ours = {"PORT": str(port), "RECEIVER": f"http://127.0.0.1:{port}/labels"}
    ours["WEBHOOK_SECRET"] = shell([secret, "echo $WEBHOOK_SECRET"], here, stack).strip()

    with subprocess.Popen(
        [*command, program], env=stack | ours, stdout=subprocess.PIPE, text=True, cwd=here
    ) as receiver:
        try:
            servers.wait_for_port(port, process=receiver)
            forged = httpx.post(
                ours["RECEIVER"], content=b"{}", headers={"webhook-id": "x", "webhook-signature": "v1,x"}
            )
            job = json.loads(shell([f"{submit} --json"], here, stack | ours))
            while not (told := receiver.stdout.readline()).count(" done "):
                assert told
        finally:
            receiver.terminate()

    assert forged.status_code == 400
    assert told.split()[1:] == [job["id"], "done", "2"]
    assert job["id"] in shell(look[:1], here, stack)
    assert json.loads(shell(look[1:], here, stack)) == {"deliveries": []}


def test_a_key_is_made_limited_and_revoked(stack, here):
    *lines, revoke = typed("howto/keys-and-limits.md")
    (program,) = blocks("howto/keys-and-limits.md", "python")

    told = shell([*lines, "echo $CAMERA_KEY $CAMERA_ID"], here, stack)
    key, id_ = told.splitlines()[-1].split()
    later = run([sys.executable, "-c", program], here, stack | {"CAMERA_KEY": key}).split()
    shell([revoke], here, stack | {"CAMERA_ID": id_})
    answer = httpx.get(f"{stack['SORTBELT_URL']}/v1/jobs", headers={"Authorization": f"Bearer {key}"})

    assert 'ratelimit-policy: "images";q=600;w=60' in told.lower()
    assert "lunch.jpg" in told
    assert later[:2] == ["429", "rate_limited"]
    assert 0 < float(later[2]) <= 60
    assert (answer.status_code, answer.json()["code"]) == (401, "no_key")


@pytest.fixture(scope="module")
def photos(s3, tmp_path_factory):
    """A bucket with twenty pictures and something else."""
    lunch = tmp_path_factory.mktemp("photos") / "lunch.jpg"
    Image.new("RGB", (200, 150), (90, 120, 80)).save(lunch)
    objects = {f"2026/january/{number}.jpg": lunch.read_bytes() for number in range(20)}
    servers.fill_bucket(s3, "photos", objects | {"2026/notes.txt": b"no picture"})


def test_a_bucket_is_put_through_and_a_repeat_sends_nothing(stack, here, photos):
    (line,) = (line for line in typed("howto/bulk-from-s3.md") if line.startswith("python "))

    printed = shell([line], here, stack)
    again = shell([line], here, stack)

    assert len(printed.splitlines()) == 20
    assert sorted(again.splitlines()) == sorted(printed.splitlines())


def test_a_bucket_and_a_folder_are_classified_where_they_lie(stack, here, photos):
    _, _, sources, bucket, folder, *curl = [
        line for line in typed("howto/bulk-from-s3.md") if not line.startswith("python ")
    ]
    camera = Path(stack["SORTBELT_SOURCES"].rpartition("camera=")[2])
    (camera / "january").mkdir(parents=True)
    Image.new("RGB", (64, 64), (1, 2, 3)).save(camera / "january" / "dinner.jpg")

    assert "camera" in shell([sources], here, stack)
    told = [json.loads(shell([f"{line} --json"], here, stack)) for line in (bucket, folder)]
    last = shell([*curl[:-1], f"{curl[-1]} --json"], here, stack)

    assert [one["counts"]["done"] for one in told] == [20, 1]
    assert json.loads(last.splitlines()[-1])["counts"]["done"] == 20
    dinner = hashlib.sha256((camera / "january" / "dinner.jpg").read_bytes()).hexdigest()
    assert not list(Path(stack["SORTBELT_DATA_DIR"], "blobs").rglob(dinner))


def test_the_questions_in_sql_are_answered(stack, here):
    shell(["sortbelt submit lunch.jpg dinner.jpg --wait"], here, stack)

    printed = shell(typed("howto/query-with-sql.md"), here, stack)

    assert "sushi-or-sandwich" in printed
    assert (here / "jobs.csv").read_text().startswith("id,owner,model")


def test_who_operates_it_sees_how_it_stands(stack, here):
    """Every command of the how-to, and the three numbers that it says to watch."""
    ours = {
        "SORTBELT_DATABASE_URL": f"sqlite:///{stack['SORTBELT_DATA_DIR']}/sortbelt.db",
        "SORTBELT_BLOBS": f"{stack['SORTBELT_DATA_DIR']}/blobs",
    }

    lines = [line for line in typed("howto/operate.md") if not TRACES.search(line)]
    printed = shell(lines, here, stack | ours)

    assert re.search(r"^sortbelt_images_open \d", printed, re.MULTILINE)
    assert 'sortbelt_workers{state="working"} 1.0' in printed
    assert '"status":"ready"' in printed


def test_a_trace_is_printed_as_the_page_shows_it(here, tmp_path_factory):
    """All but the durations and the ids, on another port than the usual one."""
    receive, start, submit = [line for line in typed("howto/operate.md") if TRACES.search(line)]
    switch, *words = start.split()
    port = str(servers.free_port())
    ours = dict([switch.split("=")]) | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    (shown,) = blocks("howto/operate.md", "text")
    program = [sys.executable, *receive.split()[1:], port]

    with subprocess.Popen(program, cwd=here, stdout=subprocess.PIPE, text=True) as receiver:
        try:
            assert port in receiver.stdout.readline()
            with up(tmp_path_factory.mktemp("data"), words, **ours) as environ:
                shell([submit], here, environ)
                printed = []
                while not {"bell", "commit"} <= {line.split()[2] for line in printed}:
                    printed.append(receiver.stdout.readline())
                    assert printed[-1], printed
        finally:
            receiver.terminate()

    assert _constant(printed) == _constant(shown.splitlines())


def _constant(lines):
    """What lines of a trace have in common each time: not how long it took, nor what was asked of the database."""
    kept = [re.sub(r"\d+\.\d ms|job [0-9a-f-]{36}", "", line).split() for line in lines if "transaction" not in line]
    return sorted(["the caller's" if id_ == "4bf92f35" else "ours", *more] for id_, *more in kept)


def test_a_second_worker_takes_its_share(stack, here):
    up = datafolder.last_announced(Path(stack["SORTBELT_DATA_DIR"]))
    ours = {
        "SORTBELT_DATABASE_URL": f"sqlite:///{stack['SORTBELT_DATA_DIR']}/sortbelt.db",
        "SORTBELT_REDIS_URL": up.redis_url,
        "SORTBELT_BLOBS": f"{stack['SORTBELT_DATA_DIR']}/blobs",
    }
    lines = typed("howto/add-a-worker.md")
    exports = dict(re.fullmatch(r"export (\w+)=(\S+)", line).groups() for line in lines if line.startswith("export"))
    (start,) = (line for line in lines if line.startswith("python -m worker"))
    (look,) = (line for line in lines if line.startswith("curl"))
    assert exports.keys() == ours.keys()

    environ = {
        name: value
        for name, value in stack.items()
        if name not in {"SORTBELT_URL", "SORTBELT_KEY", "SORTBELT_DATA_DIR"}
    }
    with subprocess.Popen(["bash", "-c", f"exec {start}"], env=environ | ours, cwd=here) as worker:
        try:
            deadline = time.monotonic() + 120
            while f":{worker.pid}:" not in shell([look], here, stack):
                assert time.monotonic() < deadline
                time.sleep(0.5)
        finally:
            worker.terminate()


@pytest.mark.timeout(900)
def test_the_tutorial_ends_with_sorted_pictures(here):
    """As it stands, but for the number of epochs, since it is not the labels that are tried here."""
    lines = [line.replace("--epochs 12", "--epochs 1") for line in typed("tutorial.md")]
    lines = [line for line in lines if line != "make setup" and not line.startswith("source ")]
    (start,) = (line for line in lines if line.endswith("sortbelt up"))
    at = lines.index(start)
    shell(lines[:at], here, {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"})
    settings = dict(word.split("=") for word in start.replace("$PWD", str(here)).split() if "=" in word)

    with up(here / "data", **settings) as environ:
        printed = shell(lines[at + 1 :], here, environ)
        program = run([sys.executable, "-c", blocks("tutorial.md", "python")[0]], here, environ)
        answer = httpx.get(
            f"{environ['SORTBELT_URL']}/v1/results", headers={"Authorization": f"Bearer {environ['SORTBELT_KEY']}"}
        )

    assert len(list((here / "sorted").rglob("*.jpg"))) == 20
    assert (here / "labels.csv").read_text().count("\n") == 21
    assert len(program.splitlines()) == 2
    assert {one["model"]["name"] for one in answer.json()["results"]} == {"lunch"}
    assert printed


@pytest.mark.timeout(900)
def test_the_page_on_training_trains_and_judges(here):
    """As it stands, but for the number of epochs and folds."""
    run([sys.executable, "docs/examples/draw.py", "photos", "6"], here, os.environ)
    lines = [line.replace("--epochs 30 --folds 3", "--epochs 1") for line in typed("howto/train-your-own.md")]
    *lines, start = lines
    assert start.endswith("sortbelt up")

    shell(lines, here, {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"})

    assert (here / "models" / "lunch" / "CARD.md").exists()
    assert list((here / "report").iterdir())
