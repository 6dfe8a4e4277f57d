"""Thumbnails: small, upright, bare, for those whose picture it is; and hostile ones hurt nobody."""

import hashlib
import io
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from api import miniature, miniatures
from jobs import blobs, errors, settings
from tests.api.asking import problem
from tests.faults import hostile
from tests.jobs import making

SECRET = b"a secret place"
BOMBS = hostile.bombs()
MADE = hostile.made()


def photo(form="JPEG", size=(600, 300), mode="RGB", **options):
    """A picture that is red on the left and blue on the right."""
    picture = Image.new("RGB", size, "blue")
    picture.paste("red", (0, 0, size[0] // 2, size[1]))
    file = io.BytesIO()
    picture.convert(mode).save(file, form, **options)
    return file.getvalue()


@pytest.fixture
def shown(db):
    """Submits a picture and has it classified; where its thumbnail is."""

    def submit(me, data, **fate):
        job = me.post("/v1/jobs", images=[("x", data)]).json
        making.finish(db, making.claim(db), **fate)
        return f"/v1/images/{me.get(job['results_url']).json['results'][0]['image_id']}/thumbnail"

    return submit


def opened(response):
    """The JPEG of an answer."""
    assert response.status_code == 200, response.text
    assert response.mimetype == "image/jpeg"
    with Image.open(io.BytesIO(response.data)) as picture:
        picture.load()
        return picture


def test_it_is_small_upright_and_made_anew(me, shown):
    """Turned as the camera says, without what the camera, or anybody, wrote into the file."""
    exif = Image.Exif()
    exif[0x0112] = 6  # its top is on the right
    exif[0x010E] = SECRET.decode()
    sent = photo(exif=exif, comment=SECRET, icc_profile=SECRET)
    response = me.get(shown(me, sent))
    picture = opened(response)

    assert picture.size == (128, 256)
    top, bottom = picture.getpixel((64, 20)), picture.getpixel((64, 235))
    assert (top[0] > 200, top[2] < 60) == (bottom[2] > 200, bottom[0] < 60) == (True, True)
    assert SECRET in sent
    assert SECRET not in response.data
    assert not picture.getexif()
    assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_it_is_asked_for_once_and_kept_by_its_reader_alone(me, shown, monkeypatch):
    """An ETag, privately; who has it costs no decoding."""
    url = shown(me, making.picture(1))
    first = me.get(url)
    assert first.headers["Cache-Control"] == "private, max-age=3600"
    monkeypatch.setattr(miniatures.subprocess, "run", None)
    again = me.get(url, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]


def test_only_its_owner_and_who_sees_everybody_s_see_it(me, other, admin, reader, shown):
    """For all others it is not there; no more is what nobody has."""
    url = shown(me, making.picture(1))
    for person in (admin, reader):
        assert opened(person.get(url)).size == (40, 30)
    problem(other.get(url), 404, "image_not_found")
    for odd in ("0", "999999", "x", "-1", "9" * 30, "1.5"):
        problem(me.get(f"/v1/images/{odd}/thumbnail"), 404, "image_not_found")


def test_what_is_no_picture_or_gone(app, me, db, shown, monkeypatch):
    """Refused by its header, failed in a worker, broken beyond its header, lost, and purged."""
    refused = me.post("/v1/jobs", images=[("x", b"no picture")]).json
    (result,) = me.get(refused["results_url"]).json["results"]
    problem(me.get(f"/v1/images/{result['image_id']}/thumbnail"), 422, "no_thumbnail")
    cut = shown(me, photo("PNG", (300, 300))[:200])
    assert "no thumbnail" in problem(me.get(cut), 422, "no_thumbnail")
    failed = shown(me, making.picture(2), label=None, error_code="timed_out", error_detail="It takes too long.")
    with monkeypatch.context() as patch:
        patch.setattr(miniatures.subprocess, "run", None)
        problem(me.get(failed), 422, "no_thumbnail")
    lost = shown(me, making.picture(3))
    for path in Path(app.extensions["sortbelt"].settings.blobs).glob("??/*"):
        path.unlink()
    problem(me.get(lost), 410, "picture_gone")
    db.write(lambda c: c.exec_driver_sql("UPDATE jobs SET purged_at = created_at"))
    problem(me.get(lost), 410, "picture_gone")


def test_some_threads_are_left_for_others(app, me, shown):
    """Who comes when too many wait is told when to come again."""
    url = shown(me, making.picture(1))
    made = app.extensions["sortbelt"].miniatures
    for _ in range(app.extensions["sortbelt"].settings.api_threads - miniatures.FREE_THREADS):
        assert made._room.acquire(blocking=False)
    response = me.get(url)
    problem(response, 503, "too_busy")
    assert response.headers["Retry-After"]
    made._room.release()
    opened(me.get(url))


class Bucket:
    """A store without files."""

    def __init__(self, data):
        self.data = data

    def path(self, _):
        """None, as a bucket has it."""
        return

    def get(self, _):
        """The bytes, whatever is asked for."""
        if self.data is None:
            raise errors.BlobMissing
        return self.data


def make(data, **limits):
    """The thumbnail of some bytes."""
    return miniatures.Miniatures(settings.Settings(**limits), Bucket(data)).make("0" * 64)


@pytest.mark.parametrize("name", [*BOMBS, *list(MADE)[::7]])
def test_hostile_pictures_cost_their_child_alone(name):
    """A small JPEG or a sentence, soon, and no child is left."""
    data, fine = (BOMBS[name], False) if name in BOMBS else MADE[name]
    started = time.monotonic()
    small = sentence = None
    try:
        small = make(data)
    except errors.NoThumbnail as none:
        sentence = none.detail
    if small:
        with Image.open(io.BytesIO(small)) as picture:
            assert max(picture.size) <= miniature.SIDE
    else:
        assert not fine
        assert 20 < len(sentence) < 400
    assert time.monotonic() - started < 8
    assert not any("api.miniature" in child.cmdline() for child in psutil.Process().children())


def test_a_store_without_files():
    """The bytes go to the child by its standard input; what is not there is gone."""
    assert make(making.picture(1)).startswith(b"\xff\xd8\xff")
    with pytest.raises(errors.PictureGone):
        make(None)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "I", "I;16", "I;16B", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    """What is red stays on the left; grey levels beyond eight bits are stretched."""
    data = deep(mode) if mode.startswith("I;16") else photo("TIFF", (30, 30), mode)
    with Image.open(io.BytesIO(miniature.small(data, max_pixels=1_000_000))) as picture:
        assert picture.mode == "RGB"
        left, right = (picture.getpixel((x, 15)) for x in (5, 25))
        assert max(abs(a - b) for a, b in zip(left, right, strict=True)) > 30 or mode == "1"


def deep(mode):
    """A picture of 16 bits whose levels are all in the lowest eighth."""
    picture = Image.new(mode, (30, 30), 500)
    picture.paste(3000, (0, 0, 15, 30))
    file = io.BytesIO()
    picture.save(file, "TIFF")
    return file.getvalue()


def test_a_child_knows_nothing_and_ends_when_it_takes_too_long(monkeypatch, tmp_path):
    """It does not see the server's settings; by the clock on the wall it is ended; one that does not start is ours."""
    ran = []
    run = miniatures.subprocess.run

    def noted(command, **how):
        ran.append(how)
        return run(command, **how)

    monkeypatch.setenv("SORTBELT_DATABASE_URL", "postgresql+psycopg://a:secret@b/c")
    monkeypatch.setattr(miniatures.subprocess, "run", noted)
    make(making.picture(1))
    assert list(ran[0]["env"]) == ["PYTHONPATH"]
    with pytest.raises(errors.NoThumbnail, match="too long"):
        make(making.picture(1), decode_seconds=0.01)
    monkeypatch.setattr(miniatures.sys, "executable", "/bin/false")
    with pytest.raises(errors.Unavailable):
        make(making.picture(1))


def test_a_folder_hands_its_child_the_file(tmp_path):
    """And a file that cannot be read is the store's fault."""
    data = making.picture(1)
    sha256 = hashlib.sha256(data).hexdigest()
    folder = blobs.Folder(tmp_path)
    folder.put([(sha256, data)])
    made = miniatures.Miniatures(settings.Settings(), folder)
    assert made.make(sha256).startswith(b"\xff\xd8\xff")
    folder.path(sha256).unlink()
    folder.path(sha256).mkdir()
    with pytest.raises(errors.BlobsUnavailable):
        made.make(sha256)
