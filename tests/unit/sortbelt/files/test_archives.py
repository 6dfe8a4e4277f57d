import contextlib
import gzip
import io
import random
import tarfile
import zipfile

import pytest

from sortbelt.files import archives, file_rules

FILES = {"a.jpg": b"a" * 700, "b/c.png": b"c" * 1024, "b/ü.jpg": b"", "notes.txt": b"n"}
SUFFIXES = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".TBZ2"]


def make_zip(files=FILES, compression=zipfile.ZIP_DEFLATED):
    """The bytes of a .zip file; a file's name may be a `ZipInfo`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def make_tar(files=FILES, mode="w", members=(), **options):
    """The bytes of a .tar file with files, and then members without bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, fields in members:
            info = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info)
    return buffer.getvalue()


def make(suffix, files=FILES):
    """The bytes of an archive of this suffix."""
    if suffix == ".zip":
        return make_zip(files)
    mode = "w:gz" if suffix in (".tar.gz", ".tgz") else "w:bz2" if "bz2" in suffix.lower() else "w"
    return make_tar(files, mode)


def read(data, path="x.zip", max_bytes=10_000):
    """The bytes of each file that may be an image, and the reasons of the others."""
    file = io.BytesIO(data)
    found = {}
    for member in archives.list_members(file, path, len(data)):
        found[member.path] = member.skip_reason or member.read(file, max_bytes)
    return found


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_files_of_an_archive_have_their_names_and_bytes(suffix):
    """Whatever its format and its compression, without folders."""
    assert file_rules.is_archive(f"x{suffix}")
    assert read(make(suffix), f"x{suffix}") == FILES


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_more_bytes_of_a_file_are_read_than_wanted(suffix):
    """However large it is."""
    assert read(make(suffix), f"x{suffix}", 3)["a.jpg"] == b"aaa"


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_files_of_an_archive_are_read_in_any_order(suffix):
    """Also after the listing, from another file object."""
    data = make(suffix)
    members = list(archives.list_members(io.BytesIO(data), f"x{suffix}", len(data)))
    assert {m.path: m.read(io.BytesIO(data), 10_000) for m in reversed(members)} == FILES


@pytest.mark.parametrize("make_archive", [make_zip, make_tar])
def test_names_that_lead_elsewhere_are_harmless(make_archive):
    """An absolute path is relative to the archive, as for tar, and so is one with a dot; a way out of it is refused."""
    path = "x.zip" if make_archive is make_zip else "x.tar"
    found = read(make_archive({"/etc/a.jpg": b"1", "../b.jpg": b"2", "c/../../d.jpg": b"3", "./e.jpg": b"4"}), path)
    unsafe = dict.fromkeys(["../b.jpg", "c/../../d.jpg"], "unsafe path")
    assert found == {"etc/a.jpg": b"1", "e.jpg": b"4", **unsafe}


