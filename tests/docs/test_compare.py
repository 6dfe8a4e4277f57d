"""Check that every claim of docs/compare.md links to a test that exists."""

import ast
import functools
import re
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
PAGE = (REPOSITORY / "docs" / "compare.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| ")]
CLAIMS = {row[0]: row for row in ROWS if row[1] != "Sortbelt"}


@functools.cache
def names_of_tests(path):
    """Return the names of the tests in a file, without importing it."""
    tree = ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_claim_is_shown_by_tests_that_exist():
    """*Yes* and *partly* have at least one link, *no* has none; each link names its file."""
    for feature, (_, claim, evidence, *_) in CLAIMS.items():
        verdict = re.match(r"\*\*(yes|partly|no)\*\*\. \S", claim)
        assert verdict, feature
        links = re.findall(r'\[`(\w+)`\]\(\.\./([\w/.]+) "([^"]+)"\)', evidence)
        assert bool(links) == (verdict[1] != "no"), feature
        assert len(links) == evidence.count("]("), feature
        for name, path, full in links:
            assert full == f"{path}::{name}", feature
            assert name in names_of_tests(path), full


def test_every_row_has_every_column():
    """A missing cell would shift all others of its row."""
    widths = {len(row) for row in CLAIMS.values()}
    assert widths == {3, 9}
    assert len(CLAIMS) == len([row for row in ROWS if row[1] != "Sortbelt"])
