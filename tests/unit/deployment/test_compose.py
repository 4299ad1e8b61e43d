"""compose.yaml: the six services as in the cluster, between a real Kafka and PostgreSQL, with no secret in sight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SUITE = {"audit-ledger", "brain-simulator", "connectome-builder", "dicom-ingest", "report-writer", "twin-inference"}


@pytest.fixture
def suite(compose: dict[str, Any]) -> dict[str, Any]:
    """The six services of ours."""
    return {name: service for name, service in compose["services"].items() if name in SUITE}


def test_each_service_runs_its_own_script(suite: dict[str, Any], scripts: dict[str, str]) -> None:
    assert set(suite) == SUITE
    for name, service in suite.items():
        assert service["command"] == [f"vbt-{name}"]
        assert f"vbt-{name}" in scripts
        assert service["image"] == "vbt"


def test_every_container_is_locked_down(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if service["image"] == "vbt":
            assert service["user"] == "10001:10001"
            assert service["read_only"] is True
            assert "cap_add" not in service


def test_images_that_are_not_ours_are_pinned_by_digest(compose: dict[str, Any]) -> None:
    foreign = {service["image"] for service in compose["services"].values()} - {"vbt"}
    assert {image.split(":")[0] for image in foreign} == {"docker.io/apache/kafka", "docker.io/library/postgres"}
    assert all(len(image.partition("@sha256:")[2]) == 64 for image in foreign)


def test_every_setting_is_read_by_its_service(suite: dict[str, Any], variables: Callable[[str], Any]) -> None:
    for name, service in suite.items():
        read = variables(name.replace("-", "_"))
        given = {key for key in service["environment"] if key.startswith("VBT_")}
        assert given - read.known == set(), f"{name} does not read these"
        assert read.required - given == set(), f"{name} needs these"


def test_every_service_stands_on_the_same_bus_state_and_objects(suite: dict[str, Any]) -> None:
    for key in ("VBT_KAFKA__BOOTSTRAP_SERVERS", "VBT_STATE__URL", "VBT_OBJECTS__URL", "VBT_KEYS__DIRECTORY"):
        assert len({service["environment"][key] for service in suite.values()}) == 1


def test_every_path_in_the_settings_is_on_a_volume(suite: dict[str, Any]) -> None:
    for service in suite.values():
        mounts = [volume.split(":")[1] for volume in service["volumes"]]
        settings = service["environment"]
        paths = [value for value in settings.values() if value.startswith("/")]
        paths += [
            settings["VBT_STATE__URL"].split("passfile=")[1],
            settings["VBT_OBJECTS__URL"].removeprefix("file://"),
        ]
        assert not [path for path in paths if not any(path.startswith(mount) for mount in mounts)]


def test_every_volume_and_network_is_declared(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(compose["volumes"])
        assert set(service.get("networks", [])) <= set(compose["networks"])


def test_only_ingest_and_the_report_leave_the_inner_network(compose: dict[str, Any]) -> None:
    assert compose["networks"]["inside"] == {"internal": True}
    outside = {name for name, service in compose["services"].items() if "outside" in service.get("networks", [])}
    assert outside == {"dicom-ingest", "report-writer"}
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published == {"dicom-ingest": ["${VBT_DICOM_ADDRESS:-127.0.0.1}:11112:11112"]}


def test_a_service_waits_for_its_topics_its_database_and_its_password(suite: dict[str, Any]) -> None:
    for service in suite.values():
        assert service["depends_on"] == {
            "secrets": {"condition": "service_completed_successfully"},
            "topics": {"condition": "service_completed_successfully"},
            "postgresql": {"condition": "service_healthy"},
        }


def test_no_password_is_in_the_file(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for key, value in service.get("environment", {}).items():
            assert not key.endswith(("PASSWORD", "TOKEN", "SECRET_ACCESS_KEY"))
            assert ":" not in str(value).partition("://")[2].partition("@")[0] or "@" not in str(value)


def test_memory_is_bounded_as_in_the_cluster(suite: dict[str, Any], build: Callable[[str], Any]) -> None:
    for name, service in suite.items():
        limit = build("base").pods()[name]["spec"]["containers"][0]["resources"]["limits"]["memory"]
        assert service["mem_limit"] == limit.replace("Gi", "g")
