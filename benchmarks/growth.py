"""Growth: cost of the same queries with empty tables and with millions of results.

`python -m benchmarks.growth --rows 1000000 10000000`. Databases of all sizes exist at the same time and are queried in
turn, so that noise affects all alike. Pages are fetched through the API's own views, without a network.
"""

import argparse
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib import parse

import sqlalchemy as sa

from api import app
from benchmarks import report, stack, synthetic_rows
from benchmarks.figures import Figure
from core import enums, settings
from core.db import database, new_image
from core.db.queries import api_keys, jobs
from core.db.queries import claims as claim_queries
from migrations.__main__ import upgrade

PAGE_SIZE, DEEP_PAGE = 100, 1000  # rows per page; number of the deep page
STEP_PAGE_SIZE = 1000  # rows per page on the way to the deep page
REPEATS = 20  # of each query in one round; the round's value is their median
BATCH_SIZE = 64
MAX_DISK_BYTES = 25_000_000_000  # larger databases are refused
OWN_RESULTS = "own results, of a key with role submit"
QUERIES: Mapping[str, str] = {  # every list that an admin can query, each filter at least once
    "jobs": "/v1/jobs",
    "jobs by status": "/v1/jobs?status=done",
    "jobs by owner": "/v1/jobs?owner={owner}",
    "jobs by model": f"/v1/jobs?model={synthetic_rows.MODEL}",
    "jobs by name": "/v1/jobs?name=holiday",
    "jobs by name of none": "/v1/jobs?name=nosuchname",
    "jobs by since": "/v1/jobs?since={since}",
    "jobs by until": "/v1/jobs?until={until}",
    "results": "/v1/results",
    "results by job": "/v1/results?job={giant}",
    "results by label": "/v1/results?label=sushi",
    "results by min_confidence": "/v1/results?min_confidence=0.8",
    "results by max_confidence": "/v1/results?max_confidence=0.6",
    "results by min_familiarity": "/v1/results?min_familiarity=0.8",
    "results by max_familiarity": "/v1/results?max_familiarity=0.02",
    "results by reviewed": "/v1/results?reviewed=true",
    "results, least familiar first": "/v1/results?order=familiarity",
    "results by status": "/v1/results?status=failed",
    "results by error": "/v1/results?error=undecodable",
    "results by model": f"/v1/results?model={synthetic_rows.MODEL}",
    "results by owner": "/v1/results?owner={owner}",
    "results by version": f"/v1/results?model={synthetic_rows.MODEL}&version=1",
    "results, least confident first": "/v1/results?order=confidence",
    "results by since": "/v1/results?since={since}",
    "results by until": "/v1/results?until={until}",
    "results by name": "/v1/results?name=img_1",
    "results by name of none": "/v1/results?name=nosuchname",
    "results by custom_id": "/v1/results?custom_id=order-4711",
    "results by label and confidence": "/v1/results?label=sandwich&min_confidence=0.9",
    "a job's results": "/v1/jobs/{giant}/results",
    OWN_RESULTS: "/v1/results",
}


@dataclass
class FilledDatabase:
    """A database of one size, with an API application on it."""

    rows: int
    db: database.Database
    client: Any
    headers: Mapping[str, Mapping[str, str]]
    """By query: the headers with the key to use; "" for all others."""
    owner: str
    giant_job_id: str
    deep_urls: dict[str, str] = field(default_factory=dict)
    """By query: the URL of the deep page."""

    def close(self) -> None:
        """Close all connections."""
        self.db.close()
        self.client.application.extensions["sortbelt"].db.close()

    def get(self, query: str, url: str) -> Any:
        """GET a URL with the query's key; raise RuntimeError unless the response is 200."""
        response = self.client.get(url, headers=self.headers.get(query, self.headers[""]))
        if response.status_code != 200:
            raise RuntimeError(f"{url} answered {response.status_code}: {response.text[:300]}")
        return response


def create_filled_database(url: str, rows: int) -> FilledDatabase:
    """Migrate an empty database and fill it."""
    db = database.Database(url)
    db.write(upgrade)
    key_by_role = {role: api_keys.generate() for role in (enums.Role.ADMIN, enums.Role.SUBMIT)}
    owners = [db.write(api_keys.create, str(role), role, key).id for role, key in key_by_role.items()]
    _fill_tables(url, rows, (owners[0], owners[1]))
    app_settings = settings.read({"SORTBELT_DATABASE_URL": url, "SORTBELT_BLOB_STORE": "unused-blobs"})
    headers = {
        name: {"Authorization": f"Bearer {key}"}
        for name, key in zip(("", OWN_RESULTS), key_by_role.values(), strict=True)
    }
    giant_job_id = "01800000-0000-7000-8000-000000000000"
    return FilledDatabase(rows, db, app.create_app(app_settings).test_client(), headers, owners[0], giant_job_id)


