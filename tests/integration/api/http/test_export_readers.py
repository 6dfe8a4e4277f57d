"""Exports, read by the programs of analysts: each finds the same rows, with the same types."""

import base64
import io

import pytest

from tests.support import factories

NAMES = ["plain.jpg", 'odd, "näme"; 寿司\u2028.jpg', "=1+1.jpg", "00123", "null", "not an image"]
MEDIA_TYPES = {"csv": "text/csv; bom=1", "parquet": "application/vnd.apache.parquet", "ndjson": "application/x-ndjson"}


@pytest.fixture
def export(db, submit_client, tmp_path):
    """Write the results of a job to a file in a format; return its path."""
    contents = [*map(factories.make_image, range(len(NAMES) - 1)), b"text"]
    images = [
        {"name": name, "data": base64.b64encode(data).decode()} for name, data in zip(NAMES, contents, strict=True)
    ]
    images[3]["custom_id"] = "007"
    job = submit_client.post("/v1/jobs", json={"images": images}).json
    factories.complete_claims(db, factories.claim_images(db), factories.create_environment(db))

    def write(form):
        response = submit_client.get(job["results_url"], headers={"Accept": MEDIA_TYPES[form]})
        path = tmp_path / f"results.{form}"
        path.write_bytes(response.data)
        return path

    return write


def read_with_duckdb(path, form):
    """Read a file with DuckDB, which guesses the types."""
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed: pip install duckdb")
    function = {"csv": "read_csv", "parquet": "read_parquet", "ndjson": "read_json"}[form]
    options = ", all_varchar = true" if form == "csv" else ""
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        names = "image, label, confidence, status, custom_id, finished_at"
        rows = connection.execute(f"SELECT {names} FROM {function}(?{options})", [str(path)]).fetchall()  # noqa: S608
    return [dict(zip(names.split(", "), row, strict=True)) for row in rows]


def read_with_pandas(path, form):
    """Read a file with pandas."""
    pandas = pytest.importorskip("pandas")
    texts = dict.fromkeys(("image", "custom_id", "label", "status"), str)
    readers = {
        "csv": lambda: pandas.read_csv(path, dtype=texts, keep_default_na=False, na_values={"confidence": [""]}),
        "parquet": lambda: pandas.read_parquet(path),
        "ndjson": lambda: pandas.read_json(path, lines=True, dtype=texts),
    }
    return readers[form]().to_dict("records")


def read_with_polars(path, form):
    """Read a file with polars."""
    polars = pytest.importorskip("polars", reason="polars is not installed: pip install polars")
    readers = {
        "csv": lambda: polars.read_csv(path, infer_schema=False),
        "parquet": lambda: polars.read_parquet(path),
        "ndjson": lambda: polars.read_ndjson(io.BytesIO(path.read_bytes())),
    }
    return readers[form]().to_dicts()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("form", MEDIA_TYPES)
@pytest.mark.parametrize("read", [read_with_duckdb, read_with_pandas, read_with_polars])
def test_an_export_is_read_with_all_its_rows(export, read, form):
    """Names with commas, quotes, line separators, digits only or the word null stay texts."""
    rows = read(export(form), form)
    prefix = "'" if form == "csv" else ""  # so that no spreadsheet evaluates it
    assert [row["image"] for row in rows] == [*NAMES[:2], prefix + NAMES[2], *NAMES[3:]]
    assert [row["label"] or None for row in rows[:5]] == ["sushi"] * 5
    assert [float(row["confidence"]) for row in rows[:5]] == [0.9] * 5
    assert rows[3]["custom_id"] == "007"
    assert rows[5]["status"] == "failed"
    assert rows[5]["confidence"] in (None, "") or rows[5]["confidence"] != rows[5]["confidence"]
    assert all(row["finished_at"] for row in rows)
