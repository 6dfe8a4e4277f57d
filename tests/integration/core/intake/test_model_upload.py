import hashlib
import json
import pickle
import zipfile

import pytest

from core import enums, errors
from core.db.queries import models
from core.intake import model_upload, tensor_files
from tests.support import bundles as making
from tests.support import factories


@pytest.fixture(scope="module")
def valid_bundle_files(tmp_path_factory):
    """The files of a bundle that the model package has made."""
    return making.read_files(making.make_bundle(tmp_path_factory.mktemp("bundles")))


def safetensors(header, body=b""):
    """A file as the format has it: the length of the header, the header, the tensors."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def tensor(start=0, stop=8, shape=(2, 1), dtype="F32"):
    """Return a tensor's entry in a header."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def with_manifest(good, **fields):
    """The bundle with other fields in its manifest; None takes one out."""
    about = json.loads(good["model.json"]) | fields
    text = json.dumps({name: value for name, value in about.items() if value is not None})
    return good | {"model.json": text.encode()}


def refused(files):
    """The sentence with which a bundle is refused."""
    with pytest.raises(errors.BundleRejected) as caught:
        model_upload.validate_bundle(files)
    assert caught.value.detail.endswith((".", "…"))
    return caught.value.detail


def test_a_bundle_is_taken_in_with_its_files(db, blob_store, valid_bundle_files):
    """The blobs hold the three files under the digests of the row."""
    who = factories.create_key(db, "boss", enums.Role.ADMIN)
    row, new = model_upload.register_bundle(db, blob_store, valid_bundle_files, who)
    assert (new, row.name, row.version, row.stage) == (True, making.NAME, "12", "candidate")
    assert {name: blob_store.get(sha256) for name, sha256 in row.files.items()} == valid_bundle_files
    assert row.digest == hashlib.sha256(valid_bundle_files["weights.safetensors"]).hexdigest()
    assert row.manifest["labels"] == list(making.LABELS)
    assert model_upload.register_bundle(db, blob_store, valid_bundle_files, who)[1] is False


def test_a_sweep_of_the_blobs_leaves_bundles_alone(db, blob_store, valid_bundle_files):
    """However old they are."""
    import os

    who = factories.create_key(db, "boss", enums.Role.ADMIN)
    row, _ = model_upload.register_bundle(db, blob_store, valid_bundle_files, who)
    for sha256 in row.files.values():
        os.utime(blob_store.path(sha256), (0, 0))
    blob_store.remove_temp_files()
    assert {name: blob_store.get(sha256) for name, sha256 in row.files.items()} == valid_bundle_files


def test_nothing_is_kept_of_a_bundle_that_is_refused(db, blob_store, valid_bundle_files):
    """Neither rows nor blobs."""
    who = factories.create_key(db, "boss", enums.Role.ADMIN)
    with pytest.raises(errors.BundleRejected):
        model_upload.register_bundle(db, blob_store, valid_bundle_files | {"weights.safetensors": b"x" * 100}, who)
    assert not blob_store.root.exists()
    assert db.read(models.list_all) == []


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "CARD.md"])
def test_a_bundle_has_three_files(valid_bundle_files, name):
    """Each is missed by its name, also if it is empty."""
    assert name in refused({other: data for other, data in valid_bundle_files.items() if other != name})
    assert name in refused(valid_bundle_files | {name: b""})


@pytest.mark.parametrize("name", ["weights.pt", "../model.json", "run.py", ""])
def test_no_other_file_is_taken(valid_bundle_files, name):
    """An unknown file is rejected by name."""
    assert f"{name!r} is not a file of a bundle" in refused(valid_bundle_files | {name: b"x"})


def test_pickles_are_refused_under_any_name(valid_bundle_files, tmp_path):
    """By what they are, not by what they are called."""
    with zipfile.ZipFile(tmp_path / "weights", "w") as archive:
        archive.writestr("data.pkl", pickle.dumps({}))
    for data in (pickle.dumps({"a": 1}), (tmp_path / "weights").read_bytes(), b"\x1f\x8b" + b"0" * 100):
        assert "only safetensors are accepted" in refused(valid_bundle_files | {"weights.safetensors": data})


BAD_WEIGHTS = {
    "too short": b"abc",
    "a header that is cut off": (1000).to_bytes(8, "little") + b"{}",
    "an endless header": (2**63).to_bytes(8, "little") + b"{}",
    "a header that is not JSON": safetensors(b"{x"),
    "a header that is not text": safetensors(b"\xff\xfe"),
    "a header that is not an object": safetensors([1]),
    "a nested header": safetensors(b"[" * 100_000),
    "a tensor that is not an object": safetensors({"a": 1}, b"12345678"),
    "a tensor without a place": safetensors({"a": {"dtype": "F32", "shape": [2]}}, b"12345678"),
    "an unknown type": safetensors({"a": tensor(dtype="F33")}, b"12345678"),
    "another size than its shape": safetensors({"a": tensor(shape=(3,))}, b"12345678"),
    "a negative size": safetensors({"a": tensor(8, 0, shape=(-2,))}, b"12345678"),
    "sizes that are not numbers": safetensors({"a": tensor("0", "8")}, b"12345678"),
    "a truth for a number": safetensors({"a": tensor(0, 4, shape=(True,))}, b"1234"),
    "very many dimensions": safetensors({"a": tensor(shape=[1] * 100_000)}, b"12345678"),
    "bytes that are missing": safetensors({"a": tensor()}, b"1234567"),
    "bytes too many": safetensors({"a": tensor()}, b"123456789"),
    "a gap": safetensors({"a": tensor(), "b": tensor(12, 20)}, b"1" * 20),
    "an overlap": safetensors({"a": tensor(), "b": tensor(4, 12)}, b"1" * 12),
}


