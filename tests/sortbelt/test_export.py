import csv
import io
import json

import pytest

from sortbelt import export, manifest, records

GOOD = {
    "image": 'a, "b".jpg',
    "job_id": "1",
    "status": "done",
    "label": "sushi",
    "confidence": 0.75,
    "scores": {"sushi": 0.75},
    "error": None,
    "model": {"name": "m", "version": "2", "digest": "ff"},
    "cached": False,
    "environment": {
        "device": "NVIDIA H200",
        "precision": "bfloat16",
        "torch": "2.13.0",
        "decoder": "Pillow",
        "sortbelt": "0.1.0",
    },
    "worker": "host:1:abc",
    "finished_at": "2026-01-31T12:00:00Z",
}
BAD = {**GOOD, "image": "x", "status": "failed", "label": None, "confidence": None, "model": None}
BAD |= {"environment": None, "worker": None}
BAD["error"] = {"code": "undecodable", "detail": "No picture."}


def write(writer):
    out = io.StringIO(newline="")
    writer((records.Result.read(raw) for raw in (GOOD, BAD)), out)
    return out.getvalue()


def test_json_has_the_shape_of_the_api():
    assert json.loads(write(export.as_json)) == {"results": [GOOD, BAD]}


def test_no_results_are_json_too():
    out = io.StringIO()
    export.as_json([], out)

    assert json.loads(out.getvalue()) == {"results": []}


def test_csv_has_a_line_for_each_image_under_the_names_of_the_columns():
    rows = list(csv.DictReader(io.StringIO(write(export.as_csv), newline="")))

    assert [row["image"] for row in rows] == ['a, "b".jpg', "x"]
    assert (rows[0]["label"], rows[0]["confidence"], rows[0]["model_version"]) == ("sushi", "0.75", "2")
    assert (rows[0]["worker"], rows[0]["device"], rows[0]["sortbelt"]) == ("host:1:abc", "NVIDIA H200", "0.1.0")
    assert (rows[1]["label"], rows[1]["error_code"], rows[1]["device"]) == ("", "undecodable", "")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\uff1d1"])
def test_no_name_is_a_formula_in_csv(name, tmp_path):
    out = io.StringIO(newline="")
    export.as_csv([records.Result.read({**GOOD, "image": name})], out)
    export.failures([manifest.Failure(name, "undecodable", "No picture.")], str(tmp_path / "failed.csv"))

    assert next(csv.DictReader(io.StringIO(out.getvalue(), newline="")))["image"] == f"'{name}"
    with (tmp_path / "failed.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1][0] == f"'{name}"


def test_the_table_shows_label_and_confidence_or_why_there_are_none():
    assert write(export.as_table).splitlines() == [
        'a, "b".jpg\tdone\tsushi\t0.7500\t',
        "x\tfailed\t\t\tundecodable: No picture.",
    ]


def test_a_file_appears_only_when_all_of_it_is_written(tmp_path):
    path = tmp_path / "out.csv"

    def half_way():
        with export.target(str(path)) as file:
            file.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_way()
    assert list(tmp_path.iterdir()) == []
    with export.target(str(path)) as file:
        file.write("all")

    assert path.read_text() == "all"
    assert list(tmp_path.iterdir()) == [path]