def _fill_tables(url: str, rows: int, owners: tuple[str, str]) -> None:
    engine = sa.create_engine(url)  # the product's engine cancels statements after 30 s
    started = time.monotonic()
    synthetic_rows.fill(engine, rows, owners)
    engine.dispose()
    _log(f"{engine.dialect.name}: {rows:,} rows in {time.monotonic() - started:.0f} s")


def time_queue_operations(target: FilledDatabase) -> dict[str, float]:
    """Time submitting, claiming, completing and reading a job; return the medians in milliseconds."""
    bulk_job = jobs.NewJob(target.owner, synthetic_rows.MODEL, enums.Priority.BULK)
    single_job = jobs.NewJob(target.owner, synthetic_rows.MODEL, enums.Priority.INTERACTIVE)
    model_ref = claim_queries.ModelRef(synthetic_rows.MODEL, "1", "0" * 64)
    timings: dict[str, list[float]] = {}
    for _ in range(REPEATS):
        single, bulk = [(single_job, _new_images(1))], [(bulk_job, _new_images(BATCH_SIZE - 1))]
        (job,) = _time_call(timings, "submit 1 image", target.db.write, jobs.insert_jobs, single)
        _time_call(timings, "a job by its id", target.get, "", f"/v1/jobs/{job.id}")
        _time_call(timings, f"submit {BATCH_SIZE} images", target.db.write, jobs.insert_jobs, bulk)
        claim_options = {"limit": BATCH_SIZE, "max_digests": BATCH_SIZE, "next_attempts": 0, "lease_seconds": 60.0}
        batch_claims = _time_call(
            timings,
            f"claim {BATCH_SIZE}",
            target.db.write,
            claim_queries.claim,
            "bench",
            synthetic_rows.MODEL,
            target.owner,
            **claim_options,
        )
        if len(batch_claims) != BATCH_SIZE:
            raise RuntimeError(f"{len(batch_claims)} images were claimed, not {BATCH_SIZE}.")
        scores = {"sandwich": 0.25, "sushi": 0.75}
        outcomes = [
            claim_queries.Outcome(held_claim, label="sushi", confidence=0.75, scores=scores)
            for held_claim in batch_claims
        ]
        _time_call(timings, f"finish {BATCH_SIZE}", target.db.write, claim_queries.finish, outcomes, model_ref)
        _time_call(timings, "results of a job", target.get, "", f"/v1/jobs/{job.id}/results")
    return {name: statistics.median(times) for name, times in timings.items()}


def time_pages(target: FilledDatabase) -> dict[str, float]:
    """Time the first and the deep page of every list; return the medians in milliseconds."""
    timings: dict[str, list[float]] = {}
    for query in QUERIES:
        if not target.rows and "{giant}" in QUERIES[query]:
            continue  # an empty database has no such job
        first_url = _query_url(target, query)
        if query not in target.deep_urls:
            target.deep_urls[query] = _find_deep_url(target, query, first_url)
        for _ in range(3):
            _time_call(timings, f"{query}: page 1", target.get, query, first_url)
            if target.deep_urls[query]:
                _time_call(timings, f"{query}: page {DEEP_PAGE:,}", target.get, query, target.deep_urls[query])
    return {name: statistics.median(times) for name, times in timings.items()}


def _query_url(target: FilledDatabase, query: str) -> str:
    midpoint = time.gmtime(time.time() - synthetic_rows.SPREAD_DAYS * 43_200)
    timestamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", midpoint)
    url = QUERIES[query].format(giant=target.giant_job_id, owner=target.owner, since=timestamp, until=timestamp)
    return _with_parameters(url, limit=PAGE_SIZE)


def _find_deep_url(target: FilledDatabase, query: str, first_url: str) -> str:
    """Return the URL of the deep page, reached by `Link` headers; empty if there are too few rows."""
    url, skipped_rows = _with_parameters(first_url, limit=STEP_PAGE_SIZE), 0
    while True:
        remaining = (DEEP_PAGE - 1) * PAGE_SIZE - skipped_rows
        if remaining <= 0:
            return _with_parameters(url, limit=PAGE_SIZE)
        size = min(STEP_PAGE_SIZE, remaining)
        link = target.get(query, _with_parameters(url, limit=size)).headers.get("Link", "")
        if 'rel="next"' not in link:
            return ""
        link_url = parse.urlsplit(link[link.index("<") + 1 : link.index(">")])
        url, skipped_rows = f"{link_url.path}?{link_url.query}", skipped_rows + size


