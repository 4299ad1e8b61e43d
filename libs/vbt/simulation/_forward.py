"""Runs of one network shape side by side in machine code: their arrays, and the call that moves them on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from vbt.simulation._equations import Shape, vector_width
from vbt.simulation._native import _PLACES, BLOCK, compiled
from vbt.simulation._network import Network, delay_steps
from vbt.simulation._noise import noise_keys
from vbt.simulation._stimulus import in_lanes


class Forward:
    """Some runs with the same delays, one in each lane; as many lanes as a vector has, or one.

    Parameters
    ----------
    networks, seeds : one per lane at most; lanes left over repeat the last
    dt_ms : time step
    chunk_steps : time steps of a chunk
    dtype : of all numbers
    """

    def __init__(
        self, networks: Sequence[Network], seeds: Sequence[int], dt_ms: float, chunk_steps: int, dtype: Any
    ) -> None:
        lanes = 1 if len(networks) == 1 else vector_width(dtype)
        self._chunk_steps = chunk_steps
        self.networks = [*networks, *[networks[-1]] * (lanes - len(networks))]
        self._seeds = [*seeds, *[seeds[-1]] * (lanes - len(seeds))]
        self._first, self._dt, self._dtype = networks[0], dt_ms, np.dtype(dtype)
        self.lanes, self.regions = lanes, self._first.regions
        self._padded = -(-self.regions * lanes // vector_width(dtype)) * vector_width(dtype)
        self._sizes: dict[str, int] = {"regions": self.regions, "padded": self._padded, "step": 0, "fresh": 1}
        self._arrays: dict[str, np.ndarray] = {}
        self._fill()

    def _fill(self) -> None:
        mass = self._first.mass
        noisy = tuple(
            sorted({i for n in self.networks for i, sigma in enumerate(n.sigma) if np.any(np.asarray(sigma))})
        )
        self._currents = None
        if any(n.stimulus is not None for n in self.networks):
            self._currents = in_lanes([n.stimulus for n in self.networks], self.regions, self._dt)
        self._shape = Shape(
            structure=jax.tree.structure(mass),
            dtype=self._dtype.name,
            lanes=self.lanes,
            noisy=noisy,
            stimulated=self._currents is not None,
        )
        self._run = compiled(self._shape)
        variables, channels = len(mass.variables), len(mass.channels)
        step = self._dt / mass.milliseconds_per_unit
        rows = self._rows
        self._arrays |= {
            "state": rows([[n.start[v] for n in self.networks] for v in range(variables)]),
            "predicted": self._empty(variables),
            "slopes": self._empty(variables),
            "parameters": rows(
                [list(leaf) for leaf in zip(*(jax.tree.leaves(n.mass) for n in self.networks), strict=True)]
            ),
            "in_strengths": rows([[n.channel_weights[c].sum(axis=1) for n in self.networks] for c in range(channels)]),
            "time_steps": np.array([step, 0.5 * step], self._dtype),
            "delayed": self._empty(channels * (BLOCK + 1)),
            "afferents": self._empty(channels),
            "signals": self._empty(channels),
            "predicted_signals": self._empty(channels),
            "noise": self._empty(2 * len(noisy)),
            "sigma": rows([[_sigma(n, v) * step**0.5 for n in self.networks] for v in noisy]),
            "keys": np.zeros(0, np.uint32),
            "stimulus": self._empty(1),
            "activity": self._empty(1),
        }
        if noisy:
            keys = np.asarray(noise_keys(self._seeds, noisy, self.regions)).reshape(2 * len(noisy), -1)
            self._arrays["keys"] = np.pad(keys, ((0, 0), (0, self._padded - keys.shape[1])))
        amplitude = (
            np.zeros((0, self.regions, self.lanes)) if self._currents is None else np.asarray(self._currents.amplitude)
        )
        self._sizes["waveforms"] = len(amplitude)
        self._arrays["amplitudes"] = self._flat(amplitude)
        self._tracts()

    def _tracts(self) -> None:
        first, lanes = self._first, self.lanes
        delays = delay_steps(first, self._dt)
        present = np.any([n.is_tract for n in self.networks], axis=0)
        weights = np.stack([n.channel_weights for n in self.networks], axis=-1)  # (channel, target, source, lane)
        longest = int(delays[present].max(initial=0))
        ring = max(longest, 2 * BLOCK) + 1
        self._sizes["ring"] = ring
        width = (ring + BLOCK) * lanes

        def edges(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            targets, sources = np.nonzero(chosen)
            values = weights[:, targets, sources]
            return targets, sources, np.ascontiguousarray(values, self._dtype)

        targets, sources, values = edges(present & (delays >= BLOCK))
        self._sizes["long"] = len(targets)
        self._arrays |= {
            "rows": np.searchsorted(targets, np.arange(self.regions + 1)).astype(np.int32),
            "sources": (sources * width).astype(np.int32),
            "delays": delays[targets, sources].astype(np.int32),
            "weights": values,
        }
        for kind, chosen in (("short", (delays > 0) & (delays < BLOCK)), ("zero", delays == 0)):
            targets, sources, values = edges(present & chosen)
            self._sizes[kind] = len(targets)
            self._arrays |= {
                f"{kind}_targets": targets.astype(np.int32),
                f"{kind}_sources": sources.astype(np.int32),
                f"{kind}_delays": delays[targets, sources].astype(np.int32),
                f"{kind}_weights": values,
            }
        self._arrays["history"] = np.zeros((len(weights), self.regions, width), self._dtype)

    def _empty(self, rows: int) -> np.ndarray:
        return np.zeros((rows, self._padded), self._dtype)

    def _rows(self, columns: list[list[Any]]) -> np.ndarray:
        """One row per quantity, regions and lanes flattened, lanes last."""
        stacked = np.zeros((len(columns), self.regions, self.lanes))
        for k, lanes in enumerate(columns):
            for lane, value in enumerate(lanes):
                stacked[k, :, lane] = np.asarray(value, dtype=float)
        return self._flat(stacked)

    def _flat(self, values: np.ndarray) -> np.ndarray:
        flat = values.reshape(len(values), self.regions * self.lanes)
        # Padding repeats a real place: whatever the equations, no place that nobody asked for runs into trouble.
        return np.ascontiguousarray(np.pad(flat, ((0, 0), (0, self._padded - flat.shape[1])), mode="edge"), self._dtype)

    def advance(
        self, chunks: int, capacity: int, steps: int | None = None
    ) -> tuple[Float[np.ndarray, "chunk region lane"], Float[np.ndarray, "chunk variable region lane"]]:
        """The next ``chunks`` chunks, in arrays of ``capacity``: mean activity of each and the state at its end.

        ``steps`` is another length of a chunk than usual.
        """
        chunk_steps = self._chunk_steps if steps is None else steps
        variables = len(self._first.mass.variables)
        places, shape = self.regions * self.lanes, (self.regions, self.lanes)
        means = np.zeros((capacity, self._padded), self._dtype)
        ends = np.zeros((capacity, variables, self._padded), self._dtype)
        courses = np.zeros(0, self._dtype)
        if self._currents is not None:
            first = self._sizes["step"]
            when = np.arange(first, first + chunks * chunk_steps, dtype=np.int32)
            courses = np.ascontiguousarray(_courses(self._currents, when), self._dtype)
        self._sizes |= {"chunks": chunks, "chunk_steps": chunk_steps}
        arrays = self._arrays | {"means": means, "ends": ends, "courses": courses}
        table = np.zeros(len(_PLACES), np.int64)
        for name, place in _PLACES.items():
            table[place] = arrays[name].ctypes.data if name in arrays else self._sizes[name]
        self._run(table.ctypes.data)
        self._sizes["step"] += chunks * chunk_steps
        self._sizes["fresh"] = 0
        return means[:, :places].reshape(-1, *shape), ends[..., :places].reshape(-1, variables, *shape)

    @property
    def state(self) -> tuple[np.ndarray, ...]:
        places = self.regions * self.lanes
        return tuple(self._arrays["state"][:, :places].reshape(-1, self.regions, self.lanes).copy())

    def snapshot(self) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """Everything that changes, to `restore` this moment from."""
        changing = ("state", "history", "delayed", "signals", "noise")
        return {name: self._arrays[name].copy() for name in changing}, dict(self._sizes)

    def restore(self, saved: tuple[dict[str, np.ndarray], dict[str, int]]) -> None:
        self._arrays |= saved[0]
        self._sizes = dict(saved[1])


def _sigma(network: Network, variable: int) -> np.ndarray:
    return np.asarray(network.sigma[variable] if network.sigma else 0.0, dtype=float)


@jax.jit
def _courses(currents: Any, steps: Any) -> Any:
    return currents.course(steps)
