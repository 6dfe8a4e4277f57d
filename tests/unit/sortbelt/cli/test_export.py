import csv
import io
import json
import os
import threading
from pathlib import Path

import pytest

from sortbelt.bulk import run_manifest
from sortbelt.cli import export
from sortbelt.client import responses

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
BAD["error"] = {"code": "undecodable", "detail": "Not an image."}


def write(writer):
    out = io.StringIO(newline="")
    writer((responses.Result.from_json(raw) for raw in (GOOD, BAD)), out)
    return out.getvalue()


def test_json_has_the_shape_of_the_api():
    assert json.loads(write(export.write_json)) == {"results": [GOOD, BAD]}


def test_no_results_are_json_too():
    out = io.StringIO()
    export.write_json([], out)

    assert json.loads(out.getvalue()) == {"results": []}


def test_rows_of_csv_may_hold_line_breaks():
    """However the server's chunks are cut."""
    rows = [b"image,label\r\n", b'"a\r\nb ""c"".jpg",sushi\r\n', b"d.jpg,\r\n"]
    text = b"".join(rows)

    for size in (1, 2, 5, 100):
        chunks = [text[start : start + size] for start in range(0, len(text), size)]
        assert list(export.split_rows(chunks, "csv")) == rows


def test_rows_of_ndjson_are_lines():
    assert list(export.split_rows([b'{"a": "\\""}\n{"b"', b": 1}\n"], "ndjson")) == [b'{"a": "\\""}\n', b'{"b": 1}\n']


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(1)", "\tx", "\rx", "\uff1d1"])
def test_no_name_is_a_formula_in_csv(name, tmp_path):
    export.write_failures(
        [run_manifest.FailedImage(name, "undecodable", "Not an image.")], str(tmp_path / "failed.csv")
    )

    with (tmp_path / "failed.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1][0] == f"'{name}"


def test_no_part_of_a_name_is_a_formula_where_cells_end_at_semicolons(tmp_path):
    """As in a spreadsheet in German or French, also in quotation marks."""
    names = {"a;=1": "a;'=1", 'a; "=1': "a; \"'=1", "\t=1": "'\t'=1", "a\t@b": "a\t'@b", "a;b-c=d": "a;b-c=d"}
    failures = [run_manifest.FailedImage(name, "undecodable", "Not an image.") for name in names]
    export.write_failures(failures, str(tmp_path / "failed.csv"))

    with (tmp_path / "failed.csv").open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)][1:] == list(names.values())


def test_the_table_shows_label_and_confidence_or_why_there_are_none():
    assert write(export.write_table).splitlines() == [
        'a, "b".jpg\tdone\tsushi\t0.7500\t',
        "x\tfailed\t\t\tundecodable: Not an image.",
    ]


def test_a_file_appears_only_when_all_of_it_is_written(tmp_path):
    path = tmp_path / "out.csv"

    def half_way():
        with export.open_output(str(path)) as file:
            file.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_way()
    assert list(tmp_path.iterdir()) == []
    with export.open_output(str(path)) as file:
        file.write("all")

    assert path.read_text() == "all"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("width", "forced", "is_shown"), [(100, False, True), (70, False, False), (70, True, True)])
def test_the_highest_scores_are_in_a_table_that_is_wide_enough(width, forced, is_shown, monkeypatch):
    """Or if they are asked for; in tab-separated lines only then."""
    scores = {"soup": 0.004, "sandwich": 0.072, "sushi": 0.92, "salad": 0.004}
    results = [
        responses.Result.from_json({**GOOD, "image": "a.jpg", "scores": scores}),
        responses.Result.from_json(BAD),
    ]
    monkeypatch.setenv("COLUMNS", str(width))
    screen, file = io.StringIO(), io.StringIO()
    screen.isatty = lambda: True

    export.write_table(results, screen, scores=forced)
    export.write_table(results, file, scores=forced)

    text = " ".join(screen.getvalue().split())
    assert ("scores" in text) == is_shown
    if is_shown:
        assert "sushi .92" in text
    assert ("sushi .92, sandwich .07, soup .00" in file.getvalue()) == forced


def test_a_score_of_one_is_whole():
    """Without its leading zero is only a fraction."""
    assert export.top_scores(responses.Result.from_json({**GOOD, "scores": {"a": 1.0, "b 0.1": 0.0}})) == (
        "a 1.00, b 0.1 .00"
    )


def test_a_link_a_pipe_and_a_device_are_written_and_not_replaced(tmp_path):
    target, link, pipe = tmp_path / "target.csv", tmp_path / "link.csv", tmp_path / "pipe"
    link.symlink_to(target.name)
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    for path in (link, pipe, Path(os.devnull)):
        with export.open_output(str(path)) as file:
            file.write("all")
    reader.join()

    assert link.is_symlink()
    assert target.read_text() == "all"
    assert received == ["all"]
    assert pipe.is_fifo()
    assert Path(os.devnull).is_char_device()
    assert set(tmp_path.iterdir()) == {target, link, pipe}


def test_an_open_file_of_the_process_is_appended_to(tmp_path):
    """As `--out /dev/stdout >> all.csv`."""
    path = tmp_path / "all.csv"
    path.write_text("first")
    with path.open("r+") as file:
        os.lseek(file.fileno(), 5, os.SEEK_SET)  # as with `>`, where the shell has opened it and others write to it
        with export.open_output(f"/dev/fd/{file.fileno()}") as output:
            output.write(" second")
        os.write(file.fileno(), b" third")
    assert path.read_text() == "first second third"
    assert list(tmp_path.iterdir()) == [path]
