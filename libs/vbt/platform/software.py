"""Which code did it: the name, version and content digest of the software behind an effect."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import vbt


@dataclass(frozen=True, kw_only=True)
class Software:
    """The service that acted; ``digest`` is a SHA-256 over the source of the service and of the whole library."""

    name: str
    version: str
    digest: str


@functools.cache
def this_software(service: str) -> Software:
    """The software of ``service`` (an import name, e.g. ``"connectome_builder"``) as it is installed here."""
    digest = hashlib.sha256()
    for root in (*vbt.__path__, *_package(service)):
        for source in sorted(Path(root).rglob("*.py")):
            digest.update(source.relative_to(root).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(source.read_bytes()).digest())
    return Software(name=service, version=importlib.metadata.version("vbt"), digest=digest.hexdigest())


def _package(service: str) -> list[str]:
    spec = importlib.util.find_spec(service)
    return list(spec.submodule_search_locations or []) if spec else []
