import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time

import click
import pytest

from sortbelt.cli import main
from sortbelt.cli.commands import jobs
from sortbelt.client import responses
from tests.support import fake_api, waiting


def walk(found=main.cli, path=()):
    """Every command with the words by which it is called."""
    yield path, found
    if isinstance(found, click.Group):
        with click.Context(found) as context:
            for name in found.list_commands(context):
                yield from walk(found.get_command(context, name), (*path, name))


@pytest.mark.parametrize(("path", "found"), [pytest.param(p, f, id=" ".join(p)) for p, f in walk()])
def test_every_command_has_help_with_an_example(path, found):
    with click.Context(found, info_name="sortbelt") as context:
        text = found.get_help(context)

    assert "Example" in text
    assert " ".join(("sortbelt", *path)) in text


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_list_of_commands_says_what_each_says_of_itself(name):
    found = main.cli.get_command(None, name)

    assert found.name == name
    assert found.help.startswith(main.COMMANDS[name][1])


def test_help_is_shown_without_importing_what_only_the_commands_need():
    script = (
        "import sys; from sortbelt.cli import main; main.cli(['--help'], standalone_mode=False); print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = set(run.stdout.rpartition("\n")[2].split() or run.stdout.splitlines()[-1].split())

    assert "click" in modules
    assert not {"httpx", "rich", "flask", "torch", "sqlalchemy", "celery"} & modules


UNNEEDED_AT_THE_START = {
    *("rich", "pygments"),  # for terminals only, and for a command of httpx
    *("bz2", "gzip", "tarfile", "zipfile"),  # for archives only
    *("csv", "html", "click.shell_completion"),  # for single options, notebooks and the tab key
    *("sortbelt.client.async_client", "sortbelt.client.responses.administration"),
}


def modules_at_the_exit(server, *words):
    """The modules that a command has imported when it exits, beyond those of its libraries, and what it printed."""
    script = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); "
    libraries = "sys.modules['httpx._main'] = None; import click, httpx, httpcore"
    command = "from sortbelt.cli import main; main.main(sys.argv[1:])"
    environment = {**os.environ, "SORTBELT_URL": server.url, "SORTBELT_KEY": fake_api.KEY}
    bare, ours = (
        subprocess.run(
            [sys.executable, "-c", script + code, *words], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for code in (libraries, command)
    )
    printed, _, modules = ours.rstrip("\n").rpartition("\n")
    return set(modules.split()) - set(bare.split()), printed


@pytest.mark.parametrize(
    ("words", "limit"), [(["--help"], 10), (["jobs"], 45), (["submit", "{}/a.jpg"], 48), (["enqueue", "{}"], 78)]
)
def test_a_command_imports_little_more_than_its_libraries(server, tmp_path, monkeypatch, words, limit):
    """The time that a command takes to start is that of its imports: a count bounds it on any machine."""
    (tmp_path / "a.jpg").write_bytes(b"image")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    modules, printed = modules_at_the_exit(server, *(word.format(tmp_path) for word in words))

    assert printed or words == ["jobs"]
    assert not UNNEEDED_AT_THE_START & modules
    assert len(modules) <= limit


def test_a_command_creates_only_the_response_models_that_it_needs():
    script = "import sys; from sortbelt.cli import main; main.cli.get_command(None, 'enqueue'); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    models = {name for name in run.stdout.split() if name.startswith("sortbelt.client.responses.")}
    assert models == {"sortbelt.client.responses.jobs", "sortbelt.client.responses.timestamps"}


def test_no_time_is_spent_on_looking_for_garbage_in_what_a_command_imports():
    """But for a few times when collections are allowed again; without the pause there are about sixty."""
    script = "import atexit, gc; from sortbelt.cli import main; found = []; look = lambda *_: found.append(1)"
    script += "; gc.callbacks.append(look); main.cli.get_command(None, 'enqueue'); gc.callbacks.remove(look)"
    script += "; print(len(found), gc.isenabled(), flush=True)"
    script += "; atexit.register(lambda: print(gc.get_freeze_count() > 10_000)); main.main(['--version'])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    first, *_, last = run.stdout.splitlines()
    found, is_enabled = first.split()
    assert int(found) <= 10
    assert (is_enabled, last) == ("True", "True")


def test_the_client_needs_nothing_of_the_servers():
    script = (
        "import sys, sortbelt.client.sync_client, sortbelt.bulk.runner, sortbelt.local.supervisor; print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    tops = {name.partition(".")[0] for name in run.stdout.split()}

    assert not {"api", "worker", "model", "jobs", "migrations", "flask", "torch", "sqlalchemy", "celery"} & tops


def test_an_unknown_command_is_wrong_usage(run_cli):
    run = run_cli("classify")

    assert run.code == 2
    assert "sortbelt --help" in run.err


@pytest.mark.parametrize("arguments", [["status", "x"], ["submit", __file__], ["enqueue", "photos"]])
def test_no_server_is_exit_code_3_soon_and_in_one_sentence(run_cli, monkeypatch, tmp_path, arguments):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SORTBELT_URL", "http://127.0.0.1:1")
    started = time.monotonic()

    run = run_cli(*arguments)

    assert (run.code, run.out) == (3, "")
    assert run.err.splitlines()[-1].startswith("sortbelt: No Sortbelt server responds at http://127.0.0.1:1")
    assert time.monotonic() - started < 30  # a server that is busy is waited for, for 60


def test_no_server_known_is_exit_code_3(run_cli, monkeypatch):
    monkeypatch.delenv("SORTBELT_URL")

    run = run_cli("status", "x")

    assert run.code == 3
    assert "sortbelt up" in run.err


def test_no_key_and_a_wrong_key_are_exit_code_2(run_cli, monkeypatch):
    monkeypatch.setenv("SORTBELT_KEY", "sb_wrong")
    wrong = run_cli("status", "x")
    monkeypatch.delenv("SORTBELT_KEY")
    none = run_cli("status", "x")

    assert (wrong.code, none.code) == (2, 2)
    assert "The key is not valid. Check SORTBELT_KEY." in wrong.err
    assert "No key for" in none.err


def test_an_unknown_job_is_exit_code_2(run_cli):
    for verb in ("status", "wait", "cancel", "results"):
        run = run_cli(verb, "no.such")

        assert (run.code, run.out) == (2, "")
        assert "There is no job 'no.such' that this key may see" in run.err


def test_a_fault_of_the_server_names_the_request(run_cli, server):
    server.faults = [500]

    run = run_cli("status", "x")

    assert run.code == 3
    assert "(request req-1)" in run.err


def test_a_mistake_of_our_own_is_one_line(run_cli, monkeypatch):
    monkeypatch.setattr("sortbelt.client.sync_client.Client.job", lambda *_: 1 / 0)

    run = run_cli("status", "x")

    assert run.code == 1
    assert run.err.startswith("sortbelt: This is a bug in sortbelt (ZeroDivisionError")
    assert "Traceback" not in run.err


def test_what_the_server_says_cannot_command_the_terminal(run_cli):
    run = run_cli("status", "\x1b[2J")

    assert "\x1b" not in run.err


def test_submit_prints_the_job(run_cli, server, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")

    run = run_cli("submit", tmp_path / "a.jpg")
    report = json.loads(run_cli("submit", tmp_path / "a.jpg", "--json").out)

    assert run.code == 0
    assert run.out.split("\t")[0] in server.jobs
    assert report["counts"]["total"] == 1


def test_submit_and_wait_shows_every_image(run_cli, tmp_path):
    for name in ("a.jpg", "broken.jpg"):
        (tmp_path / name).write_bytes(b"1")

    well = run_cli("submit", tmp_path / "a.jpg", "--wait")
    some = run_cli("submit", tmp_path / "a.jpg", tmp_path / "broken.jpg", "--wait", "--json")

    assert (well.code, well.out) == (0, "a.jpg\tdone\tsushi\t0.7500\t\n")
    assert some.code == 1
    assert [r["status"] for r in json.loads(some.out)["results"]] == ["done", "failed"]


def test_status_wait_and_cancel_show_the_job(run_cli, server, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    server.polls_until_done = 3
    job = json.loads(run_cli("submit", tmp_path / "a.jpg", "--json").out)["id"]

    assert json.loads(run_cli("status", job, "--json").out)["status"] == "queued"
    outcome = f"{job}\tdone\t1\t0\t0\t1\t0\t0\t0\t\t2026-01-31T12:00:00+00:00\tme\tfake\n"
    assert run_cli("wait", job).out == outcome
    assert json.loads(run_cli("cancel", job, "--json").out)["status"] == "cancelled"
    assert run_cli("wait", job).code == 1


def test_waiting_too_long_is_exit_code_1(run_cli, server, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    server.polls_until_done = 10_000
    job = json.loads(run_cli("submit", tmp_path / "a.jpg", "--json").out)["id"]

    run = run_cli("wait", job, "--timeout", "0.1")

    assert run.code == 1
    assert "has not ended after 0.1 s" in run.err


def test_ctrl_c_says_how_to_go_on(server, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    server.polls_until_done = 10_000
    environ = {**os.environ, "SORTBELT_URL": server.url, "SORTBELT_KEY": "sb_00000000_fake"}
    words = [sys.executable, "-m", "sortbelt", "submit", str(tmp_path / "a.jpg"), "--wait"]
    with subprocess.Popen(words, env=environ, stderr=subprocess.PIPE, text=True) as run:
        waiting.wait_until(lambda: any(method == "GET" for method, _, _ in server.requests))
        run.send_signal(signal.SIGINT)
        said = run.communicate(timeout=100)[1]

    (job,) = server.jobs
    assert run.returncode == 130
    assert said.splitlines()[-1] == f"sortbelt: Stopped. The job goes on: `sortbelt wait {job}` waits for it."
    assert "Traceback" not in said


def test_results_are_found_filtered_and_written(run_cli, tmp_path):
    for name in ("a.jpg", "b.jpg", "broken.jpg"):
        (tmp_path / name).write_bytes(b"1")
    job = json.loads(run_cli("submit", *tmp_path.glob("*.jpg"), "--json").out)["id"]

    assert len(run_cli("results", job).out.splitlines()) == 3
    assert len(json.loads(run_cli("results", job, "--json").out)["results"]) == 3
    assert run_cli("results", job, "--limit", "1").out.count("\n") == 1
    assert run_cli("results", job, "--status", "failed").out.startswith("broken.jpg\tfailed")
    assert run_cli("results", "--label", "sushi", "--format", "csv").out.count(",sushi,") == 2
    assert run_cli("results", job, "--out", tmp_path / "o.csv").out == ""
    assert (tmp_path / "o.csv").read_text().startswith("image,job_id")


def test_a_search_that_shows_only_the_first_says_so(run_cli, monkeypatch, tmp_path):
    monkeypatch.setattr("sortbelt.cli.commands.results.DEFAULT_LIMIT", 2)
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(b"1")
    run_cli("submit", *tmp_path.glob("*.jpg"))

    run = run_cli("results")

    assert len(run.out.splitlines()) == 2
    assert "more than these 2" in run.err


def test_results_that_cannot_be_written_are_one_sentence(run_cli, tmp_path):
    run = run_cli("results", "--out", tmp_path / "none" / "o.csv")

    assert run.code == 2
    assert "none/o.csv cannot be written: No such file or directory. Name another file.\n" in run.err


def test_keys_are_made_listed_and_revoked(run_cli):
    made = run_cli("keys", "create", "camera", "--role", "read")

    assert made.out == "sb_1_secret1\n"
    assert "not shown again" in made.err
    assert "camera\tread" in run_cli("keys", "list").out
    assert json.loads(run_cli("keys", "revoke", "1", "--json").out)["revoked_at"]


def test_keys_have_limits_and_an_end(run_cli, server):
    """As numbers and spans, none and default; what is not named is not sent."""
    run_cli("keys", "create", "camera", "--images-per-minute", "600", "--open-bytes", "none", "--expires-in", "90d")
    assert {"images_per_minute": 600, "open_bytes": 0, "expires_in": 90 * 86_400}.items() <= server.keys["1"].items()
    assert "600 images per minute, any open bytes" in run_cli("keys", "list").out
    changed = run_cli("keys", "set", "1", "--images-per-minute", "default", "--expires-in", "never", "--json")
    assert (changed.code, server.keys["1"]["open_bytes"]) == (0, 0)
    assert (server.keys["1"]["images_per_minute"], server.keys["1"]["expires_in"]) == (None, None)


@pytest.mark.parametrize("wrong", [["--open-images", "0"], ["--open-images", "few"], ["--expires-in", "90"], []])
def test_limits_that_are_none_are_refused(run_cli, wrong):
    assert run_cli("keys", "set", "1", *wrong).code == 2


def test_images_are_submitted_with_identifiers(run_cli, server, tmp_path):
    """One for each, in order; a number that differs is a mistake."""
    files = [tmp_path / name for name in ("a.jpg", "b.jpg")]
    for file in files:
        file.write_bytes(b"x")
    assert run_cli("submit", *files, "--custom-id", "order-1", "--custom-id", "order-2").code == 0
    (job,) = server.jobs.values()
    assert json.loads(job["choices"]["custom_ids"]) == {"a.jpg": "order-1", "b.jpg": "order-2"}
    refused = run_cli("submit", *files, "--custom-id", "order-1")
    assert refused.code == 2
    assert "for each FILE" in refused.err


def test_when_a_job_will_be_over_is_reported_as_a_range():
    """In local time; unknown bounds are left out, and an ended job has no message."""
    now = dt.datetime.now().astimezone().replace(hour=12, minute=0, second=0, microsecond=0)
    counts = dict.fromkeys(("total", "queued", "running", "done", "failed", "cancelled", "expired"), 0)

    def said(**times):
        raw = {"id": "a", "status": "running", "counts": counts}
        raw |= {f"{name}_finish": (now + dt.timedelta(seconds=later)).isoformat() for name, later in times.items()}
        return jobs.eta_message(responses.Job.from_json(raw))

    assert said() is None
    assert said(estimated=60) == "Estimated end: 12:01:00."
    whole = said(earliest=30, estimated=60, latest=3 * 86_400)
    assert whole.startswith("Estimated end: 12:01:00 (probably not before 12:00:30 and not after 2")
