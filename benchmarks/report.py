"""Report of a run: the figures as a table, as JSON, and as a plot."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks import figure_names, goals
from benchmarks.figures import BenchmarkResults, Figure

OUT = Path(__file__).parent / "out"
"""The default folder for reports and drawn images."""


def write(results: BenchmarkResults, out_dir: Path) -> None:
    """Print the table, and write table, JSON and plot to a folder."""
    save(lines(results), out_dir / "bench.txt")
    (out_dir / "bench.json").write_text(
        json.dumps(results.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    plot(results, out_dir / "bench.png")
    print(f"\nWritten: {out_dir}/bench.txt, bench.json, bench.png")


def save(text_lines: Iterable[str], path: Path) -> None:
    """Print a table and write it to a file, creating its folder if necessary."""
    text = "\n".join(text_lines)
    print(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def lines(results: BenchmarkResults) -> Iterator[str]:
    """Yield the table."""
    for group, figures in results.groups():
        if group.startswith(figure_names.DETAILS_PREFIX):
            continue
        reference = results.references.get(group)
        yield ""
        yield f"{group}" + (f"  (x {reference.name})" if reference else "")
        yield from format_columns([_figure_row(results, figure) for figure in figures])
    yield from ("", "goals")
    yield from format_columns([_goal_row(*entry) for entry in goals.evaluate_goals(results)])
    if results.skipped:
        yield from ("", "not measured")
        yield from format_columns([("  " + entry.what, entry.why) for entry in results.skipped])


def format_columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Align rows in columns: the first column left, the last unchanged, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        middle = [f"{text:>{width}}" for text, width in zip(row[1:-1], widths[1:-1], strict=True)]
        yield "  ".join([f"{row[0]:{widths[0]}}", *middle, row[-1]]).rstrip()


def format_number(value: float) -> str:
    """Format with three significant digits, or all digits before the decimal point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def format_spread(figure: Figure) -> str:
    """Format the lowest and the highest value, and the number of values."""
    low, high = figure.spread
    return f"({format_number(low)} to {format_number(high)}, n={len(figure.values)})"


def _figure_row(results: BenchmarkResults, figure: Figure) -> tuple[str, ...]:
    ratio = results.ratio(figure)
    ratio_text = "" if ratio is None else f"{ratio:.2f} x"
    return "  " + figure.name, format_number(figure.median), figure.unit, ratio_text, format_spread(figure)


def _goal_row(goal: goals.Goal, measured: Figure | None) -> tuple[str, ...]:
    target = f"{'≥' if goal.bound == 'least' else '≤'} {goal.threshold:g}"
    if measured is None:
        return "  " + goal.description, target, "", "not measured", ""
    verdict = "reached" if goal.is_reached(measured) else "missed"
    return (
        "  " + goal.description,
        target,
        f"{format_number(measured.median)} {measured.unit}",
        verdict,
        format_spread(measured),
    )


def plot(results: BenchmarkResults, path: Path) -> None:
    """Plot rates with their spread as bars, one panel per group."""
    import matplotlib as mpl  # noqa: PLC0415 (slow to import)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 (as above)

    shown = [(group, list(_rate_figures(figures))) for group, figures in results.groups()]
    shown = [(group, figures) for group, figures in shown if figures]
    heights = [len(figures) + 1.5 for _, figures in shown]
    canvas, panels = plt.subplots(
        len(shown), 1, figsize=(9, 0.33 * sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for (group, figures), panel in zip(shown, panels[:, 0], strict=True):
        medians = [figure.median for figure in figures]
        errors = [[abs(figure.spread[side] - figure.median) for figure in figures] for side in (0, 1)]
        colors = ["#c2410c" if figure.name.startswith("sortbelt") else "#64748b" for figure in figures]
        panel.barh([figure.name for figure in figures], medians, xerr=errors, color=colors, capsize=2)
        panel.invert_yaxis()
        panel.set_title(f"{group}: {figures[0].unit}, median with lowest and highest", fontsize=9, loc="left")
        panel.tick_params(labelsize=8)
    canvas.savefig(path, dpi=130)
    plt.close(canvas)


def _rate_figures(figures: Sequence[Figure]) -> Iterator[Figure]:
    return (figure for figure in figures if figure.unit.endswith("/s") and figure.name != figure_names.UPPER_BOUND)
