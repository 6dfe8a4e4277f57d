import os
import socket
from pathlib import Path

import pytest

from jobs import choice, errors, sources
from jobs.choice import Choice
from sortbelt import folder as sent
from tests import servers

TREE = ("a.jpg", "b/c.PNG", "b/d/e.webp", "b/z.txt", "b.jpg", "b-2/f.jpg", "thumbs/g.jpg", ".trash/h.jpg", "é ü.jpg")
CHOSEN = ["a.jpg", "b-2/f.jpg", "b.jpg", "b/c.PNG", "b/d/e.webp", "thumbs/g.jpg", "é ü.jpg"]


@pytest.fixture
def folder(tmp_path):
    """A source with some files, and what must not be read beside it."""
    root = tmp_path / "camera"
    for name in TREE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    return sources.Folder("camera", str(root))


@pytest.fixture
def bucket(s3, monkeypatch):
    """The same in a bucket, below a prefix."""
    servers.point_at_s3(monkeypatch, s3)
    name = f"photos-{os.urandom(4).hex()}"
    servers.fill_bucket(s3, name, {f"all/{key}": key.encode() for key in TREE} | {"other.jpg": b"secret"})
    return sources.Bucket("camera", f"s3://{name}/all")


@pytest.fixture(params=["folder", "bucket"])
def source(request):
    """A source of each kind."""
    return request.getfixturevalue(request.param)


def chosen(source, prefix="", after=None, **globs):
    """The paths that are taken."""
    return [found.path for found in source.walk(prefix, Choice(**globs), after) if found.chosen]


def test_everything_that_is_a_picture_is_found_once(source):
    """In folders below too, but nothing hidden; the rest is left alone."""
    assert sorted(chosen(source)) == CHOSEN
    assert "b/z.txt" in [found.path for found in source.walk("", Choice()) if not found.chosen]


def test_a_walk_goes_on_after_any_path(source, subtests):
    """Whatever it had come to, what follows is the rest, in the same order."""
    whole = [found.path for found in source.walk("", Choice())]
    for at, path in enumerate(whole):
        with subtests.test(path):
            assert [found.path for found in source.walk("", Choice(), path)] == whole[at + 1 :]


def test_a_folder_larger_than_a_page_of_names(folder, monkeypatch):
    """It is read in several goes, and nothing is left out or found twice."""
    monkeypatch.setattr(sources, "AT_ONCE", 2)
    assert sorted(chosen(folder)) == CHOSEN


def test_prefixes_and_globs(source):
    """A prefix is a folder, not the beginning of a name; globs are as on the command line."""
    assert sorted(chosen(source, "b")) == ["b/c.PNG", "b/d/e.webp"]
    assert chosen(source, "b/d") == ["b/d/e.webp"]
    assert chosen(source, include=["*.txt"]) == ["b/z.txt"]
    assert sorted(chosen(source, exclude=["b", "thumbs", "*.webp"])) == ["a.jpg", "b-2/f.jpg", "b.jpg", "é ü.jpg"]
    assert chosen(source, "b", exclude=["b/d"]) == ["b/c.PNG"]


def test_bytes_are_read_up_to_one_more_than_wanted(source):
    """So that whoever wanted them sees that there are too many."""
    assert source.read("b/c.PNG", 100) == b"b/c.PNG"
    assert source.read("b/c.PNG", 3) == b"b/c."
    assert source.read("é ü.jpg", 100) == "é ü.jpg".encode()
    with pytest.raises(errors.BlobMissing):
        source.read("b/none.jpg", 100)


def test_an_empty_file_is_empty(folder, s3, monkeypatch):
    """Also in a bucket, where a range of nothing is an error."""
    Path(folder.address, "nothing.jpg").touch()
    servers.point_at_s3(monkeypatch, s3)
    servers.fill_bucket(s3, "nothing-in-it", {"nothing.jpg": b""})
    for source in (folder, sources.Bucket("x", "s3://nothing-in-it")):
        assert source.read("nothing.jpg", 100) == b""


