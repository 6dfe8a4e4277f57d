"""The report of a soak test: JSON, Markdown, and a plot of its timeline."""

import collections
import json
import platform
import statistics
from dataclasses import asdict
from importlib import metadata

LIBRARIES = ("celery", "kombu", "redis", "sqlalchemy", "psycopg", "pillow", "torch", "granian", "flask")


def write(folder, summary, progress):
    """Write report.json, report.md and timeline.png into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(summary, indent=1) + "\n")
    (folder / "report.md").write_text(_markdown(summary))
    plot_timeline(folder / "timeline.png", summary, progress)


def build_summary(history, totals, violations, faults, stack, options, seconds, task_seconds):
    """Return the whole report as one JSON object."""
    latencies = sorted(latencies for _, latencies, status in history.responses if status == "202")
    recovery_seconds = [lost_claim["ended"] for lost_claim in stack.lost_claims if lost_claim["ended"] is not None]
    return {
        "options": options,
        "totals": asdict(totals),
        "ok": totals.is_ok,
        "violations": violations[:100],
        "seconds": round(seconds, 1),
        "seconds_from_last_submission_to_last_result": round(task_seconds, 1),
        "faults": dict(collections.Counter(kind for _, _, kind in faults).most_common()),
        "fault_count": len(faults),
        "fault_times": [[round(at, 1), round(until, 1), kind] for at, until, kind in faults],
        "restarts": stack.restarts,
        "responses": dict(collections.Counter(status for *_, status in history.responses).most_common()),
        "accepted_post_ms": {
            "p50": round(1000 * latencies[len(latencies) // 2], 1),
            "p99": round(1000 * latencies[int(len(latencies) * 0.99)], 1),
            "slowest": round(1000 * latencies[-1], 1),
        },
        "killed_workers_with_claims": len(stack.lost_claims),
        "images_they_had_claimed": sum(len(lost_claim["ids"]) for lost_claim in stack.lost_claims),
        "seconds_until_these_finished": {
            "median": round(statistics.median(recovery_seconds), 1) if recovery_seconds else None,
            "slowest": round(max(recovery_seconds), 1) if recovery_seconds else None,
        },
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }


def _markdown(summary):
    rows = "\n".join(f"| {name} | {count:,} |" for name, count in summary["totals"].items())
    faults = "\n".join(f"| {kind.replace('_', ' ')} | {count} |" for kind, count in summary["faults"].items())
    recovery, post_latency = summary["seconds_until_these_finished"], summary["accepted_post_ms"]
    attempted, minutes = summary["totals"]["attempted"], summary["seconds"] / 60
    responses = ", ".join(f"{count:,} x {status}" for status, count in summary["responses"].items())
    return f"""# Soak test: {attempted:,} images, {summary["fault_count"]} faults, {minutes:.1f} minutes

{"No violations." if summary["ok"] else "**Violations were found.**"} Seed {summary["options"]["seed"]}.

| | images |
|---|---|
{rows}

![Throughput and faults over time](timeline.png)

- Responses: {responses}. Clients retried every request that did not get a 202.
- An accepted POST took {post_latency["p50"]} ms (median), {post_latency["p99"]} ms (p99),
  {post_latency["slowest"]} ms (slowest).
- {summary["killed_workers_with_claims"]} killed workers had claimed {summary["images_they_had_claimed"]:,} images;
  these finished {recovery["median"]} s later (median), {recovery["slowest"]} s at the slowest.
- The last result was written {summary["seconds_from_last_submission_to_last_result"]} s after the last submission.
- The supervisor restarted a process {summary["restarts"]} times.

| fault | times |
|---|---|
{faults}

Python {summary["python"]}, {", ".join(f"{name} {version}" for name, version in summary["libraries"].items())}.
"""


def plot_timeline(path, summary, progress):
    """Plot images finished per second, and below it every fault at its time, one row per component."""
    from matplotlib import pyplot as plt

    components = ["worker", "decoder", "api", "redis", "postgres", "other"]
    figure, (rate_axes, fault_axes) = plt.subplots(2, 1, figsize=(12, 6), sharex=True, height_ratios=[2, 1])
    rates = [(b[0], (b[1] - a[1]) / (b[0] - a[0])) for a, b in zip(progress[::5], progress[5::5], strict=False)]
    rate_axes.plot([at for at, _ in rates], [rate for _, rate in rates], linewidth=0.8)
    rate_axes.set_ylabel("images finished per second")
    rate_axes.set_ylim(bottom=0)
    for at, until, kind in summary["fault_times"]:
        component = next((component for component in components if component in kind), "other")
        fault_axes.barh(
            components.index(component),
            max(until - at, 0.5),
            left=at,
            height=0.6,
            color=f"C{components.index(component)}",
        )
    fault_axes.set_yticks(range(len(components)), components)
    fault_axes.set_xlabel("seconds")
    totals = summary["totals"]
    rate_axes.set_title("  ".join(f"{name} {count:,}" for name, count in totals.items()), fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
