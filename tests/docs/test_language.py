"""Keep code and documents in plain technical English: each forbidden word has a reason and a replacement."""

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
UNCHECKED = {
    "LICENSE": "not ours",
    "api/swagger_ui/": "a viewer of others",
    "model/bundles/": "published bundles, whose bytes do not change",
    "requirements/": "generated",
    "tests/docs/test_language.py": "names the words",
}
"""Files and folders that are not checked, with the reason. Everything else in the repository is."""
SUFFIXES = {"", ".css", ".html", ".js", ".json", ".md", ".py", ".sh", ".svg", ".toml", ".tpl", ".yaml", ".yml"}
NOT_WORDS = re.compile(
    r"~/Pictures|demo/pictures|s3://pictures|SORTBELT_[A-Z_]+|idle_ring_seconds|rings-1|no_pictures"
    r"|[\"']pictures?[\"']|selftest\.picture",
    re.IGNORECASE,
)
"""Names that stay: users' paths, old settings, error codes, keys of JSON documents and bundles."""
COMPARATIVES = "longer|larger|smaller|slower|faster|higher|lower|better|worse|greater|more|less"


def word(pattern: str) -> re.Pattern[str]:
    """Match a word, in identifiers with underscores too."""
    return re.compile(rf"(?<![A-Za-z])(?:{pattern})(?![A-Za-z])", re.IGNORECASE)


FORBIDDEN = {
    "personless": (
        word("whoever|somebody|nobody|everybody|anybody"),
        "name the actor: caller, client, worker, receiver, operator",
    ),
    "shall": (re.compile(r"\bshall\b"), "write must, or the present tense; quoted RFCs have it in capitals"),
    "in vain": (re.compile(r"\bin vain\b", re.IGNORECASE), "write failed, or without success"),
    "is no": (
        re.compile(rf"(?<!here )\b(?:is|are|was|were) (?:none\b|no (?!(?:{COMPARATIVES})\b)\w)"),
        "write is not a …, or there is no …",
    ),
    "picture": (word("pictures?"), "write image, as the API, the tables and the commands do"),
    "order": (
        re.compile(r"\b(?:ordered|submitted) anew\b|\b(?:bulk|single|small|large) orders?\b", re.IGNORECASE),
        "write submission; an order is a sort order",
    ),
    "try again": (re.compile(r"\b(?:try|tries|tried|trying)(?: \w+)? again\b", re.IGNORECASE), "write retry"),
    "noun clause": (
        re.compile(r"(?:^|[.:] |\"\"\"|# )(?:Who|What)\b[^.?!|]*\.(?= |\"|$)"),
        "begin the sentence with the noun; Who and What begin questions",
    ),
    "keeps": (re.compile(r'"""Keeps\b'), "begin a docstring with an imperative"),
    "metaphor": (
        word(
            "doors?|bells?|houses?|couriers?|shelf|shelves|stations?|belt|company|guests?|rooms?|outlook|errands?|"
            "knock(?:s|ed|ing)?|rings?|ringing|rung|rang|tell|tells|telling|told|hear|hears|heard"
        ),
        "write the field's term: wake-up, dispatcher, model manager, report, receive …",
    ),
}
ALLOWED = {
    ("api/services/chunk_buffer.py", "tell"): "a method of Python's file objects",
    ("CHANGELOG.md", "bell"): "the name of a span in 0.2",
    ("sortbelt/files/archives.py", "tell"): "a method of Python's file objects",
    ("CHANGELOG.md", "courier"): "the name of the dispatcher in 0.1",
    ("CHANGELOG.md", "picture"): "an error code of 0.2",
    ("deploy/README.md", "courier"): "the name of the dispatcher in 0.1",
    ("model/inference/selftest.py", "picture"): "a key of bundles",
    ("model/inference/selftest.py", "rings"): "circles",
    ("model/packaging/manifest.py", "picture"): "a key of bundles",
    ("sortbelt/bulk/run_manifest.py", "pictures"): "the name of a table in users' manifests",
}


def checked_files() -> list[str]:
    """Return the tracked text files that are checked."""
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return [
        path
        for path in tracked.split()
        if not path.startswith(tuple(UNCHECKED)) and Path(path).suffix in SUFFIXES
        if (REPOSITORY / path).is_file()
    ]


def findings(path: str) -> list[str]:
    """Return a line for each forbidden word in a file."""
    found = []
    for number, line in enumerate((REPOSITORY / path).read_text(encoding="utf-8").splitlines(), start=1):
        text = re.sub(r"`(?:…|test_)\w+`|/test_\w+\.py[^)\]]*", "", line) if path.endswith(".md") else line
        text = NOT_WORDS.sub("", text)
        found += [
            f"{path}:{number}: {match[0]!r}: {advice}"
            for pattern, advice in FORBIDDEN.values()
            for match in pattern.finditer(text)
            if (path, match[0].lower()) not in ALLOWED
        ]
    return found


def test_no_forbidden_words():
    """One test for all files: a test for each takes longer to start than to run."""
    paths = checked_files()
    assert len(paths) > 500
    assert [finding for path in paths for finding in findings(path)] == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Whoever has the key may read.", "personless"),
        ("nobody_waits", "personless"),
        ("it shall not fail", "shall"),
        ("The request was made in vain.", "in vain"),
        ("This is no image.", "is no"),
        ("one_bad_picture", "picture"),
        ("It is ordered anew.", "order"),
        ("The client tries it again.", "try again"),
        ('"""What is due."""', "noun clause"),
        ("Who asks is known.", "noun clause"),
        ('"""Keeps the rows."""', "keeps"),
        ("The bell was rung.", "metaphor"),
    ],
)
def test_each_rule_finds_its_example(text, rule):
    assert FORBIDDEN[rule][0].search(text)


@pytest.mark.parametrize(
    "text",
    [
        "There is no leader.",
        "It is no longer valid.",
        "What does a lease protect?",
        "Sortbelt sends strings during a sort in descending order.",
        "Servers SHALL ignore it (RFC 9110).",
        "Whichever process runs it",
    ],
)
def test_ordinary_english_is_allowed(text):
    assert not [rule for rule, (pattern, _) in FORBIDDEN.items() if pattern.search(text)]
