"""Growth: what the same questions cost with empty tables and with millions of results.

`python -m bench.growth --rows 1000000 10000000`. For each database there is one of each size at the same time, and
they are asked in turn, so that noise hits all alike. The pages go through the API's own views, without a network.
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
from bench import filling, report, stack
from bench.figures import Figure
from jobs import database, settings, tables
from jobs.store import incoming, jobs, keys, work
from migrations.__main__ import upgrade

PAGE, DEEP = 100, 1000  # rows of a page; the number of the deep one
STEPS = 1000  # rows of a page on the way there
REPEATS = 20  # of each question in one round; the figure of the round is their median
BATCH = 64
ROOM = 25_000_000_000  # more than this is not written
OWN = "own results, of a key that is no admin's"
QUERIES: Mapping[str, str] = {  # every list that an admin may ask for, each filter at least once
    "jobs": "/v1/jobs",
    "jobs by status": "/v1/jobs?status=done",
    "jobs by owner": "/v1/jobs?owner={owner}",
    "jobs by model": f"/v1/jobs?model={filling.MODEL}",
    "jobs by since": "/v1/jobs?since={since}",
    "jobs by until": "/v1/jobs?until={until}",
    "results": "/v1/results",
    "results by job": "/v1/results?job={giant}",
    "results by label": "/v1/results?label=sushi",
    "results by min_confidence": "/v1/results?min_confidence=0.8",
    "results by max_confidence": "/v1/results?max_confidence=0.6",
    "results by status": "/v1/results?status=failed",
    "results by error": "/v1/results?error=undecodable",
    "results by model": f"/v1/results?model={filling.MODEL}",
    "results by owner": "/v1/results?owner={owner}",
    "results by version": f"/v1/results?model={filling.MODEL}&version=1",
    "results, least confident first": "/v1/results?order=confidence",
    "results by since": "/v1/results?since={since}",
    "results by until": "/v1/results?until={until}",
    "results by name": "/v1/results?name=img_1",
    "results by name of none": "/v1/results?name=nosuchname",
    "results by custom_id": "/v1/results?custom_id=order-4711",
    "results by label and confidence": "/v1/results?label=sandwich&min_confidence=0.9",
    "a job's results": "/v1/jobs/{giant}/results",
    OWN: "/v1/results",
}


@dataclass
class Filled:
    """One database of one size, with the application upon it."""

    rows: int
    db: database.Database
    client: Any
    headers: Mapping[str, Mapping[str, str]]
    """By query: the key that asks; "" for all others."""
    owner: str
    giant: str
    deep: dict[str, str] = field(default_factory=dict)
    """By query: the URL of the deep page."""

    def close(self) -> None:
        """Give all connections back."""
        self.db.close()
        self.client.application.extensions["sortbelt"].db.close()

    def get(self, query: str, url: str) -> Any:
        """The answer to a GET, as somebody sees it."""
        answer = self.client.get(url, headers=self.headers.get(query, self.headers[""]))
        if answer.status_code != 200:
            raise RuntimeError(f"{url} answered {answer.status_code}: {answer.text[:300]}")
        return answer


def filled(url: str, rows: int) -> Filled:
    """Migrate an empty database and fill it."""
    db = database.Database(url)
    db.write(upgrade)
    keys_ = {role: keys.make() for role in (tables.Role.ADMIN, tables.Role.SUBMIT)}
    owners = [db.write(keys.create, str(role), role, key).id for role, key in keys_.items()]
    _fill(url, rows, (owners[0], owners[1]))
    wanted = settings.read({"SORTBELT_DATABASE_URL": url, "SORTBELT_BLOBS": "blobs-of-nobody"})
    headers = {name: {"Authorization": f"Bearer {key}"} for name, key in zip(("", OWN), keys_.values(), strict=True)}
    giant = "01800000-0000-7000-8000-000000000000"
    return Filled(rows, db, app.create_app(wanted).test_client(), headers, owners[0], giant)


def _fill(url: str, rows: int, owners: tuple[str, str]) -> None:
    engine = sa.create_engine(url)  # the product's own ends a statement after 30 s
    started = time.monotonic()
    filling.fill(engine, rows, owners)
    engine.dispose()
    _tell(f"{engine.dialect.name}: {rows:,} rows in {time.monotonic() - started:.0f} s")


def store_questions(some: Filled) -> dict[str, float]:
    """Milliseconds of submit, claim, finish and looking at a job."""
    order = jobs.NewJob(some.owner, filling.MODEL, tables.Priority.BULK)
    single = jobs.NewJob(some.owner, filling.MODEL, tables.Priority.INTERACTIVE)
    maker = work.Maker(filling.MODEL, "1", "0" * 64)
    took: dict[str, list[float]] = {}
    for _ in range(REPEATS):
        id_ = _timed(took, "submit 1 image", some.db.write, jobs.create, single, _images(1))
        _timed(took, "a job by its id", some.get, "", f"/v1/jobs/{id_}")
        _timed(took, f"submit {BATCH} images", some.db.write, jobs.create, order, _images(BATCH - 1))
        how = {"limit": BATCH, "lease_seconds": 60.0}
        claims = _timed(took, f"claim {BATCH}", some.db.write, work.claim, "bench", filling.MODEL, **how)
        if len(claims) != BATCH:
            raise RuntimeError(f"{len(claims)} images were claimed, not {BATCH}.")
        scores = {"sandwich": 0.25, "sushi": 0.75}
        fates = [work.Fate(claim, label="sushi", confidence=0.75, scores=scores) for claim in claims]
        _timed(took, f"finish {BATCH}", some.db.write, work.finish, fates, maker)
        _timed(took, "results of a job", some.get, "", f"/v1/jobs/{id_}/results")
    return {name: statistics.median(times) for name, times in took.items()}


def pages(some: Filled) -> dict[str, float]:
    """Milliseconds of the first and the deep page of every list."""
    took: dict[str, list[float]] = {}
    for query in QUERIES:
        if not some.rows and "{giant}" in QUERIES[query]:
            continue  # there is no such job
        first = _url(some, query)
        if query not in some.deep:
            some.deep[query] = _deep(some, query, first)
        for _ in range(3):
            _timed(took, f"{query}: page 1", some.get, query, first)
            if some.deep[query]:
                _timed(took, f"{query}: page {DEEP:,}", some.get, query, some.deep[query])
    return {name: statistics.median(times) for name, times in took.items()}


def _url(some: Filled, query: str) -> str:
    moment = time.gmtime(time.time() - filling.DAYS * 43_200)
    middle = time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)
    url = QUERIES[query].format(giant=some.giant, owner=some.owner, since=middle, until=middle)
    return _with(url, limit=PAGE)


def _deep(some: Filled, query: str, first: str) -> str:
    """The URL of the thousandth page, reached by the links; empty if there are not so many rows."""
    url, passed = _with(first, limit=STEPS), 0
    while True:
        left = (DEEP - 1) * PAGE - passed
        if left <= 0:
            return _with(url, limit=PAGE)
        size = min(STEPS, left)
        link = some.get(query, _with(url, limit=size)).headers.get("Link", "")
        if 'rel="next"' not in link:
            return ""
        where = parse.urlsplit(link[link.index("<") + 1 : link.index(">")])
        url, passed = f"{where.path}?{where.query}", passed + size


def _with(url: str, **parameters: object) -> str:
    where = parse.urlsplit(url)
    query = dict(parse.parse_qsl(where.query)) | parameters
    return f"{where.path}?{parse.urlencode(query)}"


def _images(count: int) -> list[incoming.NewImage]:
    """Pictures that nobody has sent before: what is known of their bytes is nothing, in any round."""
    return [incoming.NewImage(f"{number}.jpg", secrets.token_hex(32), 100_000) for number in range(count)]


def _timed(took: dict[str, list[float]], name: str, question: Callable[..., Any], *args: Any, **how: Any) -> Any:
    started = time.perf_counter()
    answer = question(*args, **how)
    took.setdefault(name, []).append((time.perf_counter() - started) * 1000)
    return answer


def measure(sizes: Sequence[Filled], rounds: int) -> dict[str, dict[int, Figure]]:
    """Every question, by its name and the number of rows."""
    found: dict[str, dict[int, Figure]] = {}
    for _ in range(rounds):
        for some in sizes:
            filling.settle(some.db.engine)
        for ask in (store_questions, pages):
            for some in sizes:
                for name, value in ask(some).items():
                    figure = found.setdefault(name, {}).setdefault(some.rows, Figure("growth", name, "ms"))
                    figure.values.append(value)
    return found


def lines(database_name: str, rows: Sequence[int], found: dict[str, dict[int, Figure]]) -> Iterator[str]:
    """The table: milliseconds, with the ratio to empty tables where both do the same."""
    yield from ("", f"{database_name}: milliseconds, median of the rounds (lowest to highest); x empty tables")
    heads = [f"{count:,} rows" for count in rows]
    table = [("  ", *heads, "")]
    table += [("  " + name, *[_cell(by_rows, count, rows[0]) for count in rows], "") for name, by_rows in found.items()]
    yield from report.columns(table)


def _cell(by_rows: Mapping[int, Figure], count: int, empty: int) -> str:
    figure = by_rows.get(count)
    if figure is None:
        return "no such page"
    low, high = figure.spread
    alike = count != empty and empty in by_rows and "page" not in figure.name
    ratio = f" x{figure.over(by_rows[empty]).median:.2f}" if alike else ""
    return f"{report.number(figure.median)} ({report.number(low)} to {report.number(high)}){ratio}"


def _sqlite(rows: Sequence[int], work_dir: Path, stack_: ExitStack) -> list[Filled]:
    folder = Path(stack_.enter_context(tempfile.TemporaryDirectory(dir=work_dir, prefix="growth-")))
    return [filled(f"sqlite:///{folder}/{count}.db", count) for count in rows]


def _postgresql(rows: Sequence[int], work_dir: Path, stack_: ExitStack) -> list[Filled]:
    url, _ = stack_.enter_context(stack.postgres(work_dir))
    made = []
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    for count in rows:
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE rows_{count}"))
        made.append(filled(sa.make_url(url).set(database=f"rows_{count}").render_as_string(hide_password=False), count))
    return made


DATABASES = {"sqlite": _sqlite, "postgresql": _postgresql}


def main(asked: argparse.Namespace) -> int:
    """Fill, ask, print."""
    rows = [0, *sorted(asked.rows)]
    asked.out.mkdir(parents=True, exist_ok=True)
    need = max(filling.need(name, sum(rows)) for name in asked.databases)
    free = shutil.disk_usage(asked.out).free
    _tell(f"This takes about {need / 1e9:.1f} GB in {asked.out}, where {free / 1e9:.0f} GB are free.")
    if need > min(ROOM, free * 0.8):
        _tell("That is too much: ask for fewer ROWS, or another --out.")
        return 2
    text = []
    for name in asked.databases:
        with ExitStack() as stack_:
            sizes = DATABASES[name](rows, asked.out, stack_)
            text += list(lines(name, rows, measure(sizes, asked.runs)))
            for some in sizes:
                some.close()
    report.keep(text, asked.out / "growth.txt")
    return 0


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000], help="of results, besides none")
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    parser.add_argument("--runs", type=int, default=3, help="rounds")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where all of it is written")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_asked()))
