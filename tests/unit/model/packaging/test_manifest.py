"""A manifest survives a round trip to disk, and invalid fields are named."""

import json

import pytest

from model.packaging import manifest


def test_a_manifest_reads_back_as_it_was_written(tmp_path, small_manifest):
    manifest.write(tmp_path, small_manifest)

    assert manifest.read(tmp_path) == small_manifest


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("format", 2, r"format: Input should be 1, not 2"),
        ("name", "../etc", "name: String should match pattern"),
        ("version", "", "version: String should match pattern"),
        ("name", 3, "name: Input should be a valid string"),
        ("labels", ["a", "a", "b"], "labels must be unique"),
        ("labels", ["a", "b"], "2 labels do not fit"),
        ("labels", None, "labels: Input should be"),
        ("precision", "int3", "int3"),
        ("temperature", 0, "temperature"),
        ("temperature", "hot", "temperature"),
        ("digest", "abc", "64"),
        ("network", {"name": "cookpad-cnn"}, "network.classes is missing"),
        ("network", {"name": "cookpad-cnn", "classes": 3, "height": 32, "width": 32}, "preprocess gives 24 x 24"),
        ("preprocess", {"width": 24, "height": 24, "blur": 1}, "preprocess.blur is unknown.*newer"),
        ("selftest", {"picture": "rings-1", "probabilities": [1], "tolerance": 0.1}, "one probability"),
        ("selftest", {}, "selftest.picture is missing"),
        ("surprise", 1, "surprise is unknown"),
    ],
)
def test_an_invalid_field_is_named(tmp_path, small_manifest, field, value, problem):
    fields = {**small_manifest.to_json(), field: value}
    (tmp_path / manifest.MANIFEST_FILE).write_text(json.dumps(fields), "utf-8")

    with pytest.raises(manifest.InvalidBundle, match=problem):
        manifest.read(tmp_path)


@pytest.mark.parametrize("missing", ["name", "network", "labels", "digest", "preprocess", "selftest"])
def test_a_missing_field_is_named(tmp_path, small_manifest, missing):
    fields = small_manifest.to_json()
    del fields[missing]
    (tmp_path / manifest.MANIFEST_FILE).write_text(json.dumps(fields), "utf-8")

    with pytest.raises(manifest.InvalidBundle, match=missing):
        manifest.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "\0"])
def test_a_file_that_is_not_a_json_object_is_rejected(tmp_path, text):
    (tmp_path / manifest.MANIFEST_FILE).write_text(text, "utf-8")

    with pytest.raises(manifest.InvalidBundle, match="restore"):
        manifest.read(tmp_path)


def test_a_folder_without_a_manifest_is_not_a_bundle(tmp_path):
    with pytest.raises(manifest.InvalidBundle, match="not a bundle"):
        manifest.read(tmp_path)
