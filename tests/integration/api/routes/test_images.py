"""Thumbnails: small, upright, without metadata, visible to the image's owner; hostile images are harmless."""

import gc
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from PIL import Image

from api.services import thumbnail_child, thumbnail_client, thumbnails
from core import errors, settings
from core.maintenance import orphans, retention
from core.sandbox import child_command
from core.storage import local
from tests.faults import hostile_images
from tests.support import factories, image_files, modules
from tests.support.api_client import assert_problem

SECRET = b"a secret place"
BOMBS = hostile_images.decompression_bombs()
MADE = hostile_images.hostile_files()


def two_colours(form="JPEG", size=(600, 300), mode="RGB", **options):
    """Return an image that is red on the left and blue on the right."""
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    return image_files.encode(image.convert(mode), form, **options)


@pytest.fixture
def classified_thumbnail(db):
    """Submit an image and have it classified; return the URL of its thumbnail."""

    def submit(me, data, **outcome):
        job = me.post("/v1/jobs", images=[("x", data)]).json
        factories.complete_claims(db, factories.claim_images(db), **outcome)
        return f"/v1/images/{me.get(job['results_url']).json['results'][0]['image_id']}/thumbnail"

    return submit


def opened(response):
    """Return the JPEG of a response."""
    assert response.status_code == 200, response.text
    assert response.mimetype == "image/jpeg"
    with Image.open(io.BytesIO(response.data)) as image:
        image.load()
        return image


def test_a_thumbnail_is_small_upright_and_without_metadata(submit_client, classified_thumbnail):
    """Turned by its EXIF orientation, without the rest of the file's metadata."""
    exif = Image.Exif()
    exif[0x0112] = 6  # its top is on the right
    exif[0x010E] = SECRET.decode()
    sent = two_colours(exif=exif, comment=SECRET, icc_profile=SECRET)
    response = submit_client.get(classified_thumbnail(submit_client, sent))
    image = opened(response)

    assert image.size == (128, 256)
    top, bottom = image.getpixel((64, 20)), image.getpixel((64, 235))
    assert (top[0] > 200, top[2] < 60) == (bottom[2] > 200, bottom[0] < 60) == (True, True)
    assert SECRET in sent
    assert SECRET not in response.data
    assert not image.getexif()
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_a_thumbnail_is_cached_privately(submit_client, classified_thumbnail, monkeypatch):
    """By its ETag; a 304 needs no bytes."""
    url = classified_thumbnail(submit_client, factories.make_image(1))
    first = submit_client.get(url)
    assert first.headers["Cache-Control"] == "private, max-age=3600"
    monkeypatch.setattr(thumbnails.Thumbnailer, "get", None)
    again = submit_client.get(url, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]


def test_a_thumbnail_is_visible_to_its_owner_and_to_global_readers(
    submit_client, other_client, admin_client, read_client, classified_thumbnail
):
    """For other keys it is 404, like an image that does not exist."""
    url = classified_thumbnail(submit_client, factories.make_image(1))
    for api_client in (admin_client, read_client):
        assert opened(api_client.get(url)).size == (40, 30)
    assert_problem(other_client.get(url), 404, "image_not_found")
    for odd in ("0", "999999", "x", "-1", "9" * 30, "1.5"):
        assert_problem(submit_client.get(f"/v1/images/{odd}/thumbnail"), 404, "image_not_found")


def test_images_without_a_thumbnail(app, submit_client, db, classified_thumbnail, monkeypatch):
    """Rejected by the header, failed in a worker, damaged after the header, missing, and purged."""
    refused = submit_client.post("/v1/jobs", images=[("x", b"not an image")]).json
    (result,) = submit_client.get(refused["results_url"]).json["results"]
    assert_problem(submit_client.get(f"/v1/images/{result['image_id']}/thumbnail"), 422, "no_thumbnail")
    cut = classified_thumbnail(submit_client, two_colours("PNG", (300, 300))[:200])
    assert "no thumbnail" in assert_problem(submit_client.get(cut), 422, "no_thumbnail")
    failed = classified_thumbnail(
        submit_client, factories.make_image(2), label=None, error_code="timed_out", error_detail="It takes too long."
    )
    with monkeypatch.context() as patch:
        patch.setattr(thumbnails.Thumbnailer, "get", None)
        assert_problem(submit_client.get(failed), 422, "no_thumbnail")
    lost = classified_thumbnail(submit_client, factories.make_image(3))
    for path in Path(app.extensions["sortbelt"].settings.blob_store).glob("??/*"):
        path.unlink()
    assert_problem(submit_client.get(lost), 410, "image_gone")
    db.write(lambda c: c.exec_driver_sql("UPDATE jobs SET purged_at = created_at"))
    assert_problem(submit_client.get(lost), 410, "image_gone")


