"""Check docker-compose.yml and its overlays: privileges, limits, networks, secrets, settings and versions."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from core import settings
from sortbelt import version

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LASTING = sorted(set(SERVICES) - {"migrate"})
each = pytest.mark.parametrize("service", sorted(SERVICES))
each_lasting = pytest.mark.parametrize("service", LASTING)


def secrets_of(service):
    return set(SERVICES[service].get("secrets", []))


def test_the_services_are_those_of_the_manual():
    assert set(SERVICES) == {"migrate", "api", "dispatcher", "worker", "worker-gpu", "redis", "postgres"}


@each
def test_a_service_has_minimal_privileges(service):
    config = SERVICES[service]

    assert config["read_only"] is True
    assert config["cap_drop"] == ["ALL"]
    assert "cap_add" not in config
    assert config["security_opt"] == ["no-new-privileges:true"]
    assert config["user"] in {"10001:10001", "redis", "postgres"}
    assert not {"privileged", "network_mode", "pid", "ipc", "devices"} & set(config)


@each
def test_a_service_has_resource_limits(service):
    config = SERVICES[service]

    assert re.fullmatch(r"(\$\{WORKER(_GPU)?_MEMORY:-)?\d+[mg]\}?", str(config["mem_limit"]))
    assert 0 < config["pids_limit"] <= 512
    # Workers may use every core, at a lower priority than the others.
    assert float(config["cpus"]) > 0 if "cpu_shares" not in config else config["cpu_shares"] < 1024
    assert config["logging"]["options"]["max-size"]


@each_lasting
def test_a_lasting_service_has_a_health_check_and_restarts(service):
    config = SERVICES[service]

    assert config["restart"] == "unless-stopped"
    assert config["init"] is True
    assert config["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert config["stop_grace_period"]


def test_migrations_run_once_before_anything_uses_the_tables():
    assert SERVICES["migrate"]["restart"] == "no"
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for service in ("api", "dispatcher", "worker", "worker-gpu"):
        assert SERVICES[service]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_the_database_is_stopped_after_the_services_that_use_it():
    """Compose stops services in the order of `depends_on`; depending on the ended migration alone is not enough."""
    for service in ("api", "dispatcher", "worker", "worker-gpu"):
        assert "postgres" in SERVICES[service]["depends_on"]


def test_only_the_api_is_published_and_only_to_this_machine():
    published = {name: config["ports"] for name, config in SERVICES.items() if "ports" in config}

    assert list(published) == ["api"]
    assert all(str(port).startswith("127.0.0.1:") for port in published["api"])


def test_only_the_api_and_the_dispatcher_reach_the_outside():
    assert COMPOSE["networks"]["back"] == {"internal": True}
    assert {name for name, config in SERVICES.items() if config["networks"] != ["back"]} == {"api", "dispatcher"}


def test_redis_requires_a_password_persists_and_evicts_nothing():
    command = SERVICES["redis"]["command"]

    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert "--aclfile /run/secrets/redis_acl" in command
    assert "redis_acl" in secrets_of("redis")
    assert "redis:/data" in SERVICES["redis"]["volumes"]


def test_every_secret_is_a_file_that_git_ignores():
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"${{SECRETS_DIR:-./deploy/secrets}}/{name}"}
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


@each
def test_a_service_reads_exactly_its_secrets(service):
    text = str({key: SERVICES[service].get(key) for key in ("environment", "command", "healthcheck")})

    assert set(re.findall(r"/run/secrets/(\w+)", text)) == secrets_of(service)


def test_only_the_migration_gets_the_admin_key():
    assert [name for name in SERVICES if "admin_key" in secrets_of(name)] == ["migrate"]


@each
def test_every_variable_is_a_setting_that_exists(service):
    environment = SERVICES[service].get("environment", {})
    plain = {name: str(value) for name, value in environment.items() if not name.endswith("_FILE")}
    fields = {
        name.removeprefix(settings.ENV_PREFIX).removesuffix("_FILE").lower()
        for name in environment
        if "SORTBELT" in name
    }

    assert fields <= set(settings.Settings.model_fields)
    assert "SORTBELT_DATABASE_URL" not in plain
    settings.read({name: value for name, value in plain.items() if name.startswith(settings.ENV_PREFIX)})


@each
def test_images_are_pinned_to_a_version(service):
    name, _, tag = SERVICES[service]["image"].partition(":")

    if "build" in SERVICES[service]:
        assert (name, tag) == (f"sortbelt-{service}", version.VERSION)
        assert SERVICES[service]["build"]["target"] in {"api", "worker"}
    else:
        assert re.fullmatch(r"\d+(\.\d+)*-bookworm", tag)


def test_a_gpu_is_reserved_only_with_the_gpu_profile():
    devices = {name: config["deploy"]["resources"] for name, config in SERVICES.items() if "deploy" in config}

    assert list(devices) == ["worker-gpu"]
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    assert devices["worker-gpu"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    ]


def test_workers_mount_the_blobs_read_only():
    for service in ("api", "dispatcher"):
        assert SERVICES[service]["volumes"] == ["blobs:/data/blobs"]
    for service in ("worker", "worker-gpu"):
        assert SERVICES[service]["volumes"] == ["blobs:/data/blobs:ro"]


def test_the_bucket_overlay_changes_only_the_blob_store_and_its_access():
    overlay = yaml.safe_load((ROOT / "deploy" / "s3.yml").read_text(encoding="utf-8"))["services"]

    assert set(overlay) == {"api", "dispatcher", "worker", "worker-gpu"}
    for config in overlay.values():
        assert set(config) == {"env_file", "environment", "networks"}
        assert list(config["environment"]) == ["SORTBELT_BLOB_STORE"]


def test_the_sources_overlay_mounts_sources_read_only():
    overlay = yaml.safe_load((ROOT / "deploy" / "sources.yml").read_text(encoding="utf-8"))["services"]

    assert {name for name, config in overlay.items() if "volumes" in config} == {
        "api",
        "dispatcher",
        "worker",
        "worker-gpu",
    }
    assert all(list(config["environment"]) == ["SORTBELT_SOURCES"] for config in overlay.values())
    assert all(volume.endswith(":/sources:ro") for config in overlay.values() for volume in config.get("volumes", []))


def test_the_tracing_overlay_sets_variables_only():
    overlay = yaml.safe_load((ROOT / "deploy" / "tracing.yml").read_text(encoding="utf-8"))["services"]

    assert set(overlay) == {"api", "dispatcher", "worker", "worker-gpu"}
    for config in overlay.values():
        assert set(config) == {"environment"}
        assert set(config["environment"]) == {"SORTBELT_TRACING", "OTEL_EXPORTER_OTLP_ENDPOINT"}
    for image in ("api", "worker"):  # both include OpenTelemetry
        assert "\nopentelemetry-sdk==" in (ROOT / "requirements" / f"{image}.txt").read_text(encoding="utf-8")
