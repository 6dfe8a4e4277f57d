"""Check the dashboard and the alerts against the metrics that /metrics exports."""

import json
import re
from collections import defaultdict
from pathlib import Path

import promql_parser
import pytest
import yaml
from prometheus_client import parser

from api import app as apps
from api.http import auth
from core import enums, settings
from core.db.queries import api_keys, counters, workers
from tests.support import factories

ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
PANELS = json.loads((ROOT / "deploy" / "grafana" / "sortbelt.json").read_text(encoding="utf-8"))["panels"]
EXPRESSIONS = [(rule["alert"], rule["expr"]) for rule in ALERTS] + [
    (panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]
]


@pytest.fixture(scope="module")
def exported_labels(tmp_path_factory, _sqlite_template):
    """Return the labels of every exported metric with their values, from a server with some data of each kind."""
    file = tmp_path_factory.mktemp("metrics") / "sortbelt.db"
    file.write_bytes(_sqlite_template.read_bytes())
    app = apps.create_app(settings.Settings(database_url=f"sqlite:///{file}", blob_store=str(file.parent / "blobs")))
    db, key = app.extensions["sortbelt"].db, api_keys.generate()
    owner = db.write(api_keys.create, "prometheus", enums.Role.REVIEW, key).id
    factories.make_live(db)
    factories.create_job(db, owner, "a", "b")
    factories.complete_claims(db, factories.claim_images(db, limit=1))
    db.write(counters.count_batch, counters.FlushReason.FULL, 64)
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu")
    db.write(workers.heartbeat, "w1", 1, batch_sizes={factories.MODEL: 64})
    client = app.test_client()
    client.get("/livez")
    headers = {"Authorization": f"Bearer {key}"}
    (result,) = client.get("/v1/reviews/queue?strategy=random", headers=headers).json["results"]
    client.put(f"/v1/results/{result['id']}/review", json={"verdict": "none_of_these"}, headers=headers)
    text = client.get("/metrics", headers=headers).text
    db.close()
    samples = [s for family in parser.text_string_to_metric_families(text) for s in family.samples]
    names = {name: defaultdict(set) for name in {s.name for s in samples}}
    for sample in samples:
        for label, value in sample.labels.items():
            names[sample.name][label].add(value)
    return names | {"up": {}}  # added by Prometheus


def walk(node):
    """Yield a node of an expression and all nodes below it."""
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


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS])
def test_every_expression_uses_exported_metrics_and_labels(exported_labels, title, expression):
    """Each name is a metric; each label in a matcher or grouping is one of the metric or of Prometheus.

    And each state of workers in a matcher is one of the metric.
    """
    tree = promql_parser.parse(expression.replace("$__rate_interval", "1m"))
    selectors = [node for node in walk(tree) if isinstance(node, promql_parser.VectorSelector)]
    assert len(selectors) == len(re.findall(r"\b(?:sortbelt_\w+|up)\b", expression))
    assert {selector.name for selector in selectors} <= set(exported_labels)
    for selector in selectors:
        labels = exported_labels[selector.name]
        for matcher in selector.matchers.matchers:
            assert matcher.name in {*labels, "job", "instance"}
            assert matcher.name != "state" or matcher.value in labels["state"]
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
    assert grouped <= {"instance"}.union(*(exported_labels[selector.name] for selector in selectors))


def test_every_metric_is_used(exported_labels):
    """Every metric is on the dashboard or in an alert, except the version."""
    family = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported_labels}
    shown = {
        re.sub(r"_(bucket|sum|count)$", "", name) for _, e in EXPRESSIONS for name in re.findall(r"\bsortbelt_\w+", e)
    }
    assert family - shown == {"sortbelt_info", "up"}


def test_every_alert_has_a_text_and_a_section_in_the_manual():
    """Each alert has a severity, two texts, and a heading in the how-to with instructions."""
    manual = (ROOT / "docs" / "howto" / "operate.md").read_text(encoding="utf-8")
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"page", "warning"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert f"\n### {rule['alert']}\n" in manual
    assert set(re.findall(r"^### (Sortbelt\w+)$", manual, re.MULTILINE)) == {r["alert"] for r in ALERTS}


def test_prometheus_scrapes_one_target_with_a_key():
    """Several targets would return the same totals several times."""
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (scrape,) = config["scrape_configs"]
    assert scrape["metrics_path"] == "/metrics"
    assert "metrics.show" not in auth.PUBLIC_ENDPOINTS
    assert scrape["authorization"]["type"] == "Bearer"
    assert [len(group["targets"]) for group in scrape["static_configs"]] == [1]
    assert config["rule_files"] == ["rules.yml"]
