import pytest

from sortbelt import datafolder, errors, lock, where


@pytest.fixture
def up(folder):
    """A data folder on which something runs."""
    key = datafolder.admin_key(folder, {})
    with datafolder.occupied(folder):
        datafolder.announce(folder, datafolder.Running("http://127.0.0.1:8123", str(key), 1))
        yield folder


def find(folder, **environ):
    return where.find(environ={"SORTBELT_DATA_DIR": str(folder), **environ})


def test_the_environment_says_where(up):
    place = find(up, SORTBELT_URL="http://far", SORTBELT_KEY="sb_far")

    assert (place.url, place.key) == ("http://far", "sb_far")


def test_what_was_said_goes_before_the_environment():
    environ = {"SORTBELT_URL": "http://far", "SORTBELT_KEY": "sb_far"}

    assert where.find("http://near", "sb_near", environ=environ) == where.Place("http://near", "sb_near")


def test_a_key_may_be_in_a_file(tmp_path):
    (tmp_path / "key").write_text("sb_file\n")
    environ = {"SORTBELT_URL": "http://far", "SORTBELT_KEY_FILE": str(tmp_path / "key")}

    assert where.find(environ=environ).key == "sb_file"


def test_what_runs_here_is_found_without_any_setting(up):
    place = find(up)

    assert place.url == "http://127.0.0.1:8123"
    assert place.key.startswith("sb_")


def test_what_was_killed_is_not_taken_for_running(folder):
    datafolder.announce(folder, datafolder.Running("http://127.0.0.1:8123", "key", 1))

    with pytest.raises(errors.Unreachable, match="sortbelt up"):
        find(folder)


def test_the_local_key_is_not_sent_to_another_server(up):
    with pytest.raises(errors.BadInput, match="SORTBELT_KEY"):
        find(up, SORTBELT_URL="http://far")


def test_the_key_is_not_shown():
    assert "secret" not in repr(where.Place("http://x", "secret"))


def test_a_glance_at_the_lock_does_not_take_it(folder):
    mine = lock.Lock(folder / "up.lock")
    assert mine.take(0)
    assert lock.Lock(folder / "up.lock").held()
    mine.release()

    assert not lock.Lock(folder / "up.lock").held()
    assert mine.take(0)
    mine.release()
