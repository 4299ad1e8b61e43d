"""What it takes to run a computation again and to know whether the answer is the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jaxlib.version
import llvmlite  # type: ignore[import-untyped]
import numpy as np


@dataclass(frozen=True, kw_only=True)
class ReplayManifest:
    """The record of one numeric entry point.

    Parameters
    ----------
    entry : dotted name of the function that ran
    inputs, outputs : SHA-256 of every array that went in and came out, by name
    parameters : every other argument
    seeds : PRNG seeds in the order of the runs; ``prng`` the implementation they seed
    dt : ms; None where nothing is stepped through time
    precision : ``"single"`` or ``"double"``
    batch_shape : shape the compiled entry point was padded to
    """

    entry: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    parameters: Mapping[str, Any]
    seeds: tuple[int, ...]
    prng: str
    dt: float | None
    precision: str
    batch_shape: tuple[int, ...]
    xla_flags: str
    jax_version: str
    jaxlib_version: str
    device_kind: str
    llvmlite_version: str

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ReplayManifest:
        raw = json.loads(text)
        return cls(**{**raw, "seeds": tuple(raw["seeds"]), "batch_shape": tuple(raw["batch_shape"])})


def record(
    entry: str,
    *,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    parameters: Mapping[str, Any],
    seeds: tuple[int, ...],
    dt: float | None,
    precision: str,
    batch_shape: tuple[int, ...],
    prng: str = "threefry2x32",
) -> ReplayManifest:
    """The manifest of a run that has just ended on this machine."""
    return ReplayManifest(
        entry=entry,
        inputs={name: digest(value) for name, value in inputs.items()},
        outputs={name: digest(value) for name, value in outputs.items()},
        parameters=dict(parameters),
        seeds=seeds,
        prng=prng,
        dt=dt,
        precision=precision,
        batch_shape=batch_shape,
        # Recorded, not obeyed: the flags change the last bits and exist nowhere but in the environment.
        xla_flags=os.environ.get("XLA_FLAGS", ""),
        jax_version=jax.__version__,
        jaxlib_version=jaxlib.version.__version__,
        device_kind=str(jax.devices()[0].device_kind),
        llvmlite_version=llvmlite.__version__,
    )


def digest(value: Any) -> str:
    """SHA-256 of an array's type, shape and bytes."""
    array = np.ascontiguousarray(value)
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()
