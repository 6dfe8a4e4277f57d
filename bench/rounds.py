"""One round: every contender once, one after the other, on the same pictures; several rounds are a run."""

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import bare, bulk, loop, names, pictures, plain, single, stack
from bench.figures import Board
from bench.peers import dataloader, serving

MEGABYTE = 1e6


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    paths: Sequence[Path]
    count: int
    """Pictures of one folder: copies of these, no two of the same bytes."""
    callers: Sequence[int]
    seconds: float
    """Of one load."""
    runs: int

    @property
    def bodies(self) -> list[bytes]:
        """The pictures as they are sent."""
        return [path.read_bytes() for path in self.paths]


class Round:
    """One round of a plan."""

    def __init__(self, plan: Plan, board: Board, number: int, truth: list[str]) -> None:
        self.plan = plan
        self.board = board
        self.number = number
        self.truth = truth
        """The plain loop's label of each picture; made by the first round."""

    def loops(self) -> None:
        """The plain loop, and the ways that the limit may be reached; no servers."""
        with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work:
            files = pictures.found(self._fresh(Path(work), "loops"))
            done = plain.run(files)
            if not self.truth:
                self.truth += done.labels[: len(self.plan.paths)]
            self._loop(names.PLAIN, done)
            for workers in sorted({max(1, loop.CORES - 1), loop.CORES}):
                self._loop(f"PyTorch DataLoader, workers: {workers}", dataloader.run(workers, files[0].parent))
            ways = {name: way(files) for name, way in bare.ways().items()}
            for name, run in ways.items():
                self._loop(f"bare: {name}", run)
            self.board.add(names.CPU, names.LIMIT, "µs", max(ways.values(), key=lambda run: run.rate).cpu_us)

    def _loop(self, name: str, run: loop.Run) -> None:
        self.board.add(names.BULK, name, "images/s", run.rate)
        self._agree(name, run.labels)

    def sortbelt(self) -> None:
        """The product as a user starts it: folders, then singles."""
        with (
            tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work,
            stack.up(sources=f"bench={work}") as server,
        ):
            self._folder(server, names.FIRST, self._fresh(Path(work), "first"))
            folder = self._fresh(Path(work), "later")
            later = self._folder(server, names.LATER, folder)
            self._own_cost(later)
            self._by_reference(server, folder)
            there = bulk.enqueue(server, self._fresh(Path(work), "there"), source="bench")
            self._loop(names.ON_SERVER, there.run)
            self.board.add_all(names.CPU, "µs", there.cpu_us, "on the server, ")
            self._memory(names.LATER, server)
            for callers in self.plan.callers:
                self._single(server, callers, names.ACCEPTED, single.accepted)
                server.settle()
            if not single.knows_wait(server, self.plan.bodies[0]):
                self.board.skip(names.FINISHED, single.NO_WAIT)
                return
            for callers in self.plan.callers:
                self._single(server, callers, names.FINISHED, single.finished)

    def postgresql(self) -> None:
        """The product on PostgreSQL."""
        with (
            stack.postgres() as (url, pid),
            stack.up(url, also=(pid,)) as server,
            tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work,
        ):
            bulk.enqueue(server, self._fresh(Path(work), "warm"))
            done = self._folder(server, names.POSTGRESQL, self._fresh(Path(work), "pg"))
            self.board.add_all(names.CPU, "µs", done.cpu_us, "with PostgreSQL, ")

    def peers(self, chosen: dict[str, serving.Settings], *, search: bool) -> Iterator[tuple[str, Callable[[], None]]]:
        """The peers, one after the other; `chosen` keeps from round to round with what settings each is served."""
        for peer in serving.PEERS if serving.installed() else ():
            yield peer.name, functools.partial(self._peer, peer, chosen, search=search)

    def _peer(self, peer: serving.Peer, chosen: dict[str, serving.Settings], *, search: bool) -> None:
        bodies, callers = self.plan.bodies, max(self.plan.callers, key=lambda callers: (callers == 32, callers))
        if peer.name not in chosen:
            self.board.note("peers", peer.name, serving.versions(peer))
            chosen[peer.name] = peer.grid[0]
            if search:
                seconds = self.plan.seconds / 2
                chosen[peer.name], rates = serving.best(peer, bodies, connections=callers, seconds=seconds)
                self.board.note("settings tried, requests/s", peer.name, rates)
            self.board.note("settings", peer.name, serving.written(chosen[peer.name]))
        with serving.serve(peer, chosen[peer.name], bodies[0]) as served:
            served.warm(bodies)
            for some in sorted({1, callers} & set(self.plan.callers)):
                done = served.measure(peer.path, bodies, connections=some, seconds=self.plan.seconds)
                self.told(some, peer.name, done)
            if peer.submit:
                done = served.measure(peer.submit, bodies, connections=callers, seconds=self.plan.seconds)
                self.told(callers, names.SUBMITTED, done)

    def _fresh(self, work: Path, name: str) -> Path:
        return bulk.fresh(self.plan.paths, work / name, self.plan.count, f"{name[:5]}{self.number:03}")

    def _folder(self, server: stack.Stack, name: str, folder: Path) -> bulk.Bulk:
        done = bulk.enqueue(server, folder)
        self._loop(name, done.run)
        if done.cached:
            self.board.note("taken over from earlier results", name, done.cached)
        return done

    def _own_cost(self, done: bulk.Bulk) -> None:
        self.board.add_all(names.CPU, "µs", done.cpu_us, "sortbelt, ")
        limit = self.board.get(names.CPU, names.LIMIT)
        if limit is not None:
            self.board.add(names.CPU, names.OWN, "µs", done.run.cpu_us - limit.values[-1])

    def _by_reference(self, server: stack.Stack, folder: Path) -> None:
        """The same folder again: where the server can say that it has the bytes, they are not sent."""
        if bulk.knows_references(server):
            self._folder(server, names.REFERENCE, folder)
        else:
            self.board.skip(names.REFERENCE, bulk.NO_REFERENCE)

    def _memory(self, name: str, server: stack.Stack) -> None:
        for role, size in server.usage().rss_bytes.items():
            self.board.add("memory", f"{name}: {role}", "MB", size / MEGABYTE)

    def _single(self, server: stack.Stack, callers: int, name: str, measure: Callable[..., single.Single]) -> None:
        done = measure(server, self.plan.bodies, connections=callers, seconds=self.plan.seconds)
        self.told(callers, name, done)

    def told(self, callers: int, name: str, done: single.Single) -> None:
        """Note what a load has shown."""
        group = names.single(callers)
        self.board.add(group, name, "requests/s", done.load.rate)
        for share in (50, 99):
            self.board.add(group, f"{name} p{share}", "ms", done.load.percentile(share))
        self.board.add(group, f"{name}: CPU of the servers", "µs/request", sum(done.cpu_us.values()))
        self.board.add(group, f"{name}: CPU of the load", "µs/request", done.load_cpu_us)
        self.board.add(group, f"{name}: memory", "MB", sum(done.rss_mb.values()))
        self.board.add_all(names.details(callers), "µs/request", done.cpu_us, f"{name}: CPU, ")
        self.board.add_all(names.details(callers), "MB", done.rss_mb, f"{name}: memory, ")
        labels = done.load.labels
        if labels:
            self._agree(name, [labels.get(number, self.truth[number]) for number in range(len(self.truth))])

    def _agree(self, name: str, labels: Sequence[str]) -> None:
        """Note how many labels are those of the plain loop, in percent; the pictures came in turn."""
        same = sum(label == self.truth[number % len(self.truth)] for number, label in enumerate(labels))
        self.board.add(names.LABELS, name, "%", 100 * same / len(labels))
