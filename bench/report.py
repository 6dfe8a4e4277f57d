"""The report: the figures as a table, as JSON, and as a plot."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench import goals, names
from bench.figures import Board, Figure


def write(board: Board, out: Path) -> None:
    """Print the table, and write it with the JSON and the plot into a folder."""
    keep(lines(board), out / "bench.txt")
    (out / "bench.json").write_text(json.dumps(board.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    plot(board, out / "bench.png")
    print(f"\nWritten: {out}/bench.txt, bench.json, bench.png")


def keep(lines_: Iterable[str], file: Path) -> None:
    """Print a table, and write it into a file, whose folder is made if need be."""
    text = "\n".join(lines_)
    print(text)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n", encoding="utf-8")


def lines(board: Board) -> Iterator[str]:
    """The table."""
    for group, figures in board.groups():
        if group.startswith(names.DETAILS):
            continue
        reference = board.references.get(group)
        yield ""
        yield f"{group}" + (f"  (x {reference.name})" if reference else "")
        yield from columns([_row(board, figure) for figure in figures])
    yield from ("", "goals")
    yield from columns([_goal(*some) for some in goals.judged(board)])
    if board.skipped:
        yield from ("", "not measured")
        yield from columns([("  " + some.what, some.why) for some in board.skipped])


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows in columns: the first to the left, the last as it is, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        middle = [f"{text:>{width}}" for text, width in zip(row[1:-1], widths[1:-1], strict=True)]
        yield "  ".join([f"{row[0]:{widths[0]}}", *middle, row[-1]]).rstrip()


def number(value: float) -> str:
    """Three digits, or as many as stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(figure: Figure) -> str:
    """From the lowest to the highest value, and of how many."""
    low, high = figure.spread
    return f"({number(low)} to {number(high)}, n={len(figure.values)})"


def _row(board: Board, figure: Figure) -> tuple[str, ...]:
    ratio = board.ratio(figure)
    told = "" if ratio is None else f"{ratio:.2f} x"
    return "  " + figure.name, number(figure.median), figure.unit, told, spread(figure)


def _goal(goal: goals.Goal, seen: Figure | None) -> tuple[str, ...]:
    wanted = f"{'≥' if goal.side == 'least' else '≤'} {goal.number:g}"
    if seen is None:
        return "  " + goal.sentence, wanted, "", "not measured", ""
    verdict = "reached" if goal.reached(seen) else "missed"
    return "  " + goal.sentence, wanted, f"{number(seen.median)} {seen.unit}", verdict, spread(seen)


def plot(board: Board, path: Path) -> None:
    """Bars with their spread: images a second in bulk, and answers a second and their latency, for each contender."""
    import matplotlib as mpl  # noqa: PLC0415 (slow to import, and wanted once)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 (as above)

    shown = [(group, list(_rates(figures))) for group, figures in board.groups()]
    shown = [(group, figures) for group, figures in shown if figures]
    heights = [len(figures) + 1.5 for _, figures in shown]
    sheet, panels = plt.subplots(
        len(shown), 1, figsize=(9, 0.33 * sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for (group, figures), panel in zip(shown, panels[:, 0], strict=True):
        medians = [figure.median for figure in figures]
        errors = [[abs(figure.spread[side] - figure.median) for figure in figures] for side in (0, 1)]
        ours = ["#c2410c" if figure.name.startswith("sortbelt") else "#64748b" for figure in figures]
        panel.barh([figure.name for figure in figures], medians, xerr=errors, color=ours, capsize=2)
        panel.invert_yaxis()
        panel.set_title(f"{group}: {figures[0].unit}, median with lowest and highest", fontsize=9, loc="left")
        panel.tick_params(labelsize=8)
    sheet.savefig(path, dpi=130)
    plt.close(sheet)


def _rates(figures: Sequence[Figure]) -> Iterator[Figure]:
    return (figure for figure in figures if figure.unit.endswith("/s") and figure.name != names.LIMIT)