def test_nothing_outside_is_found_or_read(folder, tmp_path):
    """Links to files and folders, pipes, sockets, the folder above: neither listed nor opened, nor waited for."""
    root = tmp_path / "camera"
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "up").symlink_to(tmp_path)
    os.mkfifo(root / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(str(root / "socket.jpg"))

    assert sorted(chosen(folder)) == CHOSEN
    for path in ("link.jpg", "up/secret.jpg", "pipe.jpg", "socket.jpg", "../secret.jpg", "b/../../secret.jpg", "b"):
        with pytest.raises(errors.BlobMissing):
            folder.read(path, 100)
    for prefix in ("up", "none", "a.jpg"):
        with pytest.raises(errors.NotThere):
            chosen(folder, prefix)


def test_a_folder_that_becomes_a_link_on_the_way(folder, tmp_path):
    """What was a folder when it was listed is one when it is read, or nothing is."""
    (tmp_path / "camera" / "b").rename(tmp_path / "moved")
    (tmp_path / "camera" / "b").symlink_to(tmp_path / "moved")
    with pytest.raises(errors.BlobMissing):
        folder.read("b/c.PNG", 100)


def test_names_that_no_picture_can_have_are_left_alone(folder):
    """Line feeds, escape sequences, and what is not UTF-8."""
    for name in (b"new\nline.jpg", b"\x1b[2J.jpg", b"latin-\xe9.jpg"):
        Path(folder.address, os.fsdecode(name)).touch()
    found = list(folder.walk("", Choice()))
    assert sorted(one.path for one in found if one.chosen) == CHOSEN
    assert sum(one.path == "" for one in found) == 3


def test_a_source_that_is_away_is_unavailable_and_not_empty(tmp_path, monkeypatch):
    """A folder that is not mounted, a bucket that is not there, a server that does not answer: ours to mend."""
    gone = sources.Folder("gone", str(tmp_path / "none"))
    servers.point_at_s3(monkeypatch, f"http://127.0.0.1:{servers.free_port()}")
    for source in (gone, sources.Bucket("gone", "s3://nowhere/x")):
        for action in (lambda s=source: s.read("a.jpg", 100), lambda s=source: chosen(s)):
            with pytest.raises(errors.SourceUnavailable) as caught:
                action()
            assert caught.value.source == "gone"
            assert caught.value.reason
            assert caught.value.detail == "The source gone does not answer."


def test_a_key_that_is_no_path_is_told(s3, monkeypatch):
    """It cannot be read by the library that reads buckets; a scan that passed it over in silence would not be whole."""
    servers.point_at_s3(monkeypatch, s3)
    servers.fill_bucket(s3, "with-bad-keys", {"inner/a.jpg": b"x", "inner/b/../c.jpg": b"x"})
    with pytest.raises(errors.NotThere, match=r"b/\.\./c\.jpg") as caught:
        chosen(sources.Bucket("photos", "s3://with-bad-keys/inner"))
    assert "inner" not in caught.value.detail


def test_the_list_of_the_settings():
    """Folders and buckets by their names; a trailing slash does not matter."""
    read = sources.Sources.read("camera=/srv/camera/, photos=s3://photos/2026,")
    assert [(one.name, one.address) for one in read] == [("camera", "/srv/camera"), ("photos", "s3://photos/2026")]


@pytest.mark.parametrize(
    "listed",
    [
        "camera",
        "=/srv",
        "a=",
        "a=relative",
        "a=/",
        "a=s3://",
        "a=s3://photos/../x",
        "a=http://x",
        "A=/srv",
        "a/b=/srv",
        "a=/srv,a=/x",
    ],
)
def test_a_list_that_is_none(listed):
    with pytest.raises(ValueError, match=r"source|NAME|must|s3:"):
        sources.Sources.read(listed)


@pytest.mark.parametrize(
    ("wanted", "prefix", "found"),
    [
        ("camera", "", ("camera", "")),
        ("camera", "2026/", ("camera", "2026")),
        ("s3://photos/2026", "", ("photos", "")),
        ("s3://photos/2026/", "", ("photos", "")),
        ("s3://photos/2026/january", "first", ("photos", "january/first")),
    ],
)
def test_what_is_on_the_list_is_found(wanted, prefix, found):
    """By its name, or in a bucket by its address."""
    assert sources.Sources.read("camera=/srv/camera,photos=s3://photos/2026").find(wanted, prefix) == found


@pytest.mark.parametrize(
    ("wanted", "prefix", "error"),
    [
        ("kitchen", "", errors.UnknownSource),
        ("/srv/camera", "", errors.UnknownSource),
        ("s3://photos", "", errors.UnknownSource),
        ("s3://photos/2026b", "", errors.UnknownSource),
        ("s3://other/2026", "", errors.UnknownSource),
        ("s3://photos/2026/../2025", "", errors.BadParameter),
        ("camera", "/2026", errors.BadParameter),
        ("camera", "/", errors.BadParameter),
        ("camera", "..", errors.BadParameter),
        ("camera", "a/../../etc", errors.BadParameter),
        ("camera", "./a", errors.BadParameter),
        ("camera", "a//b", errors.BadParameter),
        ("camera", "a\nb", errors.BadParameter),
        ("camera", "x" * 1025, errors.BadParameter),
    ],
)
def test_what_is_not_on_the_list_is_refused(wanted, prefix, error):
    """And so is a way out of what is."""
    with pytest.raises(error):
        sources.Sources.read("camera=/srv/camera,photos=s3://photos/2026").find(wanted, prefix)


def test_a_reader_for_what_lies_in_a_source(folder):
    """None for what does not; and one that finds nothing where the source is not on the list any more."""
    listed = sources.Sources({"camera": folder})
    assert listed.reader(None, None, 5) is None
    assert listed.reader("camera", "a.jpg", 5)() == b"a.jpg"
    with pytest.raises(errors.BlobMissing, match="list"):
        sources.NONE.reader("camera", "a.jpg", 5)()


def test_pictures_are_what_their_suffix_says():
    """The same as for a folder that is sent."""
    assert choice.SUFFIXES == sent.SUFFIXES