def _with_parameters(url: str, **parameters: object) -> str:
    url_parts = parse.urlsplit(url)
    query = dict(parse.parse_qsl(url_parts.query)) | parameters
    return f"{url_parts.path}?{parse.urlencode(query)}"


def _new_images(count: int) -> list[new_image.NewImage]:
    """Return new images with random digests, which no earlier round has used."""
    return [new_image.NewImage(f"{number}.jpg", secrets.token_hex(32), 100_000) for number in range(count)]


def _time_call(
    timings: dict[str, list[float]], name: str, function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    started = time.perf_counter()
    result = function(*args, **kwargs)
    timings.setdefault(name, []).append((time.perf_counter() - started) * 1000)
    return result


def measure(sizes: Sequence[FilledDatabase], rounds: int) -> dict[str, dict[int, Figure]]:
    """Time every query; return figures by query name and number of rows."""
    figures: dict[str, dict[int, Figure]] = {}
    for _ in range(rounds):
        for target in sizes:
            synthetic_rows.vacuum(target.db.engine)
        for time_operations in (time_queue_operations, time_pages):
            for target in sizes:
                for name, value in time_operations(target).items():
                    figure = figures.setdefault(name, {}).setdefault(target.rows, Figure("growth", name, "ms"))
                    figure.values.append(value)
    return figures


def lines(database_name: str, rows: Sequence[int], figures: dict[str, dict[int, Figure]]) -> Iterator[str]:
    """Yield the table: milliseconds, with the ratio to empty tables where both do the same work."""
    yield from ("", f"{database_name}: milliseconds, median of the rounds (lowest to highest); x empty tables")
    headings = [f"{count:,} rows" for count in rows]
    table = [("  ", *headings, "")]
    table += [
        ("  " + name, *[_cell(by_rows, count, rows[0]) for count in rows], "") for name, by_rows in figures.items()
    ]
    yield from report.format_columns(table)


def _cell(by_rows: Mapping[int, Figure], count: int, empty_rows: int) -> str:
    figure = by_rows.get(count)
    if figure is None:
        return "no such page"
    low, high = figure.spread
    is_comparable = count != empty_rows and empty_rows in by_rows and "page" not in figure.name
    ratio = f" x{figure.ratio_to(by_rows[empty_rows]).median:.2f}" if is_comparable else ""
    return f"{report.format_number(figure.median)} ({report.format_number(low)} to {report.format_number(high)}){ratio}"


def _sqlite(rows: Sequence[int], work_dir: Path, exit_stack: ExitStack) -> list[FilledDatabase]:
    folder = Path(exit_stack.enter_context(tempfile.TemporaryDirectory(dir=work_dir, prefix="growth-")))
    return [create_filled_database(f"sqlite:///{folder}/{count}.db", count) for count in rows]


def _postgresql(rows: Sequence[int], work_dir: Path, exit_stack: ExitStack) -> list[FilledDatabase]:
    url, _ = exit_stack.enter_context(stack.postgres(work_dir))
    filled_databases = []
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    for count in rows:
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE rows_{count}"))
        filled_databases.append(
            create_filled_database(
                sa.make_url(url).set(database=f"rows_{count}").render_as_string(hide_password=False), count
            )
        )
    return filled_databases


DATABASES = {"sqlite": _sqlite, "postgresql": _postgresql}


def main(args: argparse.Namespace) -> int:
    """Fill the databases, time the queries, print the table."""
    rows = [0, *sorted(args.rows)]
    args.out.mkdir(parents=True, exist_ok=True)
    required_bytes = max(synthetic_rows.required_bytes(name, sum(rows)) for name in args.databases)
    free_bytes = shutil.disk_usage(args.out).free
    _log(
        f"About {required_bytes / 1e9:.1f} GB will be written to {args.out}, where {free_bytes / 1e9:.0f} GB are free."
    )
    if required_bytes > min(MAX_DISK_BYTES, free_bytes * 0.8):
        _log("That is too much. Use fewer ROWS, or another --out.")
        return 2
    text = []
    for name in args.databases:
        with ExitStack() as exit_stack:
            sizes = DATABASES[name](rows, args.out, exit_stack)
            text += list(lines(name, rows, measure(sizes, args.runs)))
            for target in sizes:
                target.close()
    report.save(text, args.out / "growth.txt")
    return 0


def _log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000], help="numbers of results, in addition to 0")
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    parser.add_argument("--runs", type=int, default=3, help="rounds")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "out", help="folder for databases and table"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_parse_args()))
