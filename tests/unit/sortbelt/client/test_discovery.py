import pytest

from sortbelt import errors
from sortbelt.client import discovery
from sortbelt.local import data_directory, folder_lock


@pytest.fixture
def occupied_data_dir(data_folder):
    """A data folder on which something runs."""
    key = data_directory.ensure_admin_key_file(data_folder)
    with data_directory.locked(data_folder):
        data_directory.write_announcement(
            data_folder, data_directory.RunningServer("http://127.0.0.1:8123", str(key), 1)
        )
        yield data_folder


def test_the_environment_says_where(occupied_data_dir, monkeypatch):
    monkeypatch.setenv("SORTBELT_DATA_DIR", str(occupied_data_dir))
    monkeypatch.setenv("SORTBELT_URL", "http://far")
    monkeypatch.setenv("SORTBELT_KEY", "sb_far")

    assert discovery.find_server() == discovery.ServerConfig("http://far", "sb_far")


def test_what_was_said_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("SORTBELT_URL", "http://far")
    monkeypatch.setenv("SORTBELT_KEY", "sb_far")

    assert discovery.find_server("http://near", "sb_near") == discovery.ServerConfig("http://near", "sb_near")


def test_a_named_data_folder_goes_before_the_environment(occupied_data_dir, monkeypatch):
    """With its own key, unless the one in the environment is for its server."""
    monkeypatch.setenv("SORTBELT_URL", "http://far")
    monkeypatch.setenv("SORTBELT_KEY", "sb_far")

    place = discovery.find_server(data_dir=str(occupied_data_dir))
    assert (place.url, place.key == "sb_far") == ("http://127.0.0.1:8123", False)
    monkeypatch.setenv("SORTBELT_URL", "http://127.0.0.1:8123/")
    assert discovery.find_server(data_dir=str(occupied_data_dir)).key == "sb_far"
    assert discovery.find_server("http://near", data_dir=str(occupied_data_dir)).url == "http://near"


def test_a_key_may_be_in_a_file(tmp_path, monkeypatch):
    (tmp_path / "key").write_text("sb_file\n")
    monkeypatch.setenv("SORTBELT_URL", "http://far")
    monkeypatch.setenv("SORTBELT_KEY_FILE", str(tmp_path / "key"))

    assert discovery.find_server().key == "sb_file"


def test_what_runs_here_is_found_without_any_setting(occupied_data_dir, monkeypatch):
    monkeypatch.setenv("SORTBELT_DATA_DIR", str(occupied_data_dir))

    place = discovery.find_server()

    assert place.url == "http://127.0.0.1:8123"
    assert place.key.startswith("sb_")


def test_what_was_killed_is_not_taken_for_running(data_folder):
    data_directory.write_announcement(data_folder, data_directory.RunningServer("http://127.0.0.1:8123", "key", 1))

    with pytest.raises(errors.Unreachable, match="sortbelt up"):
        discovery.find_server(data_dir=str(data_folder))


def test_the_local_key_is_not_sent_to_another_server(occupied_data_dir):
    with pytest.raises(errors.BadInput, match="SORTBELT_KEY"):
        discovery.find_server("http://far", data_dir=str(occupied_data_dir))


def test_the_key_is_not_shown():
    assert "secret" not in repr(discovery.ServerConfig("http://x", "secret"))


def test_a_glance_at_the_lock_does_not_take_it(data_folder):
    mine = folder_lock.FolderLock(data_folder)
    assert mine.acquire(0)
    assert folder_lock.FolderLock(data_folder).is_held()
    mine.release()

    assert not folder_lock.FolderLock(data_folder).is_held()
    assert mine.acquire(0)
    mine.release()