def test_thumbnails_leave_threads_to_other_requests(app, submit_client, classified_thumbnail):
    """503 with Retry-After when too many are waiting."""
    url = classified_thumbnail(submit_client, factories.make_image(1))
    kept = classified_thumbnail(submit_client, factories.make_image(2))
    opened(submit_client.get(kept))
    created = app.extensions["sortbelt"].thumbnailer
    for _ in range(app.extensions["sortbelt"].settings.api_threads - thumbnails.RESERVED_THREADS):
        assert created._queue_slots.acquire(blocking=False)
    response = submit_client.get(url)
    assert_problem(response, 503, "too_busy")
    assert response.headers["Retry-After"]
    opened(submit_client.get(kept))
    created._queue_slots.release()
    opened(submit_client.get(url))


class Bucket:
    """A blob store without files."""

    def __init__(self, data):
        self.data = data

    def path(self, _):
        """Return None, as for a bucket."""
        return

    def get(self, _):
        """Return the bytes, whatever is asked for."""
        if self.data is None:
            raise errors.BlobMissing
        return self.data


def render(data, **limits):
    """Return the thumbnail of some bytes."""
    digest = hashlib.sha256(data or b"").hexdigest()
    config = settings.Settings(thumbnail_cache_bytes=0, **limits)
    return thumbnails.Thumbnailer(config, Bucket(data)).get(digest, thumbnails.THUMBNAIL)


@pytest.mark.parametrize("name", [*BOMBS, *list(MADE)[::7]])
def test_hostile_images_harm_only_their_child_process(name):
    """A small JPEG or a reason, soon, and no child process is left."""
    data, fine = (BOMBS[name], False) if name in BOMBS else MADE[name]
    before = os.times()
    small = sentence = None
    try:
        small = render(data)
    except errors.NoThumbnail as none:
        sentence = none.detail
    if small:
        with Image.open(io.BytesIO(small)) as image:
            assert max(image.size) <= thumbnails.THUMBNAIL.max_side
    else:
        assert not fine
        assert 20 < len(sentence) < 400
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 8
    gc.collect()
    assert not any("api.services.thumbnail_server" in child.cmdline() for child in psutil.Process().children())


def test_a_store_without_files_sends_bytes_to_the_child():
    """In a file in memory; missing bytes are gone."""
    assert render(factories.make_image(1)).startswith(b"\xff\xd8\xff")
    with pytest.raises(errors.ImageGone):
        render(None)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "I", "I;16", "I;16B", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    """Colours stay in their place; grey levels of more than 8 bits are stretched."""
    data = dark_16_bit(mode) if mode.startswith("I;16") else two_colours("TIFF", (30, 30), mode)
    with Image.open(io.BytesIO(thumbnail_child.render(data, thumbnails.THUMBNAIL, max_pixels=1_000_000))) as image:
        assert image.mode == "RGB"
        left, right = (image.getpixel((x, 15)) for x in (5, 25))
        assert max(abs(a - b) for a, b in zip(left, right, strict=True)) > 30 or mode == "1"


def dark_16_bit(mode):
    """Return an image of 16 bits whose levels are all in the lowest eighth."""
    image = Image.new(mode, (30, 30), 500)
    image.paste(3000, (0, 0, 15, 30))
    return image_files.encode(image, "TIFF")


def test_a_child_has_no_settings_and_a_time_limit(monkeypatch):
    """Its environment is empty, its wall time is limited, and one that does not start is a server error."""
    environments = []
    popen = subprocess.Popen

    def noted(command, **how):
        environments.append(how["env"])
        return popen(command, **how)

    monkeypatch.setenv("SORTBELT_DATABASE_URL", "postgresql+psycopg://a:secret@b/c")
    monkeypatch.setattr(child_command, "subprocess", modules.with_changes(subprocess, Popen=noted))
    render(factories.make_image(1))
    assert list(environments[0]) == ["PYTHONPATH"]
    with pytest.raises(errors.NoThumbnail, match="too long"):
        render(BOMBS["png"] if "png" in BOMBS else factories.make_image(1), decode_seconds=0.0001)
    monkeypatch.setattr(child_command, "sys", modules.with_changes(sys, executable="/bin/false"))
    with pytest.raises(errors.ServiceUnavailable):
        render(factories.make_image(1))


def test_a_dead_thumbnail_server_is_replaced():
    """One request fails, and the next one starts another server; the children of the dead one end with it."""
    created = thumbnails.Thumbnailer(settings.Settings(thumbnail_cache_bytes=0), Bucket(factories.make_image(1)))
    digest = hashlib.sha256(factories.make_image(1)).hexdigest()
    created.get(digest, thumbnails.THUMBNAIL)
    server = created._process._server.process
    server.kill()
    server.wait()
    with pytest.raises(errors.ServiceUnavailable):
        created.get(digest, thumbnails.THUMBNAIL)
    assert created.get(digest, thumbnails.THUMBNAIL).startswith(b"\xff\xd8\xff")


