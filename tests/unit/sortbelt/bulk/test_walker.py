import os
import tarfile
import tracemalloc
import typing
import zipfile
from pathlib import Path

import pytest

from imaging import formats
from sortbelt import errors
from sortbelt.bulk import walker
from sortbelt.files import file_kinds

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jif", ".jfif"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "WebP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "HEIC": (".heic", ".heif"),
    "AVIF": (".avif",),
    "JPEG XL": (".jxl",),
}


def make(root, *names, data=b"x"):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def names(root, **choices):
    return [image.name for image in walker.DirectoryWalker(str(root), **choices).walk()]


def test_images_come_sorted_with_their_folders_names_before_theirs(tmp_path):
    make(tmp_path, "b.jpg", "a/z.png", "a/b/c.webp", "c.JPEG")

    assert names(tmp_path) == ["a/b/c.webp", "a/z.png", "b.jpg", "c.JPEG"]


def test_an_image_has_its_size(tmp_path):
    make(tmp_path, "a.jpg", data=b"12345")

    assert [p.size for p in walker.DirectoryWalker(str(tmp_path)).walk()] == [5]


def test_what_is_not_an_image_is_skipped_and_counted_by_reason(tmp_path):
    make(tmp_path, "a.jpg", "notes.txt", ".hidden.jpg", ".git/b.jpg", "Thumbs.db")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")

    survey = walker.DirectoryWalker(str(tmp_path)).summarize()

    assert survey.image_count == 1
    assert survey.skipped == {
        "not an image": 1,
        "hidden": 2,
        "system file": 1,
        "symbolic link": 2,
        "special file": 1,
    }


def test_a_folder_that_is_named_by_a_link_is_entered(tmp_path):
    make(tmp_path, "real/a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert names(tmp_path / "link") == ["a.jpg"]


def test_a_glob_without_a_slash_is_about_the_last_part_of_the_name(tmp_path):
    make(tmp_path, "a.jpg", "x/a_small.jpg", "thumbs/b.jpg", "x/thumbs/c.jpg")

    assert names(tmp_path, exclude=["thumbs", "*_small.*"]) == ["a.jpg"]


def test_a_glob_with_a_slash_is_about_the_whole_name(tmp_path):
    make(tmp_path, "x/a.jpg", "y/a.jpg")

    assert names(tmp_path, exclude=["x/*"]) == ["y/a.jpg"]


def test_include_takes_files_whatever_their_suffix(tmp_path):
    make(tmp_path, "a.jpg", "b.scan", "x/c.scan")

    assert names(tmp_path, include=["*.scan"]) == ["b.scan", "x/c.scan"]


def test_a_name_that_is_no_utf8_is_sent_escaped(tmp_path):
    make(tmp_path, os.fsdecode(b"caf\xe9.jpg"))

    (image,) = walker.DirectoryWalker(str(tmp_path)).walk()

    assert image.name == "caf\\udce9.jpg"
    assert image.read() == b"x"


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("none", "no_such_folder", "does not exist"),
        ("file.jpg", "not_a_folder", "sortbelt submit"),
        ("empty", "no_pictures", "is empty"),
        ("texts", "no_pictures", "1 not an image"),
    ],
)
def test_a_folder_without_images_is_an_error_that_says_why(tmp_path, name, code, words):
    make(tmp_path, "file.jpg", "texts/a.txt")
    (tmp_path / "empty").mkdir()

    with pytest.raises(errors.BadInput, match=words) as caught:
        walker.DirectoryWalker(str(tmp_path / name)).summarize()

    assert caught.value.code == code


def test_what_devices_put_beside_images_is_left_out_and_counted(tmp_path):
    """Thumbnails and recycle bins of storage devices and systems, in any case of letters."""
    system = ("@eaDir/a.jpg", "#recycle/a.jpg", "$RECYCLE.BIN/a.jpg", ".Trash-1000/a.jpg", "lost+found/a.jpg")
    make(tmp_path, "a.jpg", *system, "__MACOSX/._a.jpg", "x/Thumbs.db", "x/@EADIR/a.jpg")

    assert names(tmp_path) == ["a.jpg"]
    assert walker.DirectoryWalker(str(tmp_path)).summarize().skipped == {"system file": 8}


