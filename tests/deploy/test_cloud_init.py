"""Check the cloud-init user data, and run its script with stub commands."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from core import settings
from sortbelt import version

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "ec2" / "cloud-init.yml").read_text(encoding="utf-8")
FILES = {file["path"]: file for file in yaml.safe_load(TEXT)["write_files"]}
START = FILES["/usr/local/sbin/sortbelt-start"]["content"]


@pytest.fixture
def run_cloud_init(tmp_path):
    """Return a function that runs the start script with stub commands; it returns the exit code and their calls."""
    (tmp_path / "repository").mkdir()
    for name in ("git", "docker", "aws", "install", "rm"):
        command = tmp_path / name
        command.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/called\n')
        command.chmod(0o755)

    def start(role):
        machine = tmp_path / "machine.env"
        template = FILES["/etc/sortbelt/machine.env"]["content"]
        machine.write_text(re.sub(r"^ROLE=.*$", f"ROLE={role}", template, flags=re.MULTILINE))
        script = START.replace("/etc/sortbelt", str(tmp_path)).replace("/opt/sortbelt", str(tmp_path / "repository"))
        script = script.replace("sh deploy/secrets.sh", f"echo secrets >> {tmp_path}/called")
        run = ["sh", "-c", script]
        done = subprocess.run(
            run, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=False
        )
        called = tmp_path / "called"
        return done.returncode, called.read_text().splitlines() if called.exists() else []

    return start


def test_the_file_is_valid_user_data():
    """The first line identifies the format, and `runcmd` runs a script that the file writes."""
    assert TEXT.startswith("#cloud-config\n")
    assert yaml.safe_load(TEXT)["runcmd"][-1] == ["/usr/local/sbin/sortbelt-start"]
    assert FILES["/etc/sortbelt/machine.env"]["permissions"] == "0600"


def test_every_variable_is_a_setting_that_exists():
    """Every SORTBELT_… variable in the script is a field of the settings."""
    named = set(re.findall(r"\bSORTBELT_\w+", TEXT))
    fields = {name.removeprefix(settings.ENV_PREFIX).removesuffix("_FILE").lower() for name in named}
    assert fields <= set(settings.Settings.model_fields)


def test_everything_is_started_by_compose(run_cloud_init):
    """The role `compose` creates secrets and starts the compose file."""
    assert run_cloud_init("compose") == (0, ["secrets", "docker compose up --detach --build"])


def test_a_gpu_worker_has_no_more_privileges_than_that_of_compose(run_cloud_init):
    """It has the same user, no capabilities, a read-only file system, and secrets from the Parameter Store."""
    code, called = run_cloud_init("worker-gpu")
    assert code == 0
    assert [line.split("--name ")[1].split()[0] for line in called if line.startswith("aws")] == [
        "/sortbelt/database_url",
        "/sortbelt/redis_url",
    ]
    (run,) = [line for line in called if line.startswith("docker run")]
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]["worker-gpu"]
    expected = ["--init", "--read-only", "--tmpfs /tmp", f"--user {service['user']}", f"--restart {service['restart']}"]
    expected += [f"--cap-drop {service['cap_drop'][0]}", f"--security-opt {service['security_opt'][0]}", "--gpus all"]
    expected += [f"--pids-limit {service['pids_limit']}", f"--stop-timeout {service['stop_grace_period'].rstrip('s')}"]
    assert [option for option in expected if option not in run] == []
    assert run.endswith(f"sortbelt-worker-gpu:{version.VERSION}")
    assert {name for name in service["environment"] if name != "SORTBELT_BLOB_STORE"} <= set(
        re.findall(r"SORTBELT_\w+", run)
    )


def test_an_unknown_role_is_refused(run_cloud_init):
    assert run_cloud_init("workers") == (2, [])


def test_a_revision_is_built_and_no_branch():
    """Row 13: a tag of this version by default; a commit id can be fetched too."""
    assert f"REVISION=v{version.VERSION}\n" in FILES["/etc/sortbelt/machine.env"]["content"]
    assert 'fetch --depth 1 "$SOURCE" "$REVISION"' in START
    assert "--branch" not in START
