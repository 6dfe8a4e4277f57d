"""Run deploy/secrets.sh and check the files that it creates."""

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from core import settings
from core.db.queries import api_keys

SCRIPT = Path(__file__).parents[2] / "deploy" / "secrets.sh"


def make(folder):
    return subprocess.run(["sh", SCRIPT, folder], check=False, capture_output=True, text=True)


def contents(folder):
    return {path.name: path.read_text(encoding="ascii").strip() for path in folder.iterdir()}


@pytest.fixture
def secrets_dir(tmp_path):
    folder = tmp_path / "secrets"
    assert make(folder).returncode == 0
    return folder


def test_only_the_owner_can_open_the_folder(secrets_dir):
    assert secrets_dir.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in secrets_dir.iterdir()} == {0o444}


def test_the_settings_read_the_secrets_from_their_files(secrets_dir):
    files = {
        f"SORTBELT_{name.upper()}_FILE": str(secrets_dir / name) for name in ("database_url", "redis_url", "admin_key")
    }

    read = settings.read(files)

    secrets = contents(secrets_dir)
    assert read.database_url == f"postgresql+psycopg://sortbelt:{secrets['postgres_password']}@postgres/sortbelt"
    assert read.redis_url == f"redis://:{secrets['redis_password']}@redis:6379/0"
    assert read.admin_key is not None
    assert api_keys.KEY_PATTERN.fullmatch(read.admin_key.get_secret_value())


def test_redis_gets_a_digest_of_the_password_and_forbids_dangerous_commands(secrets_dir):
    secrets = contents(secrets_dir)
    digest = hashlib.sha256(secrets["redis_password"].encode()).hexdigest()

    assert re.fullmatch(rf"user default on #{digest} ~\* &\* \+@all -@admin -@dangerous \+info", secrets["redis_acl"])


def test_two_folders_share_no_secret(secrets_dir, tmp_path):
    make(tmp_path / "other")

    assert not set(contents(secrets_dir).values()) & set(contents(tmp_path / "other").values())


def test_a_second_run_overwrites_nothing(secrets_dir):
    before = contents(secrets_dir)

    done = make(secrets_dir)

    assert done.returncode == 0
    assert "made" not in done.stdout
    assert contents(secrets_dir) == before


def test_a_removed_key_is_replaced_and_the_rest_is_kept(secrets_dir):
    before = contents(secrets_dir)
    (secrets_dir / "admin_key").unlink()

    make(secrets_dir)

    after = contents(secrets_dir)
    assert after.pop("admin_key") != before.pop("admin_key")
    assert after == before


@pytest.mark.parametrize("lost", ["redis_password", "postgres_password"])
def test_a_lost_password_is_not_replaced(secrets_dir, lost):
    (secrets_dir / lost).unlink()

    done = make(secrets_dir)

    assert done.returncode == 1
    assert lost in done.stderr
    assert not (secrets_dir / lost).exists()
