"""The report of a soak, as JSON and Markdown, and its timeline as a picture."""

import collections
import json
import platform
import statistics
from dataclasses import asdict
from importlib import metadata

LIBRARIES = ("celery", "kombu", "redis", "sqlalchemy", "psycopg", "pillow", "torch", "granian", "flask")


def write(folder, told, progress):
    """Write report.json, report.md and timeline.png into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(told, indent=1) + "\n")
    (folder / "report.md").write_text(_markdown(told))
    draw(folder / "timeline.png", told, progress)


def tell(history, totals, broken, faults, stack, options, seconds, rest):
    """Everything that there is to tell, as one JSON object."""
    took = sorted(took for _, took, status in history.answers if status == "202")
    recovered = [one["ended"] for one in stack.held if one["ended"] is not None]
    return {
        "options": options,
        "totals": asdict(totals),
        "good": totals.good,
        "broken_promises": broken[:100],
        "seconds": round(seconds, 1),
        "seconds_from_the_last_picture_to_the_last_result": round(rest, 1),
        "faults": dict(collections.Counter(kind for _, _, kind in faults).most_common()),
        "fault_count": len(faults),
        "fault_times": [[round(at, 1), round(until, 1), kind] for at, until, kind in faults],
        "restarts_by_the_supervisor": stack.restarts,
        "answers": dict(collections.Counter(status for *_, status in history.answers).most_common()),
        "accepted_post_ms": {
            "p50": round(1000 * took[len(took) // 2], 1),
            "p99": round(1000 * took[int(len(took) * 0.99)], 1),
            "slowest": round(1000 * took[-1], 1),
        },
        "killed_workers_that_held_pictures": len(stack.held),
        "pictures_they_held": sum(len(one["ids"]) for one in stack.held),
        "seconds_until_these_had_ended": {
            "median": round(statistics.median(recovered), 1) if recovered else None,
            "slowest": round(max(recovered), 1) if recovered else None,
        },
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }


def _markdown(told):
    rows = "\n".join(f"| {name} | {count:,} |" for name, count in told["totals"].items())
    faults = "\n".join(f"| {kind.replace('_', ' ')} | {count} |" for kind, count in told["faults"].items())
    held, post = told["seconds_until_these_had_ended"], told["accepted_post_ms"]
    attempted, minutes = told["totals"]["attempted"], told["seconds"] / 60
    answers = ", ".join(f"{count:,} x {status}" for status, count in told["answers"].items())
    return f"""# A soak: {attempted:,} pictures, {told["fault_count"]} faults, {minutes:.1f} minutes

{"Every promise was kept." if told["good"] else "**Promises were broken.**"} Seed {told["options"]["seed"]}.

| | pictures |
|---|---|
{rows}

![Throughput and faults over time](timeline.png)

- Requests: {answers}. Clients try again what was not a 202.
- An accepted POST took {post["p50"]} ms (median), {post["p99"]} ms (p99), {post["slowest"]} ms (slowest).
- {told["killed_workers_that_held_pictures"]} killed workers held {told["pictures_they_held"]:,} pictures;
  these had ended {held["median"]} s later (median), {held["slowest"]} s at the slowest.
- The last result came {told["seconds_from_the_last_picture_to_the_last_result"]} s after the last picture.
- The supervisor started something again {told["restarts_by_the_supervisor"]} times.

| fault | times |
|---|---|
{faults}

Python {told["python"]}, {", ".join(f"{name} {version}" for name, version in told["libraries"].items())}.
"""


def draw(path, told, progress):
    """Pictures that ended in each second, and every fault at its time, a row for each part that was hurt."""
    from matplotlib import pyplot as plt

    parts = ["worker", "decoder", "api", "redis", "postgres", "other"]
    figure, (above, below) = plt.subplots(2, 1, figsize=(12, 6), sharex=True, height_ratios=[2, 1])
    pairs = [(b[0], (b[1] - a[1]) / (b[0] - a[0])) for a, b in zip(progress[::5], progress[5::5], strict=False)]
    above.plot([at for at, _ in pairs], [rate for _, rate in pairs], linewidth=0.8)
    above.set_ylabel("pictures ended per second")
    above.set_ylim(bottom=0)
    for at, until, kind in told["fault_times"]:
        part = next((part for part in parts if part in kind), "other")
        below.barh(parts.index(part), max(until - at, 0.5), left=at, height=0.6, color=f"C{parts.index(part)}")
    below.set_yticks(range(len(parts)), parts)
    below.set_xlabel("seconds")
    totals = told["totals"]
    above.set_title("  ".join(f"{name} {count:,}" for name, count in totals.items()), fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