def test_a_folder_passes_the_file_to_the_child(tmp_path):
    """A file that cannot be read is an error of the store."""
    data = factories.make_image(1)
    sha256 = hashlib.sha256(data).hexdigest()
    folder = local.LocalBlobStore(tmp_path)
    folder.put([(sha256, data)])
    created = thumbnails.Thumbnailer(settings.Settings(), folder)
    assert created.get(sha256, thumbnails.THUMBNAIL).startswith(b"\xff\xd8\xff")
    folder.path(sha256).unlink()
    folder.path(sha256).mkdir()
    with pytest.raises(errors.BlobsUnavailable):
        created.get(sha256, thumbnails.PREVIEW)


def kept(app):
    """Return the renditions that are kept, by image and kind."""
    return {(one.sha256, one.kind) for one in app.extensions["sortbelt"].blob_store.renditions.list_all()}


def test_a_preview_is_larger_and_not_for_readers(submit_client, read_client, classified_thumbnail):
    """Up to 1,600 pixels a side, whole and upright; an image is not enlarged. A reader sees thumbnails only."""
    exif = Image.Exif()
    exif[0x0112] = 6
    large = classified_thumbnail(submit_client, two_colours(size=(2400, 1200), exif=exif)).replace(
        "thumbnail", "preview"
    )
    assert opened(submit_client.get(large)).size == (800, 1600)
    small = classified_thumbnail(submit_client, two_colours("PNG", (600, 300))).replace("thumbnail", "preview")
    assert opened(submit_client.get(small)).size == (600, 300)
    assert_problem(read_client.get(large), 403, "not_allowed")


def test_kept_renditions_are_not_made_again_and_go_with_their_image(
    app, db, submit_client, classified_thumbnail, monkeypatch
):
    """By deletion, by retention, and by the sweep if one was made meanwhile; a damaged one is made again."""
    store = app.extensions["sortbelt"].blob_store
    urls = [classified_thumbnail(submit_client, factories.make_image(number)) for number in range(3)]
    digests = [hashlib.sha256(factories.make_image(number)).hexdigest() for number in range(3)]
    first = submit_client.get(urls[0]).data
    submit_client.get(urls[0].replace("thumbnail", "preview"))
    kinds = {kind for _, kind in kept(app)}
    assert len(kinds) == 2
    with monkeypatch.context() as patch:
        patch.setattr(thumbnail_client.ThumbnailProcess, "render", None)
        assert submit_client.get(urls[0]).data == first
    for kind in kinds:
        store.renditions.put(digests[0], kind, first[:-10])
    assert submit_client.get(urls[0]).data == first
    for url in urls[1:]:
        submit_client.get(url)

    assert submit_client.request("DELETE", urls[0].removesuffix("/thumbnail")).status_code == 200
    assert {sha256 for sha256, _ in kept(app)} == set(digests[1:])
    result = submit_client.get("/v1/results").json["results"][0]
    submit_client.request("DELETE", f"/v1/jobs/{result['job_id']}")
    retention.run_deletions(db, store)
    assert {sha256 for sha256, _ in kept(app)} == {digests[1]}
    store.renditions.put(digests[0], "thumbnail-0", first)
    orphans.sweep(db, store)
    assert {sha256 for sha256, _ in kept(app)} == {digests[1]}


def test_kept_renditions_are_bounded(tmp_path):
    """The oldest are removed when there are more bytes than the limit; with 0 none are kept."""
    folder = local.LocalBlobStore(tmp_path)
    images = [factories.make_image(number) for number in range(6)]
    digests = [hashlib.sha256(data).hexdigest() for data in images]
    folder.put(zip(digests, images, strict=True))
    limit = 3 * len(thumbnails.Thumbnailer(settings.Settings(), folder).get(digests[0], thumbnails.THUMBNAIL))
    created = thumbnails.Thumbnailer(settings.Settings(thumbnail_cache_bytes=limit), folder)
    for digest in digests:
        created.get(digest, thumbnails.THUMBNAIL)
        assert sum(rendition.bytes for rendition in folder.renditions.list_all()) <= limit
    stored = {rendition.sha256 for rendition in folder.renditions.list_all()}
    assert digests[-1] in stored
    assert digests[0] not in stored
    folder.renditions.remove_of_images(digests)
    thumbnails.Thumbnailer(settings.Settings(thumbnail_cache_bytes=0), folder).get(digests[0], thumbnails.THUMBNAIL)
    assert list(folder.renditions.list_all()) == []
