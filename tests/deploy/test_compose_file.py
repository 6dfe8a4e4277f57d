import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs import settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LASTING = sorted(set(SERVICES) - {"migrate"})
each = pytest.mark.parametrize("service", sorted(SERVICES))
each_lasting = pytest.mark.parametrize("service", LASTING)


def secrets_of(service):
    return set(SERVICES[service].get("secrets", []))


def test_the_services_are_those_that_the_manual_names():
    assert set(SERVICES) == {"migrate", "api", "courier", "worker", "worker-gpu", "redis", "postgres"}


@each
def test_a_service_has_no_more_power_than_it_needs(service):
    asked = SERVICES[service]

    assert asked["read_only"] is True
    assert asked["cap_drop"] == ["ALL"]
    assert "cap_add" not in asked
    assert asked["security_opt"] == ["no-new-privileges:true"]
    assert asked["user"] in {"10001:10001", "redis", "postgres"}
    assert not {"privileged", "network_mode", "pid", "ipc", "devices"} & set(asked)


@each
def test_a_service_cannot_eat_the_machine(service):
    asked = SERVICES[service]

    assert re.fullmatch(r"(\$\{WORKER(_GPU)?_MEMORY:-)?\d+[mg]\}?", str(asked["mem_limit"]))
    assert 0 < asked["pids_limit"] <= 512
    # Workers may use every core, but only what the others leave.
    assert float(asked["cpus"]) > 0 if "cpu_shares" not in asked else asked["cpu_shares"] < 1024
    assert asked["logging"]["options"]["max-size"]


@each_lasting
def test_a_lasting_service_is_watched_and_comes_back_by_itself(service):
    asked = SERVICES[service]

    assert asked["restart"] == "unless-stopped"
    assert asked["init"] is True
    assert asked["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert asked["stop_grace_period"]


def test_migrations_run_once_before_anything_uses_the_tables():
    assert SERVICES["migrate"]["restart"] == "no"
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for service in ("api", "courier", "worker", "worker-gpu"):
        assert SERVICES[service]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_the_database_is_stopped_after_those_who_use_it():
    """Compose stops in the order of `depends_on`, and the migration, which has ended, holds nothing back."""
    for service in ("api", "courier", "worker", "worker-gpu"):
        assert "postgres" in SERVICES[service]["depends_on"]


def test_only_the_api_is_published_and_only_to_this_machine():
    published = {name: asked["ports"] for name, asked in SERVICES.items() if "ports" in asked}

    assert list(published) == ["api"]
    assert all(str(port).startswith("127.0.0.1:") for port in published["api"])


def test_only_the_api_and_the_courier_have_a_way_out():
    assert COMPOSE["networks"]["back"] == {"internal": True}
    assert {name for name, asked in SERVICES.items() if asked["networks"] != ["back"]} == {"api", "courier"}


def test_redis_wants_a_password_writes_what_it_knows_and_evicts_nothing():
    command = SERVICES["redis"]["command"]

    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert "--aclfile /run/secrets/redis_acl" in command
    assert "redis_acl" in secrets_of("redis")
    assert "redis:/data" in SERVICES["redis"]["volumes"]


def test_every_secret_is_a_file_that_git_does_not_know():
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"${{SECRETS_DIR:-./deploy/secrets}}/{name}"}
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


@each
def test_a_service_reads_exactly_the_secrets_that_it_is_given(service):
    text = str({key: SERVICES[service].get(key) for key in ("environment", "command", "healthcheck")})

    assert set(re.findall(r"/run/secrets/(\w+)", text)) == secrets_of(service)


def test_only_the_migration_knows_the_admin_key():
    assert [name for name in SERVICES if "admin_key" in secrets_of(name)] == ["migrate"]


@each
def test_every_variable_is_a_setting_that_exists(service):
    given = SERVICES[service].get("environment", {})
    plain = {name: str(value) for name, value in given.items() if not name.endswith("_FILE")}
    fields = {name.removeprefix(settings.PREFIX).removesuffix("_FILE").lower() for name in given if "SORTBELT" in name}

    assert fields <= set(settings.Settings.model_fields)
    assert "SORTBELT_DATABASE_URL" not in plain
    settings.read({name: value for name, value in plain.items() if name.startswith(settings.PREFIX)})


@each
def test_images_are_pinned_to_a_version(service):
    name, _, tag = SERVICES[service]["image"].partition(":")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    if "build" in SERVICES[service]:
        assert (name, tag) == (f"sortbelt-{service}", project["version"])
        assert SERVICES[service]["build"]["target"] in {"api", "worker"}
    else:
        assert re.fullmatch(r"\d+(\.\d+)*-bookworm", tag)


def test_a_gpu_is_reserved_only_by_those_who_ask_for_the_profile():
    devices = {name: asked["deploy"]["resources"] for name, asked in SERVICES.items() if "deploy" in asked}

    assert list(devices) == ["worker-gpu"]
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    assert devices["worker-gpu"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    ]


def test_workers_only_read_the_pictures_that_the_api_writes():
    assert SERVICES["api"]["volumes"] == ["blobs:/data/blobs"]
    for service in ("worker", "worker-gpu"):
        assert SERVICES[service]["volumes"] == ["blobs:/data/blobs:ro"]


def test_with_a_bucket_only_the_place_of_the_pictures_and_the_way_there_differ():
    overlay = yaml.safe_load((ROOT / "deploy" / "s3.yml").read_text(encoding="utf-8"))["services"]

    assert set(overlay) == {"api", "worker", "worker-gpu"}
    for asked in overlay.values():
        assert set(asked) == {"env_file", "environment", "networks"}
        assert list(asked["environment"]) == ["SORTBELT_BLOBS"]


def test_with_sources_who_reads_them_cannot_write_them():
    overlay = yaml.safe_load((ROOT / "deploy" / "sources.yml").read_text(encoding="utf-8"))["services"]

    assert {name for name, asked in overlay.items() if "volumes" in asked} == {"courier", "worker", "worker-gpu"}
    assert all(list(asked["environment"]) == ["SORTBELT_SOURCES"] for asked in overlay.values())
    assert all(volume.endswith(":/sources:ro") for asked in overlay.values() for volume in asked.get("volumes", []))


def test_with_traces_all_that_work_send_them_and_nobody_gets_a_way_out():
    overlay = yaml.safe_load((ROOT / "deploy" / "tracing.yml").read_text(encoding="utf-8"))["services"]

    assert set(overlay) == {"api", "courier", "worker", "worker-gpu"}
    for asked in overlay.values():
        assert set(asked) == {"environment"}
        assert set(asked["environment"]) == {"SORTBELT_TRACING", "OTEL_EXPORTER_OTLP_ENDPOINT"}
    for image in ("api", "worker"):  # both have what that needs
        assert "\nopentelemetry-sdk==" in (ROOT / "requirements" / f"{image}.txt").read_text(encoding="utf-8")