def test_links_and_devices_of_a_tar_are_left_out():
    """Nothing that they point to is read."""
    members = [
        ("link.jpg", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("hard.jpg", {"type": tarfile.LNKTYPE, "linkname": "a.jpg"}),
        ("pipe.jpg", {"type": tarfile.FIFOTYPE}),
        ("disk.jpg", {"type": tarfile.BLKTYPE}),
        ("folder", {"type": tarfile.DIRTYPE}),
    ]
    assert read(make_tar({"a.jpg": b"1"}, members=members), "x.tar") == {
        "a.jpg": b"1",
        "link.jpg": "symbolic link",
        "hard.jpg": "symbolic link",
        "pipe.jpg": "special file",
        "disk.jpg": "special file",
    }


def test_a_link_in_a_zip_is_left_out():
    """It is a file whose mode says that its content is a path."""
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = 0o120777 << 16
    assert read(make_zip({link: b"/etc/passwd"})) == {"link.jpg": "symbolic link"}


@pytest.mark.parametrize("name", ["in.zip", "in.tar.gz", "in.7z", "in.RAR"])
def test_an_archive_in_an_archive_is_refused_by_name(name):
    """It is not opened."""
    assert read(make_zip({name: b"1"})) == {name: "archive in an archive"}


def test_an_encrypted_file_is_named_as_such():
    """There is no way to ask for the password."""
    data = bytearray(make_zip({"a.jpg": b"1"}))
    for signature, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        data[data.index(signature) + offset] |= 1
    assert read(bytes(data)) == {"a.jpg": "encrypted"}


def test_a_name_that_is_repeated_is_reported():
    """A job has each name once."""
    data = make_tar({"a.jpg": b"1"}, "w", [("a.jpg", {})])
    members = list(archives.list_members(io.BytesIO(data), "x.tar", len(data)))
    assert [member.skip_reason for member in members] == ["", "repeated name"]


def test_names_of_macos_are_utf8_without_the_flag():
    """Other names without it are of the oldest character set."""
    data = make_zip({"Zürich.jpg": b"1"})
    for signature, offset in ((b"PK\1\2", 9), (b"PK\3\4", 7)):
        at = data.index(signature) + offset
        data = data[:at] + bytes([data[at] & ~8]) + data[at + 1 :]
    assert list(read(data)) == ["Zürich.jpg"]
    assert list(read(data.replace("ü".encode(), b"\x81x"))) == ["Züxrich.jpg"]


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2"])
def test_a_bomb_is_refused(suffix, monkeypatch):
    """A file that unpacks to much more than its own size is not unpacked."""
    monkeypatch.setattr(archives, "MIN_UNPACKED_BYTES", 1_000_000)
    bomb = make(suffix, {f"{number}.bmp": bytes(2_000_000) for number in range(5)})
    with pytest.raises(archives.ArchiveError, match="unpacks to more than"):
        read(bomb, f"x{suffix}")


def test_files_of_a_zip_that_share_their_bytes_are_a_bomb(monkeypatch):
    """Each of them is small; together they are large."""
    monkeypatch.setattr(archives, "MIN_UNPACKED_BYTES", 10_000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.bmp", bytes(9_000))
        for number in range(1, 300):
            info = archive.infolist()[0]
            archive.filelist.append(zipfile.ZipInfo(f"{number}.bmp"))
            for field in ("CRC", "compress_size", "file_size", "header_offset", "compress_type"):
                setattr(archive.filelist[-1], field, getattr(info, field))
        archive._didModify = True
    with pytest.raises(archives.ArchiveError, match="unpacks to more than"):
        read(buffer.getvalue())


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_an_archive_of_too_many_files_is_refused(suffix, monkeypatch):
    """Their names would fill the memory."""
    monkeypatch.setattr(archives, "MAX_ENTRIES", 3)
    with pytest.raises(archives.ArchiveError, match="more than 3 files"):
        read(make(suffix), f"x{suffix}")


def test_a_zip_with_a_large_table_of_contents_is_refused(monkeypatch):
    """Before it is read, since it is read whole."""
    monkeypatch.setattr(archives, "MAX_DIRECTORY_BYTES", 100)
    with pytest.raises(archives.ArchiveError, match="table of contents"):
        read(make_zip())


def test_a_header_of_a_tar_that_claims_to_be_large_is_refused():
    """An extended header is read whole, and kept while those in it are read."""
    data = make_tar({"a.jpg": b"1"}, format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * 300_000})
    with pytest.raises(archives.ArchiveError, match="header"):
        read(data, "x.tar")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_file_in_a_zip_that_is_unpacked_whole_is_left_out(compression):
    """Whatever size its table of contents claims: the library bounds only the usual compression."""
    bomb = make_zip({"a.jpg": bytes(1_000_000)}, compression)
    assert read(bomb) == {"a.jpg": archives.UNREAD_COMPRESSION}
    assert archives.UNREAD_COMPRESSION not in file_rules.HARMLESS_REASONS


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("damage", ["a changed header", "cut in a header"])
def test_damage_in_the_middle_of_a_tar_is_not_its_end(suffix, damage):
    """The images behind it are missing."""
    whole = bytearray(make_tar({f"{n}.jpg": b"x" * 512 for n in range(4)}))
    if damage == "a changed header":
        whole[2 * 1024 + 5] ^= 1
    else:
        whole = whole[: 2 * 1024 + 100]
    data = bytes(whole) if suffix == ".tar" else gzip.compress(bytes(whole))
    with pytest.raises(archives.ArchiveError, match="it is damaged"):
        read(data, f"x{suffix}")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.bz2"])
def test_a_damaged_archive_is_an_error_and_nothing_else(suffix):
    """However it is cut off or changed, and whatever the library raises."""
    whole, dice = make(suffix), random.Random(5)  # noqa: S311 (test data)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 5)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        data = data[: dice.choice([len(data), dice.randrange(len(data))])]
        with contextlib.suppress(archives.ArchiveError):
            read(bytes(data), f"x{suffix}")
