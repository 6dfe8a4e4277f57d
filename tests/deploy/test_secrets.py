import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from jobs import settings
from jobs.store import keys

SCRIPT = Path(__file__).parents[2] / "deploy" / "secrets.sh"


def make(folder):
    return subprocess.run(["sh", SCRIPT, folder], check=False, capture_output=True, text=True)


def contents(folder):
    return {path.name: path.read_text(encoding="ascii").strip() for path in folder.iterdir()}


@pytest.fixture
def made(tmp_path):
    folder = tmp_path / "secrets"
    assert make(folder).returncode == 0
    return folder


def test_only_the_owner_gets_into_the_folder(made):
    assert made.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in made.iterdir()} == {0o444}


def test_the_settings_take_the_secrets_from_their_files(made):
    files = {f"SORTBELT_{name.upper()}_FILE": str(made / name) for name in ("database_url", "redis_url", "admin_key")}

    read = settings.read(files)

    found = contents(made)
    assert read.database_url == f"postgresql+psycopg://sortbelt:{found['postgres_password']}@postgres/sortbelt"
    assert read.redis_url == f"redis://:{found['redis_password']}@redis:6379/0"
    assert read.admin_key is not None
    assert keys.FORM.fullmatch(read.admin_key.get_secret_value())


def test_redis_is_told_a_digest_of_the_password_and_forbids_what_is_dangerous(made):
    found = contents(made)
    digest = hashlib.sha256(found["redis_password"].encode()).hexdigest()

    assert re.fullmatch(rf"user default on #{digest} ~\* &\* \+@all -@admin -@dangerous \+info", found["redis_acl"])


def test_two_folders_share_no_secret(made, tmp_path):
    make(tmp_path / "other")

    assert not set(contents(made).values()) & set(contents(tmp_path / "other").values())


def test_a_second_run_overwrites_nothing(made):
    before = contents(made)

    done = make(made)

    assert done.returncode == 0
    assert "made" not in done.stdout
    assert contents(made) == before


def test_a_removed_key_is_made_anew_and_the_rest_is_kept(made):
    before = contents(made)
    (made / "admin_key").unlink()

    make(made)

    after = contents(made)
    assert after.pop("admin_key") != before.pop("admin_key")
    assert after == before


@pytest.mark.parametrize("lost", ["redis_password", "postgres_password"])
def test_a_lost_password_is_not_replaced_by_one_that_nobody_else_knows(made, lost):
    (made / lost).unlink()

    done = make(made)

    assert done.returncode == 1
    assert lost in done.stderr
    assert not (made / lost).exists()
