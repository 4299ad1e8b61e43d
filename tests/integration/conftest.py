"""Small real servers that the integration tests run against."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def fhir_server_module() -> ModuleType:
    """The in-memory FHIR server beside this file (tests are not a package)."""
    spec = importlib.util.spec_from_file_location("fhir_server", Path(__file__).with_name("fhir_server.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
