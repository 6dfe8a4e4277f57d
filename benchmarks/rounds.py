"""One round of a run: measure every contender once, one after another, on the same images."""

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import baseline_loop, bulk, figure_names, harness, sample_images, single_image, stack, upper_bound
from benchmarks.figures import BenchmarkResults
from benchmarks.peers import dataloader, serving

MEGABYTE = 1e6


@dataclass(frozen=True)
class Plan:
    """Options of a run: the systems to measure, and the duration."""

    paths: Sequence[Path]
    count: int
    """Images per folder: copies of `paths`, each with unique bytes."""
    callers: Sequence[int]
    seconds: float
    """Duration of each load."""
    runs: int

    @property
    def bodies(self) -> list[bytes]:
        """The image files as they are sent."""
        return [path.read_bytes() for path in self.paths]


class Round:
    """One round of a plan."""

    def __init__(self, plan: Plan, results: BenchmarkResults, number: int, expected_labels: list[str]) -> None:
        self.plan = plan
        self.results = results
        self.number = number
        self.expected_labels = expected_labels
        """The baseline's label of each image; filled in the first round."""

    def measure_loops(self) -> None:
        """Measure the baseline, PyTorch's DataLoader, and the bare loops that may be the upper bound; no servers."""
        with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work_dir:
            files = sample_images.find_jpegs(self._make_fresh_folder(Path(work_dir), "loops"))
            baseline = baseline_loop.run(files)
            if not self.expected_labels:
                self.expected_labels += baseline.labels[: len(self.plan.paths)]
            self._record_run(figure_names.PLAIN_LOOP, baseline)
            for workers in sorted({max(1, harness.CORES - 1), harness.CORES}):
                self._record_run(f"PyTorch DataLoader, workers: {workers}", dataloader.run(workers, files[0].parent))
            runs = {name: measure(files) for name, measure in upper_bound.arrangements().items()}
            for name, run in runs.items():
                self._record_run(f"bare: {name}", run)
            self.results.add(
                figure_names.BULK_CPU,
                figure_names.UPPER_BOUND,
                "µs",
                max(runs.values(), key=lambda run: run.rate).cpu_us,
            )

    def _record_run(self, name: str, run: harness.RunResult) -> None:
        self.results.add(figure_names.BULK, name, "images/s", run.rate)
        self._record_agreement(name, run.labels)

    def measure_sortbelt(self) -> None:
        """Measure Sortbelt on SQLite, as a user starts it: folders, then single images."""
        with (
            tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work_dir,
            stack.up(sources=f"bench={work_dir}") as server,
        ):
            self._measure_folder(server, figure_names.FIRST_FOLDER, self._make_fresh_folder(Path(work_dir), "first"))
            folder = self._make_fresh_folder(Path(work_dir), "later")
            later_result = self._measure_folder(server, figure_names.LATER_FOLDER, folder)
            self._record_overhead(later_result)
            self._measure_folder(server, figure_names.BY_REFERENCE, folder)
            on_server_result = bulk.enqueue(server, self._make_fresh_folder(Path(work_dir), "there"), source="bench")
            self._record_run(figure_names.ON_SERVER, on_server_result.run)
            self.results.add_all(figure_names.BULK_CPU, "µs", on_server_result.cpu_us, "on the server, ")
            self._record_memory(figure_names.LATER_FOLDER, server)
            for callers in self.plan.callers:
                self._measure_single(server, callers, figure_names.ACCEPTED, single_image.accepted)
                server.wait_until_idle()
            for callers in self.plan.callers:
                self._measure_single(server, callers, figure_names.FINISHED, single_image.finished)

    def measure_postgresql(self) -> None:
        """Measure Sortbelt on PostgreSQL."""
        with (
            stack.postgres() as (url, pid),
            stack.up(url, extra_pids=(pid,)) as server,
            tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work_dir,
        ):
            bulk.enqueue(server, self._make_fresh_folder(Path(work_dir), "warm"))
            result = self._measure_folder(
                server, figure_names.POSTGRESQL, self._make_fresh_folder(Path(work_dir), "pg")
            )
            self.results.add_all(figure_names.BULK_CPU, "µs", result.cpu_us, "with PostgreSQL, ")

    def peer_measurements(
        self, chosen_settings: dict[str, serving.Settings], *, search: bool
    ) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield a measurement per peer; `chosen_settings` keeps each peer's best settings for later rounds."""
        for peer in serving.PEERS if serving.is_installed() else ():
            yield peer.name, functools.partial(self._measure_peer, peer, chosen_settings, search=search)

    def _measure_peer(self, peer: serving.Peer, chosen_settings: dict[str, serving.Settings], *, search: bool) -> None:
        bodies, callers = self.plan.bodies, max(self.plan.callers, key=lambda callers: (callers == 32, callers))
        if peer.name not in chosen_settings:
            self.results.note("peers", peer.name, serving.library_versions(peer))
            chosen_settings[peer.name] = peer.settings_grid[0]
            if search:
                seconds = self.plan.seconds / 2
                chosen_settings[peer.name], rates = serving.search_settings(
                    peer, bodies, connections=callers, seconds=seconds
                )
                self.results.note("settings tried, requests/s", peer.name, rates)
            self.results.note("settings", peer.name, serving.format_settings(chosen_settings[peer.name]))
        with serving.serve(peer, chosen_settings[peer.name], bodies[0]) as server:
            server.warm_up(bodies)
            for connections in sorted({1, callers} & set(self.plan.callers)):
                result = server.measure(peer.path, bodies, connections=connections, seconds=self.plan.seconds)
                self.record_load(connections, peer.name, result)
            if peer.submit_path:
                result = server.measure(peer.submit_path, bodies, connections=callers, seconds=self.plan.seconds)
                self.record_load(callers, figure_names.TUTORIAL_ACCEPTED, result)

    def _make_fresh_folder(self, work_dir: Path, name: str) -> Path:
        return bulk.make_fresh_folder(self.plan.paths, work_dir / name, self.plan.count, f"{name[:5]}{self.number:03}")

    def _measure_folder(self, server: stack.Stack, name: str, folder: Path) -> bulk.BulkResult:
        result = bulk.enqueue(server, folder)
        self._record_run(name, result.run)
        if result.cached:
            self.results.note("results copied from earlier ones", name, result.cached)
        return result

    def _record_overhead(self, result: bulk.BulkResult) -> None:
        self.results.add_all(figure_names.BULK_CPU, "µs", result.cpu_us, "sortbelt, ")
        limit = self.results.get(figure_names.BULK_CPU, figure_names.UPPER_BOUND)
        if limit is not None:
            self.results.add(figure_names.BULK_CPU, figure_names.OVERHEAD, "µs", result.run.cpu_us - limit.values[-1])

    def _record_memory(self, name: str, server: stack.Stack) -> None:
        for role, size in server.usage().rss_bytes.items():
            self.results.add("memory", f"{name}: {role}", "MB", size / MEGABYTE)

    def _measure_single(
        self, server: stack.Stack, callers: int, name: str, measure: Callable[..., single_image.SingleImageResult]
    ) -> None:
        result = measure(server, self.plan.bodies, connections=callers, seconds=self.plan.seconds)
        self.record_load(callers, name, result)

    def record_load(self, callers: int, name: str, result: single_image.SingleImageResult) -> None:
        """Record the figures of a load."""
        group = figure_names.single_group(callers)
        self.results.add(group, name, "requests/s", result.load.rate)
        for percentile in (50, 99):
            self.results.add(group, f"{name} p{percentile}", "ms", result.load.percentile(percentile))
        self.results.add(group, f"{name}: CPU of the servers", "µs/request", sum(result.cpu_us.values()))
        self.results.add(group, f"{name}: CPU of the load", "µs/request", result.load_cpu_us)
        self.results.add(group, f"{name}: memory", "MB", sum(result.rss_mb.values()))
        self.results.add_all(figure_names.details_group(callers), "µs/request", result.cpu_us, f"{name}: CPU, ")
        self.results.add_all(figure_names.details_group(callers), "MB", result.rss_mb, f"{name}: memory, ")
        labels = result.load.labels
        if labels:
            self._record_agreement(
                name, [labels.get(number, self.expected_labels[number]) for number in range(len(self.expected_labels))]
            )

    def _record_agreement(self, name: str, labels: Sequence[str]) -> None:
        """Record the percentage of labels that equal the baseline's; images were sent in turn."""
        matching = sum(
            label == self.expected_labels[number % len(self.expected_labels)] for number, label in enumerate(labels)
        )
        self.results.add(figure_names.LABEL_AGREEMENT, name, "%", 100 * matching / len(labels))
