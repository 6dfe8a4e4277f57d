"""A manifest survives the disk, and nonsense in it is named."""

import json

import pytest

from model import manifest


def test_a_manifest_reads_back_as_it_was_written(tmp_path, small_manifest):
    manifest.write(tmp_path, small_manifest)

    assert manifest.read(tmp_path) == small_manifest


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("format", 2, "format 2"),
        ("name", "../etc", "name"),
        ("version", "", "version"),
        ("name", 3, "texts"),
        ("labels", ["a", "a", "b"], "different"),
        ("labels", ["a", "b"], "2 labels"),
        ("labels", None, "not usable"),
        ("precision", "int3", "int3"),
        ("temperature", 0, "temperature"),
        ("temperature", "hot", "temperature"),
        ("digest", "abc", "64"),
        ("network", {"name": "cookpad-cnn"}, "not usable"),
        ("network", {"name": "cookpad-cnn", "classes": 3, "height": 32, "width": 32}, "preprocessing"),
        ("preprocess", {"width": 24, "height": 24, "crop": 1}, "newer"),
        ("selftest", {"picture": "rings-1", "probabilities": [1], "tolerance": 0.1}, "one probability"),
        ("selftest", {}, "has no"),
        ("surprise", 1, "surprise"),
    ],
)
def test_nonsense_is_named(tmp_path, small_manifest, field, value, told):
    fields = {**small_manifest.to_json(), field: value}
    (tmp_path / manifest.FILE).write_text(json.dumps(fields), "utf-8")

    with pytest.raises(manifest.BadBundle, match=told):
        manifest.read(tmp_path)


@pytest.mark.parametrize("missing", ["name", "network", "labels", "digest", "preprocess", "selftest"])
def test_a_missing_field_is_named(tmp_path, small_manifest, missing):
    fields = small_manifest.to_json()
    del fields[missing]
    (tmp_path / manifest.FILE).write_text(json.dumps(fields), "utf-8")

    with pytest.raises(manifest.BadBundle, match=missing):
        manifest.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "\0"])
def test_what_is_no_json_object_is_refused(tmp_path, text):
    (tmp_path / manifest.FILE).write_text(text, "utf-8")

    with pytest.raises(manifest.BadBundle, match="restore"):
        manifest.read(tmp_path)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    with pytest.raises(manifest.BadBundle, match="not a bundle"):
        manifest.read(tmp_path)
