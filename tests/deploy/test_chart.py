"""Check the Kubernetes chart: its templates as text, and rendered by Helm where Helm is installed."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from core import settings
from sortbelt import version

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "kubernetes"
TEMPLATES = {path.name: path.read_text(encoding="utf-8") for path in sorted((CHART / "templates").iterdir())}
ALL = "\n".join(TEMPLATES.values())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
ALL_OPTIONS = {
    "blobs": {"claim": "images"},
    "env": [{"name": "AWS_REGION", "value": "eu-central-1"}],
    "envSecret": "bucket",
    "keda": {"enabled": True},
    "workerGpu": {"enabled": True},
    "serviceAccount": {"annotations": {"role": "arn"}},
    "networkPolicy": {"workerEgress": [{"ports": [{"port": 5432}]}], "apiFrom": [{"podSelector": {}}]},
}


@pytest.fixture(params=[{"blobs": {"url": "s3://bucket/prefix"}}, ALL_OPTIONS], ids=["minimal", "maximal"])
def rendered_chart(request, tmp_path):
    """Render the chart; return its objects by kind and name."""
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("needs helm, which is not a Python package")
    values = tmp_path / "values.json"
    values.write_text(json.dumps(request.param))
    command = [helm, "template", "demo", str(CHART), "--values", str(values)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {(obj["kind"], obj["metadata"]["name"]): obj for obj in yaml.safe_load_all(text) if obj}


def test_every_value_that_a_template_uses_is_there():
    """A missing value would be rendered as an empty string."""
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
    """A value without effect would mislead operators."""
    for name, value in VALUES.items():
        below = [f"{name}.{inner}" for inner in value] if isinstance(value, dict) and value else [name]
        if name in {"worker", "workerGpu"}:
            below = [name]
        assert [path for path in below if not re.search(rf"alues\.{re.escape(path)}\b", ALL)] == []


def test_every_include_is_defined_and_every_block_has_its_end():
    """Check what is visible in the text of the templates."""
    assert set(re.findall(r'include "([^"]+)"', ALL)) == set(re.findall(r'define "([^"]+)"', ALL))
    for name, text in TEMPLATES.items():
        opened = re.findall(r"\{\{-? *(if|with|range|define)\b", text)
        assert len(opened) == len(re.findall(r"\{\{-? *end\b", text)), name


def test_every_variable_is_a_setting_and_those_of_compose_are_set():
    """Each program gets the settings that it gets from docker-compose.yml."""
    named = set(re.findall(r"\bSORTBELT_[A-Z_]+", ALL))
    assert {name.removeprefix("SORTBELT_").removesuffix("_FILE").lower() for name in named} <= set(
        settings.Settings.model_fields
    )
    in_compose = {
        name for service in COMPOSE.values() for name in service.get("environment", {}) if name.startswith("SORTBELT")
    }
    assert in_compose <= named


def test_images_and_commands_are_those_of_compose():
    """The chart starts the same programs from the same images."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == version.VERSION
    assert VALUES["images"]["api"] == COMPOSE["api"]["image"] == f"sortbelt-api:{version.VERSION}"
    assert VALUES["images"]["worker"] == COMPOSE["worker"]["image"] == f"sortbelt-worker:{version.VERSION}"
    commands = {line.strip() for line in re.findall(r"args: \[(.*)\]", ALL)}
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    started = {", ".join(json.loads(line)) for line in re.findall(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)}
    assert commands == started | {", ".join(COMPOSE[name]["command"]) for name in ("migrate", "dispatcher")}


def test_no_pod_has_more_privileges_than_its_compose_service():
    """Pods run without root, without capabilities, and with a read-only root file system."""
    for line in ("runAsNonRoot: true", "runAsUser: 10001", "readOnlyRootFilesystem: true", "drop: [ALL]"):
        assert TEMPLATES["_helpers.tpl"].count(line) == 1
    assert "allowPrivilegeEscalation: false" in ALL
    pods = ALL.count("containers:\n")
    assert ALL.count('include "sortbelt.pod"') == ALL.count('include "sortbelt.container"') == pods == 4


def test_rendered_pods_have_limited_privileges_probes_and_secrets(rendered_chart, request):
    """Each pod has its user, limits and probes, and only the secrets that it needs."""
    pods = {
        name: obj["spec"]["template"]["spec"]
        for (kind, name), obj in rendered_chart.items()
        if kind in {"Deployment", "Job"}
    }
    assert set(pods) >= {"demo-api", "demo-dispatcher", "demo-worker", "demo-migrate"}
    for name, pod in pods.items():
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsUser"] == 10001
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert name == "demo-migrate" or "readinessProbe" in container
        (secrets,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
        assert ("admin_key" in str(secrets)) == (name == "demo-migrate")
    if "maximal" in request.node.callspec.id:
        scaled = rendered_chart["ScaledObject", "demo-worker-gpu"]["spec"]
        assert scaled["triggers"][0]["metadata"]["query"] == "max(sortbelt_images_open)"
        assert "replicas" not in rendered_chart["Deployment", "demo-worker-gpu"]["spec"]


def test_only_the_api_takes_connections():
    """Row 13: one network policy selects all pods and allows nothing, another the API and its port."""
    text = re.sub(r"^\s*{{.*}}$", "", TEMPLATES["network-policy.yaml"], flags=re.MULTILINE)
    text = re.sub(r"{{.*?}}", "x", text)
    all_pods, api, workers = yaml.safe_load_all(text)
    assert all_pods["spec"]["policyTypes"] == ["Ingress"]
    assert "ingress" not in all_pods["spec"]
    assert set(all_pods["spec"]["podSelector"]["matchLabels"]) == {
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
    }
    assert api["spec"]["ingress"][0]["ports"] == [{"port": "http"}]
    assert workers["spec"]["policyTypes"] == ["Egress"]
    assert VALUES["networkPolicy"]["enabled"] is True
