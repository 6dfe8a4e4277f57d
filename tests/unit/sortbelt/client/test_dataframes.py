import builtins
import datetime as dt
import importlib

import pytest

from sortbelt import errors
from sortbelt.client import dataframes, responses

RAW = [
    {
        "image": "a.jpg",
        "job_id": "j",
        "status": "done",
        "label": "sushi",
        "confidence": 0.75,
        "scores": {"sushi": 0.75, "sandwich": 0.25},
        "familiarity": 0.5,
        "model": {"name": "m", "version": "1", "digest": "d"},
        "finished_at": "2026-01-31T12:00:01Z",
    },
    {"image": "b.jpg", "job_id": "j", "status": "failed", "error": {"code": "undecodable", "detail": "No."}},
]
RESULTS = [responses.Result.from_json(raw) for raw in RAW]


def test_arrow_has_a_row_for_each_result_with_types():
    pa = pytest.importorskip("pyarrow")

    table = dataframes.to_arrow(iter(RESULTS))

    assert table.column_names == list(dataframes.COLUMNS)
    assert table["label"].to_pylist() == ["sushi", None]
    assert table["finished_at"].to_pylist() == [dt.datetime(2026, 1, 31, 12, 0, 1, tzinfo=dt.UTC), None]
    assert table.schema.field("confidence").type == pa.float64()
    assert table["scores"].to_pylist() == [[("sushi", 0.75), ("sandwich", 0.25)], None]
    assert table["familiarity"].to_pylist() == [0.5, None]
    assert dataframes.to_arrow([]).num_rows == 0


def test_pandas_has_a_row_for_each_result_with_types():
    pytest.importorskip("pandas")

    frame = dataframes.to_pandas(iter(RESULTS))

    assert list(frame.columns) == list(dataframes.COLUMNS)
    assert frame["confidence"].tolist()[0] == 0.75
    assert frame["scores"].tolist() == [{"sushi": 0.75, "sandwich": 0.25}, None]
    assert frame["familiarity"].isna().tolist() == [False, True]
    assert frame["error_code"].isna().tolist() == [True, False]
    assert str(frame["finished_at"].dtype) == "datetime64[us, UTC]"
    assert len(dataframes.to_pandas([])) == 0


@pytest.mark.parametrize(("build", "name"), [(dataframes.to_arrow, "pyarrow"), (dataframes.to_pandas, "pandas")])
def test_without_the_library_one_sentence_says_what_to_install(monkeypatch, build, name):
    monkeypatch.setattr(importlib, "import_module", lambda wanted: builtins.__import__(f"no_{wanted}"))

    with pytest.raises(errors.BadInput, match=rf"needs {name}: pip install 'sortbelt\[frames\]'"):
        build(RESULTS)
