"""The image: pinned, built from locked files, without a compiler or root, and able to say whether it is well."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture(scope="module")
def dockerfile(root: Path) -> str:
    return (root / "docker/Dockerfile").read_text().replace("\\\n", " ")


@pytest.fixture(scope="module")
def final_stage(dockerfile: str) -> str:
    return dockerfile.rpartition("\nFROM ")[2]


def test_both_stages_stand_on_one_base_pinned_by_digest(dockerfile: str) -> None:
    assert re.search(r"^ARG BASE=docker\.io/library/python:3\.11\.\d+-slim@sha256:[0-9a-f]{64}$", dockerfile, re.M)
    assert re.findall(r"^FROM (\S+)", dockerfile, re.M) == ["${BASE}", "${BASE}"]


def test_the_final_stage_installs_nothing(final_stage: str) -> None:
    assert not re.search(r"\b(apt-get|apt|pip|gcc|build-essential|curl|wget)\b", final_stage)


def test_the_image_does_not_run_as_root(final_stage: str) -> None:
    assert re.findall(r"^USER (\S+)", final_stage, re.M) == ["10001:10001"]


def test_the_image_says_what_it_is(final_stage: str) -> None:
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in final_stage


@pytest.fixture
def healthcheck(final_stage: str) -> list[str]:
    """The image's own health check, run by this Python."""
    (line,) = re.findall(r"^HEALTHCHECK .*?CMD (\[.*\])$", final_stage, re.M)
    command: list[str] = json.loads(line)
    assert command[0] == "python3"
    return [sys.executable, *command[1:]]


@pytest.fixture
def service() -> Iterator[tuple[int, health.HealthServicer]]:
    """A gRPC server that answers for its health, and its port."""
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port, servicer
    server.stop(None).wait()


def test_the_health_check_follows_the_service(
    healthcheck: list[str], service: tuple[int, health.HealthServicer]
) -> None:
    port, servicer = service
    environment = {**os.environ, "VBT_GRPC__ADDRESS": f"0.0.0.0:{port}"}

    def exit_status() -> int:
        return subprocess.run(healthcheck, env=environment, capture_output=True, check=False, timeout=30).returncode

    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    assert exit_status() == 0
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert exit_status() == 1


@pytest.mark.parametrize("name", ["requirements.txt", "build-requirements.txt"])
def test_every_locked_distribution_has_one_version_and_a_hash(root: Path, name: str) -> None:
    entries = re.split(r"\n(?=[a-zA-Z0-9])", (root / "docker" / name).read_text())
    for entry in entries:
        assert re.match(r"^[a-zA-Z0-9._-]+(\[[a-z,]+\])?==\S+", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_the_lock_holds_what_the_project_asks_for(root: Path) -> None:
    """Fails when a dependency changed and the lock did not; docker/README.md says how to lock anew."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    locked = {
        canonicalize_name(name): version
        for name, version in re.findall(
            r"^([a-zA-Z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", (root / "docker/requirements.txt").read_text(), re.M
        )
    }
    asked = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["postgres"]]
    for requirement in map(Requirement, asked):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in docker/requirements.txt"
        assert requirement.specifier.contains(version), f"{requirement} but {version} is locked"


def test_the_build_sees_only_what_the_dockerfile_copies(root: Path, dockerfile: str) -> None:
    lines = [line for line in (root / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.M) for word in line.split()}
    assert let_in == copied
    assert all((root / path).exists() for path in copied)
