"""Everything that `Client.submit` takes for an image."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from imaging import decode
from sortbelt import errors
from sortbelt.bulk import walker
from sortbelt.client import image_files, inputs
from sortbelt.files import file_kinds
from tests.support import factories

DATA = factories.make_image()


def test_one_input_of_any_kind_is_one_image(tmp_path):
    """A path, bytes, a file object, a PIL image, and a name with bytes."""
    path = tmp_path / "lunch.png"
    path.write_bytes(DATA)
    assert inputs.expand(path) == [path]
    assert inputs.expand(str(path)) == [str(path)]
    assert inputs.expand(DATA) == inputs.expand(bytearray(DATA)) == inputs.expand(io.BytesIO(DATA)) == [("image", DATA)]
    with path.open("rb") as file:
        assert inputs.expand(file) == [("lunch.png", DATA)]
    assert inputs.expand(("a", DATA)) == [("a", DATA)]
    with Image.open(path) as image:
        ((name, png),) = inputs.expand(image)
        assert (name, Image.open(io.BytesIO(png)).tobytes()) == ("lunch.png", image.tobytes())
    assert inputs.expand(Image.new("L", (2, 2)))[0][0] == "image"


def test_several_inputs_have_different_names(tmp_path):
    """Those without a name get numbers; a folder is its images, in subfolders too, without hidden and other files."""
    folder = tmp_path / "folder"
    for name in ("b.jpg", "a/c.PNG", "notes.txt", ".hidden.jpg", ".cache/d.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    named = [("a/c.PNG", b"x"), ("b.jpg", b"x")]
    assert inputs.expand(folder) == named
    assert inputs.expand([b"1", folder, b"2"]) == [("image", b"1"), *named, ("image-2", b"2")]


def test_a_folder_has_the_same_images_and_names_as_in_a_bulk_run(tmp_path):
    """By the suffixes, whatever the system's table of types knows; without system files, drawings and icons."""
    for suffix in (*file_kinds.IMAGE_SUFFIXES, *file_kinds.UNSUPPORTED_KINDS, ".txt"):
        (tmp_path / f"a{suffix}").write_bytes(b"x")
        (tmp_path / f"B{suffix.upper()}").write_bytes(b"x")
    for name in (
        "@eaDir/thumb.jpg",
        ".trash-1000/old.jpg",
        "sub/.hidden.jpg",
        "sub/back\\slash.jpg",
        "sub/line\nfeed.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    Path(os.fsdecode(bytes(tmp_path) + b"/sub/ma\xf1ana.jpg")).write_bytes(b"x")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    walked = [image.name for image in walker.DirectoryWalker(str(tmp_path)).walk()]
    assert len(walked) == 2 * len(file_kinds.IMAGE_SUFFIXES) + 3
    submitted = image_files.from_files(inputs.expand(tmp_path))
    assert sorted(image.name for image in submitted) == sorted(walked)


@pytest.mark.parametrize("wrong", [7, [None], io.StringIO("text"), {"a": 1}.values()])
def test_an_input_of_another_kind_is_named(wrong, tmp_path):
    """In one sentence, as is a folder without images."""
    with pytest.raises(errors.BadInput):
        inputs.expand(wrong)
    with pytest.raises(errors.BadInput, match="no images"):
        inputs.expand(tmp_path)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"]
)
def test_a_pil_image_of_any_mode_is_a_file_that_is_classified(mode):
    """Of those that a file can have, the pixels are the same."""
    image = Image.new(mode, (4, 3))
    ((_, data),) = inputs.expand(image)
    decode.open_image(data)
    encoded = Image.open(io.BytesIO(data))
    assert encoded.mode == mode or mode in {"La", "PA", "RGBa", "HSV"}
    assert encoded.size == (4, 3)


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_a_pil_image_keeps_the_orientation_of_its_file(file_format, mode):
    """Pillow turns a TIFF when it reads the pixels, and no other file; the server does."""
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new(mode, (4, 3)).save(file, file_format, exif=exif)
    ((_, data),) = inputs.expand(Image.open(file))
    assert decode.open_image(data).size == (3, 4)
    ((_, data),) = inputs.expand(ImageOps.exif_transpose(Image.open(file)))
    assert decode.open_image(data).size == (3, 4)


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_other_exif_tags_do_not_spoil_a_pil_image(mode):
    """A size that is not that of the image, a wrong type, an orientation that does not exist."""
    exif = Image.Exif()
    exif[0x0100] = exif[0x0101] = 4000
    exif[0x011A] = "x"
    exif[0x0112] = 70000
    file = io.BytesIO()
    Image.new(mode, (4, 3)).save(file, "JPEG")
    image = Image.open(file)
    image._exif = exif
    ((_, data),) = inputs.expand(image)
    assert decode.open_image(data).size == (4, 3)


def test_a_pil_image_that_was_turned_is_not_turned_again():
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 3)).save(file, "JPEG", exif=exif)
    ((_, data),) = inputs.expand(Image.open(file).rotate(-90, expand=True))
    assert decode.open_image(data).size == (3, 4)
