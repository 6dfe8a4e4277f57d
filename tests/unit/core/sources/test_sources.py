import io
import os
import socket
import zipfile
from pathlib import Path

import pytest

from core import errors
from core.sources import base, catalog, local, s3
from sortbelt.files.file_rules import FileRules
from tests.support import servers

TREE = ("a.jpg", "b/c.PNG", "b/d/e.webp", "b/z.txt", "b.jpg", "b-2/f.jpg", "thumbs/g.jpg", ".trash/h.jpg", "é ü.jpg")
CHOSEN = ["a.jpg", "b-2/f.jpg", "b.jpg", "b/c.PNG", "b/d/e.webp", "thumbs/g.jpg", "é ü.jpg"]


@pytest.fixture
def local_source(tmp_path):
    """A source with some files, and what must not be read beside it."""
    root = tmp_path / "camera"
    for name in TREE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    return local.LocalSource("camera", str(root))


@pytest.fixture
def s3_source(s3_url, monkeypatch):
    """The same in a bucket, below a prefix."""
    servers.set_s3_environment(monkeypatch, s3_url)
    name = f"photos-{os.urandom(4).hex()}"
    servers.create_bucket(s3_url, name, {f"all/{key}": key.encode() for key in TREE} | {"other.jpg": b"secret"})
    return s3.S3Source("camera", f"s3://{name}/all")


@pytest.fixture(params=["local_source", "s3_source"])
def any_source(request):
    """A source of each kind."""
    return request.getfixturevalue(request.param)


def chosen(source, prefix="", after=None, **globs):
    """The paths that are taken."""
    return [found.path for found in walk(source, prefix, after, **globs) if not found.skip_reason]


def walk(source, prefix="", after=None, **globs):
    """All that is listed."""
    return source.walk(prefix, FileRules(**globs), after, max_bytes=1000)


def test_every_image_is_found_once(any_source):
    """In folders below too, but nothing hidden; the rest is left alone."""
    assert sorted(chosen(any_source)) == CHOSEN
    assert "b/z.txt" in [found.path for found in walk(any_source) if found.skip_reason]


def test_a_walk_goes_on_after_any_path(any_source, subtests):
    """Whatever it had come to, what follows is the rest, in the same order."""
    whole = [found.path for found in walk(any_source)]
    for at, path in enumerate(whole):
        with subtests.test(path):
            assert [found.path for found in walk(any_source, after=path)] == whole[at + 1 :]


def test_a_folder_larger_than_a_page_of_names(local_source, monkeypatch):
    """It is read in several goes, and nothing is left out or found twice."""
    monkeypatch.setattr(base, "LISTING_CHUNK", 2)
    assert sorted(chosen(local_source)) == CHOSEN