def test_twins_are_two_images(tmp_path):
    """A line feed in a name is not the text that stands for it."""
    make(tmp_path, "a\nb.jpg", "a\\nb.jpg")

    assert names(tmp_path) == ["a\\nb.jpg", "a\\\\nb.jpg"]


def make_archive(path, **files):
    """A .zip file; an underscore stands for a dot."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("_", "."), data)


def test_an_archive_is_read_as_a_folder(tmp_path):
    """In a folder, or named itself; the same globs and rules hold inside."""
    make(tmp_path, "a.jpg", "z.rar")
    make_archive(tmp_path / "b.zip", one_jpg=b"1", notes_txt=b"n", two_png=b"22", in_zip=b"")

    directory = walker.DirectoryWalker(str(tmp_path))
    images = {image.name: image.with_bytes().source for image in directory.walk()}
    assert images == {"a.jpg": b"x", "b.zip/one.jpg": b"1", "b.zip/two.png": b"22"}
    assert directory.summarize().left_out == {"archive in an archive": 1, "archive of another format": 1}
    assert names(tmp_path / "b.zip") == ["one.jpg", "two.png"]
    assert names(tmp_path, exclude=["*.png", "z.rar"]) == ["a.jpg", "b.zip/one.jpg"]
    assert names(tmp_path, exclude=["*.zip"]) == ["a.jpg"]


def test_a_compressed_tar_is_read_in_its_order(tmp_path):
    """Each image comes with its bytes, since they cannot be read later."""
    make(tmp_path, "in/b.jpg", "in/a.jpg")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "in" / "b.jpg", "b.jpg")
        archive.add(tmp_path / "in" / "a.jpg", "a.jpg")

    found = [(image.name, image.read()) for image in walker.DirectoryWalker(str(tmp_path / "x.tar.gz")).walk()]
    assert found == [("b.jpg", b"x"), ("a.jpg", b"x")]


def test_what_cannot_be_sent_is_reported_by_name(tmp_path):
    """A broken archive, and a name that no job can have: reading them says why."""
    make(tmp_path, "broken.zip", f"{'d' * 250}/{'e' * 250}/{'f' * 250}/{'g' * 250}/{'h' * 100}.jpg")

    found = list(walker.DirectoryWalker(str(tmp_path)).walk())
    assert [image.name for image in found if len(image.name) < 1024] == ["broken.zip"]
    for image, code in zip(found, ("bad_archive", "name_too_long"), strict=True):
        with pytest.raises(errors.BadInput) as caught:
            image.with_digest()
        assert caught.value.code == code


def test_a_name_with_too_many_bytes_is_reported(tmp_path):
    """In a folder and in an archive: 1,000 characters of three bytes each."""
    name = "/".join(["字" * 83] * 12) + ".jpg"
    make(tmp_path, name)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, b"x")

    found = list(walker.DirectoryWalker(str(tmp_path)).walk())
    assert [image.name for image in found] == [f"x.zip/{name}", name]
    for image in found:
        with pytest.raises(errors.BadInput, match=r"bytes in UTF-8 \(.*the maximum is 2,600:") as caught:
            image.with_digest()
        assert caught.value.code == "name_too_long"


def test_folders_nested_deeper_than_pythons_stack_are_no_trouble(tmp_path):
    root = os.open(tmp_path, os.O_RDONLY)
    for _ in range(700):
        os.mkdir("d", dir_fd=root)
        deeper = os.open("d", os.O_RDONLY, dir_fd=root)
        os.close(root)
        root = deeper
    os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=root))
    os.close(root)

    assert names(tmp_path) == ["d/" * 700 + "a.jpg"]


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """The names of two thousand images alone would be 100 kB.

    Only memory that lines of this package have allocated is counted, and not that of threads left by other tests.
    """
    for number in range(30):
        make(tmp_path, *(f"{number:02}/{name:03}.jpg" for name in range(100)))
    own_lines = tracemalloc.Filter(inclusive=True, filename_pattern=str(Path(walker.__file__).parent / "*"))

    tracemalloc.start()
    try:
        walk = walker.DirectoryWalker(str(tmp_path)).walk()
        sizes = []
        for _ in range(3):
            for _ in range(900):
                next(walk)
            snapshot = tracemalloc.take_snapshot().filter_traces([own_lines])
            sizes.append(sum(trace.size for trace in snapshot.traces))
    finally:
        tracemalloc.stop()

    assert sizes[0] > 0
    assert sizes[2] - sizes[0] < 50_000


def test_files_that_may_be_images_are_named(tmp_path):
    """Up to 20; of a folder or an archive the path, with odd characters escaped. Others are only counted."""
    make(tmp_path, "a.jpg", "in/b.CR2", "in/line\nfeed.rar", "notes.txt", ".hidden.jpg")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("../evil.jpg", b"x")

    survey = walker.DirectoryWalker(str(tmp_path)).summarize()

    assert list(survey.left_out_files) == [
        {"name": "c.zip/../evil.jpg", "reason": "unsafe path"},
        {"name": "in/b.CR2", "reason": "unsupported RAW photo (CR2)"},
        {"name": "in/line\\nfeed.rar", "reason": "archive of another format"},
    ]
    make(tmp_path, *(f"{number}.pdf" for number in range(30)))
    survey = walker.DirectoryWalker(str(tmp_path)).summarize()
    assert (len(survey.left_out_files), survey.left_out.total()) == (20, 33)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_an_unreadable_folder_is_named(tmp_path):
    make(tmp_path, "a.jpg", "in/locked/b.jpg")
    (tmp_path / "in" / "locked").chmod(0)

    survey = walker.DirectoryWalker(str(tmp_path)).summarize()

    (tmp_path / "in" / "locked").chmod(0o755)
    assert list(survey.left_out_files) == [{"name": "in/locked", "reason": "unreadable folder"}]


def test_a_file_whose_state_cannot_be_read_has_not_vanished(tmp_path, monkeypatch):
    """As in a folder that may be listed and not entered, or on a network drive that fails: its image is missing."""
    make(tmp_path, "a.jpg", "b.jpg", "c.jpg", ".hidden.jpg")
    failures = {"b.jpg": PermissionError(13, "Permission denied"), "c.jpg": FileNotFoundError(2, "No such file")}
    failures[".hidden.jpg"] = failures["b.jpg"]
    lstat = os.lstat

    def failing_lstat(path, **options):
        if failure := failures.get(str(path).rpartition("/")[2]):
            raise failure
        return lstat(path, **options)

    monkeypatch.setattr(os, "lstat", failing_lstat)
    survey = walker.DirectoryWalker(str(tmp_path)).summarize()

    assert list(survey.left_out_files) == [{"name": "b.jpg", "reason": "unreadable"}]


def test_an_archive_of_another_format_is_to_be_unpacked(tmp_path):
    """Not to be submitted as an image."""
    make(tmp_path, "photos.rar")
    with pytest.raises(errors.BadInput, match=r"photos\.rar is an archive of another format: unpack it"):
        list(walker.DirectoryWalker(str(tmp_path / "photos.rar")).walk())


def test_photos_of_phones_are_taken_and_kinds_that_are_not_decoded_are_counted(tmp_path):
    """Each of the latter by its kind, and not as noise."""
    make(
        tmp_path, "a.HEIC", "b.heif", "c.avif", "d.jxl", "e.jfif", "f.jpe", "g.jif", "h.CR2", "i.nef", "j.pdf", "k.txt"
    )

    survey = walker.DirectoryWalker(str(tmp_path)).summarize()

    assert survey.image_count == 7
    assert survey.left_out.total() == 3
    assert survey.skipped == {
        "unsupported RAW photo (CR2)": 1,
        "unsupported RAW photo (NEF)": 1,
        "unsupported PDF": 1,
        "not an image": 1,
    }


def test_the_suffixes_of_images_are_those_of_the_formats():
    """Which the decoder has."""
    assert set(file_kinds.IMAGE_SUFFIXES) == {suffix for suffixes in SUFFIXES.values() for suffix in suffixes}
    assert SUFFIXES.keys() == set(typing.get_args(formats.Format))