@pytest.mark.parametrize("what", BAD_WEIGHTS)
def test_weights_that_are_no_whole_safetensors_are_refused(what):
    """With the reason, before they are loaded."""
    with pytest.raises(errors.BundleRejected, match="is not a complete safetensors file: "):
        tensor_files.validate("weights.safetensors", BAD_WEIGHTS[what])


def test_weights_as_the_format_has_them_are_taken(valid_bundle_files):
    """In any order, with metadata, of no elements, and those of the model package."""
    tensor_files.validate("weights.safetensors", valid_bundle_files["weights.safetensors"])
    tensor_files.validate(
        "weights.safetensors", safetensors({"b": tensor(8, 16), "a": tensor(), "__metadata__": {"x": "y"}}, b"1" * 16)
    )
    tensor_files.validate(
        "weights.safetensors", safetensors({"a": tensor(0, 0, (0, 5)), "b": tensor(0, 4, (), "I32")}, b"1234")
    )


def test_weights_other_than_the_manifest_s_are_refused(valid_bundle_files):
    """The message has both digests."""
    weights = bytearray(valid_bundle_files["weights.safetensors"])
    weights[-1] ^= 1
    said = refused(valid_bundle_files | {"weights.safetensors": bytes(weights)})
    assert json.loads(valid_bundle_files["model.json"])["digest"][:12] in said


BAD_FIELDS = [("format", 2), ("format", None), ("name", "Über"), ("name", 5), ("version", "a b"), ("version", None)]
BAD_FIELDS += [("digest", "x"), ("labels", ["a"]), ("labels", "ab"), ("labels", ["a", 1]), ("network", None)]
BAD_FIELDS += [("labels", ["a", "x" * 256]), ("preprocess", 3), ("version", "x" * 101)]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_a_manifest_that_cannot_be_is_refused_by_the_field(valid_bundle_files, field, value):
    """One sentence that names it."""
    assert f"In model.json, {field}" in refused(with_manifest(valid_bundle_files, **{field: value}))


def test_labels_must_fit_the_network(valid_bundle_files):
    """As many as classes, each once."""
    for labels in (["a", "b", "c"], ["a", "a"]):
        assert "as many as the network's classes" in refused(with_manifest(valid_bundle_files, labels=labels))


BAD_TEXTS = [
    b"{",
    b"[]",
    b"\xff",
    b'{"a": NaN}',
    b'{"a": 1e999}',
    b"[" * 200_000,
    b'{"a": "\\u0000"}',
    b'{"a": "\\ud800"}',
]


@pytest.mark.parametrize("text", [*BAD_TEXTS, b" " * 1_000_001], ids=range(len(BAD_TEXTS) + 1))
def test_a_manifest_that_no_database_would_take_is_refused(valid_bundle_files, text):
    """No JSON object, not finite, endless, or with characters that cannot be stored."""
    assert "model.json" in refused(valid_bundle_files | {"model.json": text})


def with_familiarity(good, data, **fields):
    """The bundle with a fourth file and its digest."""
    digest = {"familiarity_digest": hashlib.sha256(data).hexdigest()}
    return with_manifest(good, **(digest | fields)) | {"familiarity.safetensors": data}


def test_a_fourth_file_is_stored_with_the_others(db, blob_store, valid_bundle_files):
    """Workers fetch all files of the row."""
    files = with_familiarity(valid_bundle_files, safetensors({"distances": tensor()}, bytes(8)))
    who = factories.create_key(db, "boss", enums.Role.ADMIN)

    row, _ = model_upload.register_bundle(db, blob_store, files, who)

    assert {name: blob_store.get(sha256) for name, sha256 in row.files.items()} == files


@pytest.mark.parametrize(
    ("data", "fields", "message"),
    [
        (b"\x80pickle..", {}, "familiarity.safetensors is a pickle"),
        (b"", {}, "familiarity.safetensors is not a complete safetensors file"),
        (safetensors({"a": tensor()}, bytes(7)), {}, "familiarity.safetensors is not a complete safetensors file"),
        (safetensors({"a": tensor()}, bytes(8)), {"familiarity_digest": "0" * 64}, "does not match model.json"),
        (safetensors({"a": tensor()}, bytes(8)), {"familiarity_digest": None}, "must have the digest"),
        (safetensors({"a": tensor()}, bytes(8)), {"familiarity_digest": 7}, "familiarity_digest"),
    ],
)
def test_a_wrong_fourth_file_is_refused(valid_bundle_files, data, fields, message):
    assert message in refused(with_familiarity(valid_bundle_files, data, **fields))


def test_a_digest_without_its_file_or_a_file_that_is_too_large_is_refused(valid_bundle_files, monkeypatch):
    data = safetensors({"a": tensor()}, bytes(8))
    files = with_familiarity(valid_bundle_files, data)
    monkeypatch.setattr(model_upload, "MAX_FAMILIARITY_BYTES", len(data) - 1)

    assert "at most" in refused(files)
    assert "must have the digest" in refused({name: files[name] for name in valid_bundle_files})