def make_zip(**files):
    """The bytes of a .zip file; double underscores stand for slashes, single ones for dots."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), data)
    return buffer.getvalue()


ODD_TREE = {
    "a.jpg": b"a",
    "@eaDir/a.jpg/SYNOPHOTO.jpg": b"thumbnail",
    "@eaDir/b.jpg/SYNOPHOTO.jpg": b"thumbnail",
    "#recycle/old.jpg": b"old",
    "b/Thumbs.db": b"",
    "b/lost+found/x.jpg": b"x",
    "m.zip": make_zip(z_jpg=b"z", b_jpg=b"b", x__c_png=b"c", notes_txt=b"n", in_zip=b"i", big_jpg=b"x" * 2000),
    "n.zip": b"not a zip",
    "o.rar": b"",
    "p.jpg": b"p",
    "x" * 250 + "/" + "x" * 250 + "/" + "x" * 250 + "/" + "x" * 250 + "/" + "x" * 200 + ".jpg": b"deep",
}
ODD_FOUND = [
    ("#recycle", "system file"),
    ("@eaDir", "system file"),
    ("a.jpg", ""),
    ("b/Thumbs.db", "system file"),
    ("b/lost+found", "system file"),
    ("m.zip/z.jpg", ""),
    ("m.zip/b.jpg", ""),
    ("m.zip/x/c.png", ""),
    ("m.zip/notes.txt", "not an image"),
    ("m.zip/in.zip", "archive in an archive"),
    ("m.zip/big.jpg", ""),
    ("n.zip", "unreadable archive"),
    ("o.rar", "archive of another format"),
    ("p.jpg", ""),
]


@pytest.fixture(params=["folder", "bucket"])
def odd_source(request, tmp_path, s3_url, monkeypatch):
    """A source with archives, system folders and a name that is too long."""
    if request.param == "folder":
        root = tmp_path / "odd"
        for name, data in ODD_TREE.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return local.LocalSource("odd", str(root))
    servers.set_s3_environment(monkeypatch, s3_url)
    bucket = f"odd-{os.urandom(4).hex()}"
    short = {name: data for name, data in ODD_TREE.items() if len(name) <= 1000}  # no bucket has longer keys
    servers.create_bucket(s3_url, bucket, short | {"\\" * 600 + ".jpg": b"long"})
    return s3.S3Source("odd", f"s3://{bucket}")


def test_folders_and_buckets_report_what_they_leave_out_by_one_set_of_rules(odd_source):
    """System folders once each, archives as folders, and what may be an image with its reason."""
    found = [(entry.path, entry.skip_reason) for entry in walk(odd_source)]
    (too_long,) = (path for path, reason in found if reason == "name too long")
    assert len(too_long) > 1024
    assert sorted(pair for pair in found if pair[0] != too_long) == sorted(ODD_FOUND)


def test_images_in_archives_come_with_their_bytes(odd_source):
    """Except those that are too large to be accepted."""
    found = {entry.path: entry.data for entry in walk(odd_source) if entry.data is not None}
    assert found == {"m.zip/z.jpg": b"z", "m.zip/b.jpg": b"b", "m.zip/x/c.png": b"c"}


def test_a_walk_goes_on_inside_an_archive(odd_source, subtests):
    """After any path, the rest follows in the same order, and nothing is counted twice."""
    whole = list(walk(odd_source))
    for at, entry in enumerate(whole):
        if entry.is_position:
            with subtests.test(entry.path):
                assert list(walk(odd_source, after=entry.path)) == whole[at + 1 :]


def test_an_archive_that_changed_meanwhile_is_reported(odd_source):
    """Its images before and after the position cannot be distinguished any more."""
    found = list(walk(odd_source, after="m.zip/gone.jpg"))
    assert ("m.zip", "changed archive") in [(entry.path, entry.skip_reason) for entry in found]


def test_a_hidden_folder_that_is_named_is_listed(any_source):
    """The rules are about what is below the prefix."""
    assert chosen(any_source, ".trash") == [".trash/h.jpg"]


def test_deeply_nested_folders_are_listed_or_reported(tmp_path):
    """As deep as a name may be; not silently left out."""
    path = tmp_path
    for _ in range(60):
        path = path / "d"
    path.mkdir(parents=True)
    (path / "a.jpg").write_bytes(b"x")
    source = local.LocalSource("deep", str(tmp_path))
    assert chosen(source) == ["d/" * 60 + "a.jpg"]
    folder_fd = os.open(path, os.O_RDONLY)
    for _ in range(500):
        os.mkdir("d", dir_fd=folder_fd)
        child_fd = os.open("d", os.O_RDONLY, dir_fd=folder_fd)
        os.close(folder_fd)
        folder_fd = child_fd
    os.close(folder_fd)
    assert [entry.skip_reason for entry in walk(source) if entry.skip_reason] == ["name too long"]


def test_a_name_with_too_many_bytes_is_left_out(tmp_path):
    """In a folder and in an archive: its 1,000 characters are few enough, but of three bytes each; a walk goes on."""
    parts = ["字" * 83] * 11
    (tmp_path / "/".join(parts[:10])).mkdir(parents=True)
    (tmp_path / "/".join(parts[:10]) / ("字" * 81 + ".jpg")).write_bytes(b"x")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("/".join([*parts, "a.jpg"]), b"x")
    (tmp_path / "z.jpg").write_bytes(b"z")
    source = local.LocalSource("long", str(tmp_path))
    found = list(walk(source))
    assert sorted(entry.skip_reason for entry in found) == ["", "name too long", "name too long"]
    for at, entry in enumerate(found):
        assert list(walk(source, after=entry.path)) == found[at + 1 :]


def test_prefixes_and_globs(any_source):
    """A prefix is a folder, not the beginning of a name; globs are as on the command line."""
    assert sorted(chosen(any_source, "b")) == ["b/c.PNG", "b/d/e.webp"]
    assert chosen(any_source, "b/d") == ["b/d/e.webp"]
    assert chosen(any_source, include=["*.txt"]) == ["b/z.txt"]
    assert sorted(chosen(any_source, exclude=["b", "thumbs", "*.webp"])) == ["a.jpg", "b-2/f.jpg", "b.jpg", "é ü.jpg"]
    assert chosen(any_source, "b", exclude=["b/d"]) == ["b/c.PNG"]


def test_bytes_are_read_up_to_one_more_than_wanted(any_source):
    """So that the caller sees that there are too many."""
    assert any_source.read("b/c.PNG", 100) == b"b/c.PNG"
    assert any_source.read("b/c.PNG", 3) == b"b/c."
    assert any_source.read("é ü.jpg", 100) == "é ü.jpg".encode()
    with pytest.raises(errors.BlobMissing):
        any_source.read("b/none.jpg", 100)


def test_an_empty_file_is_empty(local_source, s3_url, monkeypatch):
    """Also in a bucket, where a range of nothing is an error."""
    Path(local_source.address, "nothing.jpg").touch()
    servers.set_s3_environment(monkeypatch, s3_url)
    servers.create_bucket(s3_url, "nothing-in-it", {"nothing.jpg": b""})
    for source in (local_source, s3.S3Source("x", "s3://nothing-in-it")):
        assert source.read("nothing.jpg", 100) == b""


def test_nothing_outside_is_found_or_read(local_source, tmp_path):
    """Links to files and folders, pipes, sockets, the folder above: neither listed nor opened, nor waited for."""
    root = tmp_path / "camera"
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "up").symlink_to(tmp_path)
    os.mkfifo(root / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(str(root / "socket.jpg"))

    assert sorted(chosen(local_source)) == CHOSEN
    for path in ("link.jpg", "up/secret.jpg", "pipe.jpg", "socket.jpg", "../secret.jpg", "b/../../secret.jpg", "b"):
        with pytest.raises(errors.BlobMissing):
            local_source.read(path, 100)
    for prefix in ("up", "none", "a.jpg"):
        with pytest.raises(errors.SourcePathNotFound):
            chosen(local_source, prefix)


def test_a_folder_that_becomes_a_link_on_the_way(local_source, tmp_path):
    """A folder replaced by a link after the listing is not read."""
    (tmp_path / "camera" / "b").rename(tmp_path / "moved")
    (tmp_path / "camera" / "b").symlink_to(tmp_path / "moved")
    with pytest.raises(errors.BlobMissing):
        local_source.read("b/c.PNG", 100)


def test_odd_names_are_escaped_and_read_back(local_source):
    """Line feeds, escape sequences, backslashes, and what is not UTF-8: each is an image of its own."""
    names = {b"new\nline.jpg", b"new\\nline.jpg", b"\x1b[2J.jpg", b"latin-\xe9.jpg", "Zu\u0308rich.jpg".encode()}
    for name in names:
        Path(local_source.address, os.fsdecode(name)).write_bytes(name)
    paths = set(chosen(local_source)) - set(CHOSEN)
    assert paths == {"new\\nline.jpg", "new\\\\nline.jpg", "\\x1b[2J.jpg", "latin-\\udce9.jpg", "Zu\u0308rich.jpg"}
    assert {local_source.read(path, 100) for path in paths} == names


def test_a_source_that_is_away_is_unavailable_and_not_empty(tmp_path, monkeypatch):
    """A folder that is not mounted, a bucket that is not there, a server that does not answer: ours to mend."""
    gone = local.LocalSource("gone", str(tmp_path / "none"))
    servers.set_s3_environment(monkeypatch, f"http://127.0.0.1:{servers.free_port()}")
    for source in (gone, s3.S3Source("gone", "s3://nowhere/x")):
        for action in (lambda s=source: s.read("a.jpg", 100), lambda s=source: chosen(s), source.check):
            with pytest.raises(errors.SourceUnavailable) as caught:
                action()
            assert caught.value.source == "gone"
            assert caught.value.reason
            assert caught.value.detail == "The source gone does not answer; it is retried."


def test_a_check_of_a_source_that_can_be_listed(any_source, s3_url, monkeypatch):
    """Also of an empty one, and of one with a key that is not a path."""
    any_source.check()
    servers.set_s3_environment(monkeypatch, s3_url)
    for name, keys in {"check-empty": {}, "check-bad-keys": {"b/../c.jpg": b"x"}}.items():
        servers.create_bucket(s3_url, name, keys)
        s3.S3Source("photos", f"s3://{name}").check()


def test_an_object_key_that_is_not_a_path_is_reported(s3_url, monkeypatch):
    """It cannot be read by the library that reads buckets; a scan that passed it over in silence would not be whole."""
    servers.set_s3_environment(monkeypatch, s3_url)
    servers.create_bucket(s3_url, "with-bad-keys", {"inner/a.jpg": b"x", "inner/b/../c.jpg": b"x"})
    with pytest.raises(errors.SourcePathNotFound, match=r"b/\.\./c\.jpg") as caught:
        chosen(s3.S3Source("photos", "s3://with-bad-keys/inner"))
    assert "inner" not in caught.value.detail


def test_the_list_of_the_settings():
    """Folders and buckets by their names; a trailing slash does not matter."""
    read = catalog.SourceCatalog.parse("camera=/srv/camera/, photos=s3://photos/2026,")
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
        catalog.SourceCatalog.parse(listed)


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
    assert catalog.SourceCatalog.parse("camera=/srv/camera,photos=s3://photos/2026").resolve(wanted, prefix) == found


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
        ("camera", "x" * 1025, errors.BadParameter),
    ],
)
def test_what_is_not_on_the_list_is_refused(wanted, prefix, error):
    """And so is a way out of what is."""
    with pytest.raises(error):
        catalog.SourceCatalog.parse("camera=/srv/camera,photos=s3://photos/2026").resolve(wanted, prefix)


def test_a_reader_for_what_lies_in_a_source(local_source):
    """None for what does not; and one that finds nothing where the source is not on the list any more."""
    listed = catalog.SourceCatalog({"camera": local_source})
    assert listed.reader(None, None, 5) is None
    assert listed.reader("camera", "a.jpg", 5)() == b"a.jpg"
    with pytest.raises(errors.BlobMissing, match="SORTBELT_SOURCES"):
        catalog.SourceCatalog({}).reader("camera", "a.jpg", 5)()
