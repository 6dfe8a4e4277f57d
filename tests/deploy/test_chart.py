"""The Kubernetes chart: what can be seen of it without Helm, and with Helm, where there is one, what comes of it."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from jobs import settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "kubernetes"
TEMPLATES = {path.name: path.read_text(encoding="utf-8") for path in sorted((CHART / "templates").iterdir())}
ALL = "\n".join(TEMPLATES.values())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
EVERYTHING = {
    "blobs": {"claim": "pictures"},
    "env": [{"name": "AWS_REGION", "value": "eu-central-1"}],
    "envSecret": "bucket",
    "keda": {"enabled": True},
    "workerGpu": {"enabled": True},
    "serviceAccount": {"annotations": {"role": "arn"}},
}


@pytest.fixture(params=[{"blobs": {"url": "s3://bucket/prefix"}}, EVERYTHING], ids=["least", "everything"])
def rendered(request, tmp_path):
    """What Helm makes of the chart, by the names of its objects."""
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("needs helm, which comes with no package that we install")
    values = tmp_path / "values.json"
    values.write_text(json.dumps(request.param))
    command = [helm, "template", "demo", str(CHART), "--values", str(values)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {(made["kind"], made["metadata"]["name"]): made for made in yaml.safe_load_all(text) if made}


def test_every_value_that_a_template_uses_is_there():
    """A value that is nowhere would be rendered as nothing."""
    used = set(re.findall(r"\.Values((?:\.\w+)+)", ALL)) | set(re.findall(r"\$values((?:\.\w+)+)", ALL))
    assert len(used) > 15
    for path in used:
        value = VALUES
        for name in path.strip(".").split("."):
            assert name in value, path
            value = value[name]
    own = set(re.findall(r"\.own\.(\w+)", ALL))
    assert own <= set(VALUES["worker"]) & set(VALUES["workerGpu"])


def test_every_value_is_used():
    """A value that nothing heeds would promise something."""
    for name, value in VALUES.items():
        below = [f"{name}.{inner}" for inner in value] if isinstance(value, dict) and value else [name]
        if name in {"worker", "workerGpu"}:
            below = [name]
        assert [path for path in below if not re.search(rf"alues\.{re.escape(path)}\b", ALL)] == []


def test_every_include_is_defined_and_every_block_has_its_end():
    """What text alone can show of a template."""
    assert set(re.findall(r'include "([^"]+)"', ALL)) == set(re.findall(r'define "([^"]+)"', ALL))
    for name, text in TEMPLATES.items():
        opened = re.findall(r"\{\{-? *(if|with|range|define)\b", text)
        assert len(opened) == len(re.findall(r"\{\{-? *end\b", text)), name


def test_every_variable_is_a_setting_and_none_of_composes_is_missing():
    """Each program gets what it gets from docker-compose.yml."""
    named = set(re.findall(r"\bSORTBELT_[A-Z_]+", ALL))
    assert {name.removeprefix("SORTBELT_").removesuffix("_FILE").lower() for name in named} <= set(
        settings.Settings.model_fields
    )
    given = {name for asked in COMPOSE.values() for name in asked.get("environment", {}) if name.startswith("SORTBELT")}
    assert given <= named


def test_images_and_commands_are_those_of_compose():
    """The chart starts the same programs from the same images."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == version
    assert VALUES["images"]["api"] == COMPOSE["api"]["image"] == f"sortbelt-api:{version}"
    assert VALUES["images"]["worker"] == COMPOSE["worker"]["image"] == f"sortbelt-worker:{version}"
    commands = {line.strip() for line in re.findall(r"args: \[(.*)\]", ALL)}
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    started = {", ".join(json.loads(line)) for line in re.findall(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)}
    assert commands == started | {", ".join(COMPOSE[name]["command"]) for name in ("migrate", "courier")}


def test_no_pod_has_more_power_than_its_container_of_compose():
    """Nobody is root, writes outside volumes and /tmp, or holds a capability."""
    for line in ("runAsNonRoot: true", "runAsUser: 10001", "readOnlyRootFilesystem: true", "drop: [ALL]"):
        assert TEMPLATES["_helpers.tpl"].count(line) == 1
    assert "allowPrivilegeEscalation: false" in ALL
    pods = ALL.count("containers:\n")
    assert ALL.count('include "sortbelt.pod"') == ALL.count('include "sortbelt.container"') == pods == 4


def test_what_is_rendered_is_what_is_meant(rendered, request):
    """Each pod with its user, its rights, its probes and no secret that it does not need."""
    pods = {
        name: made["spec"]["template"]["spec"]
        for (kind, name), made in rendered.items()
        if kind in {"Deployment", "Job"}
    }
    assert set(pods) >= {"demo-api", "demo-courier", "demo-worker", "demo-migrate"}
    for name, pod in pods.items():
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsUser"] == 10001
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert name == "demo-migrate" or "readinessProbe" in container
        (secrets,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
        assert ("admin_key" in str(secrets)) == (name == "demo-migrate")
    if "everything" in request.node.callspec.id:
        scaled = rendered["ScaledObject", "demo-worker-gpu"]["spec"]
        assert scaled["triggers"][0]["metadata"]["query"] == "max(sortbelt_images_open)"
        assert "replicas" not in rendered["Deployment", "demo-worker-gpu"]["spec"]
