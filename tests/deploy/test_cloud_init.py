import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from jobs import settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "ec2" / "cloud-init.yml").read_text(encoding="utf-8")
FILES = {file["path"]: file for file in yaml.safe_load(TEXT)["write_files"]}
START = FILES["/usr/local/sbin/sortbelt-start"]["content"]


@pytest.fixture
def started(tmp_path):
    """Runs the start as a server would, with commands that only say how they were called."""
    (tmp_path / "repository").mkdir()
    for name in ("git", "docker", "aws", "install", "rm"):
        command = tmp_path / name
        command.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/called\n')
        command.chmod(0o755)

    def start(role):
        machine = tmp_path / "machine.env"
        given = FILES["/etc/sortbelt/machine.env"]["content"]
        machine.write_text(re.sub(r"^ROLE=.*$", f"ROLE={role}", given, flags=re.MULTILINE))
        script = START.replace("/etc/sortbelt", str(tmp_path)).replace("/opt/sortbelt", str(tmp_path / "repository"))
        script = script.replace("sh deploy/secrets.sh", f"echo secrets >> {tmp_path}/called")
        run = ["sh", "-c", script]
        done = subprocess.run(
            run, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=False
        )
        called = tmp_path / "called"
        return done.returncode, called.read_text().splitlines() if called.exists() else []

    return start


def test_it_is_what_cloud_init_takes():
    """The first line tells what it is, and the script that is run is one that is written."""
    assert TEXT.startswith("#cloud-config\n")
    assert yaml.safe_load(TEXT)["runcmd"][-1] == ["/usr/local/sbin/sortbelt-start"]
    assert FILES["/etc/sortbelt/machine.env"]["permissions"] == "0600"


def test_every_variable_is_a_setting_that_exists():
    """And those that the script names are those of docker-compose.yml."""
    named = set(re.findall(r"\bSORTBELT_\w+", TEXT))
    fields = {name.removeprefix(settings.PREFIX).removesuffix("_FILE").lower() for name in named}
    assert fields <= set(settings.Settings.model_fields)


def test_everything_is_started_by_compose(started):
    """With secrets of its own."""
    assert started("compose") == (0, ["secrets", "docker compose up --detach --build"])


def test_a_gpu_worker_has_no_more_power_than_that_of_compose(started):
    """The same user, no capability, nothing to write to; its secrets from the Parameter Store."""
    code, called = started("worker-gpu")
    assert code == 0
    assert [line.split("--name ")[1].split()[0] for line in called if line.startswith("aws")] == [
        "/sortbelt/database_url",
        "/sortbelt/redis_url",
    ]
    (run,) = [line for line in called if line.startswith("docker run")]
    asked = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]["worker-gpu"]
    wanted = ["--init", "--read-only", "--tmpfs /tmp", f"--user {asked['user']}", f"--restart {asked['restart']}"]
    wanted += [f"--cap-drop {asked['cap_drop'][0]}", f"--security-opt {asked['security_opt'][0]}", "--gpus all"]
    wanted += [f"--pids-limit {asked['pids_limit']}", f"--stop-timeout {asked['stop_grace_period'].rstrip('s')}"]
    assert [option for option in wanted if option not in run] == []
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert run.endswith(f"sortbelt-worker-gpu:{version}")
    assert {name for name in asked["environment"] if name != "SORTBELT_BLOBS"} <= set(re.findall(r"SORTBELT_\w+", run))


def test_an_unknown_role_is_refused(started):
    assert started("workers") == (2, [])
