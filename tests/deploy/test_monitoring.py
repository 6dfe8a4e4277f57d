"""The board and the alerts ask only for what /metrics tells."""

import json
import re
from pathlib import Path

import promql_parser
import pytest
import yaml
from prometheus_client import parser

from api import app as apps
from api import auth
from jobs import settings, tables
from jobs.store import keys, tallies, workers
from tests.jobs import making

ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
PANELS = json.loads((ROOT / "deploy" / "grafana" / "sortbelt.json").read_text(encoding="utf-8"))["panels"]
ASKED = [(rule["alert"], rule["expr"]) for rule in ALERTS] + [
    (panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]
]


@pytest.fixture(scope="module")
def told(tmp_path_factory, _sqlite_template):
    """What a server tells that has something of everything: {name: names of its labels}."""
    file = tmp_path_factory.mktemp("told") / "sortbelt.db"
    file.write_bytes(_sqlite_template.read_bytes())
    app = apps.create_app(settings.Settings(database_url=f"sqlite:///{file}", blobs=str(file.parent / "blobs")))
    db, key = app.extensions["sortbelt"].db, keys.make()
    owner = db.write(keys.create, "prometheus", tables.Role.READ, key).id
    making.job(db, owner, "a", "b")
    making.finish(db, making.claim(db, limit=1))
    db.write(tallies.add_batch, tallies.Release.FULL, 64)
    db.write(workers.enter, "w1", making.MAKER, "cpu")
    db.write(workers.show_life, "w1", 1, batch_sizes={making.MODEL: 64})
    client = app.test_client()
    client.get("/livez")
    text = client.get("/metrics", headers={"Authorization": f"Bearer {key}"}).text
    db.close()
    samples = [s for family in parser.text_string_to_metric_families(text) for s in family.samples]
    names = {name: set() for name in {s.name for s in samples}}
    for sample in samples:
        names[sample.name] |= set(sample.labels)
    return names | {"up": set()}  # which Prometheus adds by itself


def walk(node):
    """A node of an expression, and all below it."""
    yield node
    for name in ("expr", "lhs", "rhs", "param"):
        inner = getattr(node, name, None)
        if inner is not None:
            yield from walk(inner)
    for inner in getattr(node, "args", None) or []:
        yield from walk(inner)
    selector = getattr(node, "vector_selector", None) or getattr(node, "vs", None)
    if selector is not None:
        yield from walk(selector)


@pytest.mark.parametrize(("who", "expression"), ASKED, ids=[who for who, _ in ASKED])
def test_every_expression_asks_for_what_is_told(told, who, expression):
    """Each name is a metric, and each label that is matched or grouped by is one of its own or of Prometheus."""
    tree = promql_parser.parse(expression.replace("$__rate_interval", "1m"))
    selectors = [node for node in walk(tree) if isinstance(node, promql_parser.VectorSelector)]
    assert len(selectors) == len(re.findall(r"\b(?:sortbelt_\w+|up)\b", expression))
    assert {selector.name for selector in selectors} <= set(told)
    for selector in selectors:
        assert {matcher.name for matcher in selector.matchers.matchers} <= told[selector.name] | {"job", "instance"}
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
    assert grouped <= {"instance"}.union(*(told[selector.name] for selector in selectors))


def test_nothing_is_told_that_nobody_shows(told):
    """Every metric is on the board or in an alert; but the version, which is there to be looked up."""
    family = {re.sub(r"_(bucket|sum|count)$", "", name) for name in told}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for _, e in ASKED for name in re.findall(r"\bsortbelt_\w+", e)}
    assert family - shown == {"sortbelt_info", "up"}


def test_every_alert_says_what_it_is_and_the_manual_what_to_do():
    """A heading of its own in the how-to, so that nobody has to think at 3 a.m."""
    manual = (ROOT / "docs" / "howto" / "operate.md").read_text(encoding="utf-8")
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"page", "look"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert f"\n### {rule['alert']}\n" in manual
    assert set(re.findall(r"^### (Sortbelt\w+)$", manual, re.MULTILINE)) == {r["alert"] for r in ALERTS}


def test_prometheus_asks_the_metrics_route_once_and_with_a_key():
    """One target: several would tell everything several times."""
    wanted = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (scrape,) = wanted["scrape_configs"]
    assert scrape["metrics_path"] == "/metrics"
    assert "metrics.show" not in auth.OPEN
    assert scrape["authorization"]["type"] == "Bearer"
    assert [len(config["targets"]) for config in scrape["static_configs"]] == [1]
    assert wanted["rule_files"] == ["rules.yml"]
