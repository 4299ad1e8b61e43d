"""Sensors as monitors: a lead field applied to the activity while the simulation runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vbt.simulation._lead_field import LeadField
from vbt.simulation._network import Network
from vbt.simulation._neural_mass import Variable, fixed


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Projection:
    """EEG, MEG or SEEG: the mean over each period of gain · activity. `of` makes one from a `LeadField`.

    Regions that were removed are silent.

    Parameters
    ----------
    gain : (sensor, region)
    sensors : names of the channels
    period : s between samples
    region_labels : names of the gain's columns; a network with labels must have the same
    """

    gain: Float[np.ndarray, "sensor region"] | Float[Array, "sensor region"]
    sensors: tuple[str, ...] = fixed(dataclasses.MISSING)
    period: float = fixed(dataclasses.MISSING)
    unit: str = fixed("1")
    region_labels: tuple[str, ...] | None = fixed(None)
    present: Float[Array, "region lane"] | float = 1.0

    @classmethod
    def of(cls, lead_field: LeadField, period: float) -> Projection:
        """The monitor that sees through a lead field."""
        return cls(lead_field.gain, lead_field.sensors, period, lead_field.unit, lead_field.region_labels)

    @property
    def resolution(self) -> float:
        return self.period

    def labels(self, region_labels: tuple[str, ...]) -> tuple[str, ...]:
        del region_labels
        return self.sensors

    def bound(self, networks: Sequence[Network]) -> Projection:
        """The projection with the regions that each run still has.

        Raises
        ------
        ValueError
            where the gain's columns are not the networks' regions.
        """
        regions = networks[0].regions
        if np.shape(self.gain) != (len(self.sensors), regions):
            raise ValueError(f"gain must be {(len(self.sensors), regions)}, got {np.shape(self.gain)}")
        for network in networks:
            if None not in (self.region_labels, network.region_labels) and self.region_labels != network.region_labels:
                raise ValueError("regions of the gain must be the regions of the network, in their order")
        present = np.stack([np.ones(regions) if n.active is None else n.active for n in networks], axis=-1)
        return dataclasses.replace(
            self, gain=jnp.asarray(self.gain, dtype=float), present=jnp.asarray(present, dtype=float)
        )

    def begin(self, like: Float[Array, "region lane"]) -> tuple[Variable, Variable]:
        return jnp.zeros_like(like), jnp.zeros((), like.dtype)

    def step(self, carry: tuple[Variable, Variable], activity: Variable, seconds: float) -> tuple[Variable, Variable]:
        del seconds  # all chunks are of one length
        total, chunks = carry
        return total + activity, chunks + 1.0

    def sample(
        self, carry: tuple[Variable, Variable], state: tuple[Variable, ...]
    ) -> tuple[tuple[Variable, Variable], Float[Array, "sensor lane"]]:
        del state
        total, chunks = carry
        seen = jnp.where(self.present > 0.0, total / chunks, 0.0)
        values = jnp.tensordot(self.gain, seen, axes=1, precision=jax.lax.Precision.HIGHEST)
        return (jnp.zeros_like(total), jnp.zeros_like(chunks)), values
