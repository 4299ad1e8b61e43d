"""Runs of one network shape side by side in machine code: their arrays, and the call that moves them on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from vbt.simulation._emission import BLOCK, LEAD, Table
from vbt.simulation._equations import Shape, vector_width
from vbt.simulation._native import ForwardKernel, compiled
from vbt.simulation._network import Network, delay_steps
from vbt.simulation._noise import noise_keys
from vbt.simulation._stimulus import in_lanes


class Tracts(NamedTuple):
    """The tracts that runs have in common, by target and then by source."""

    targets: Int[np.ndarray, " tract"]
    sources: Int[np.ndarray, " tract"]
    delays: Int[np.ndarray, " tract"]

    def those(self, chosen: np.ndarray) -> Tracts:
        return Tracts(*(ends[chosen] for ends in self))

    def turned(self) -> Tracts:
        """The same tracts from target to source."""
        order = np.lexsort((self.targets, self.sources))
        return Tracts(self.sources[order], self.targets[order], self.delays[order])

    def kinds(self, block: int = BLOCK) -> dict[str, Tracts]:
        """As the kernels take them: those at least a block long, shorter ones, and those without delay."""
        return {
            "long": self.those(self.delays >= block),
            "short": self.those((self.delays > 0) & (self.delays < block)),
            "zero": self.those(self.delays == 0),
        }

    def rows(self, regions: int) -> Int[np.ndarray, " boundary"]:
        """Where the tracts of each target begin, and where the last ones end."""
        return np.searchsorted(self.targets, np.arange(regions + 1)).astype(np.int32)


class Forward:
    """Some runs with the same delays, one in each lane; as many lanes as a vector has, or one.

    Parameters
    ----------
    networks, seeds : one per lane at most; lanes left over repeat the last
    dt_ms : time step
    chunk_steps : time steps of a chunk
    dtype : of all numbers
    among : all networks of the call, whose tracts and noise there may be; ``networks`` where none are given
    recorded : steps of which `advance` can keep what their derivatives need; the ring of the past is longer by them
    """

    def __init__(
        self,
        networks: Sequence[Network],
        seeds: Sequence[int],
        dt_ms: float,
        chunk_steps: int,
        dtype: Any,
        *,
        among: Sequence[Network] | None = None,
        recorded: int = 0,
    ) -> None:
        lanes = 1 if len(networks) == 1 else vector_width(dtype)
        self._chunk_steps = chunk_steps
        self.networks = [*networks, *[networks[-1]] * (lanes - len(networks))]
        self._seeds = [*seeds, *[seeds[-1]] * (lanes - len(seeds))]
        self._first, self._dt, self.dtype = networks[0], dt_ms, np.dtype(dtype)
        self.lanes, self.regions = lanes, self._first.regions
        self.padded = -(-self.regions * lanes // vector_width(dtype)) * vector_width(dtype)
        self.table = Table(ForwardKernel)
        self.table.put(regions=self.regions, padded=self.padded, shift=0)
        everybody = self.networks if among is None else among
        delays = delay_steps(self._first, dt_ms)
        targets, sources = np.nonzero(np.any([network.is_tract for network in everybody], axis=0))
        self.tracts = Tracts(targets, sources, delays[targets, sources])
        self._noisy = tuple(
            sorted({i for n in everybody for i, sigma in enumerate(n.sigma) if np.any(np.asarray(sigma))})
        )
        self._fill(recorded)

    def _fill(self, recorded: int) -> None:
        mass, noisy = self._first.mass, self._noisy
        self._currents = None
        if any(n.stimulus is not None for n in self.networks):
            self._currents = in_lanes([n.stimulus for n in self.networks], self.regions, self._dt)
        self._courses: np.ndarray | None = None
        self.shape = Shape(
            structure=jax.tree.structure(mass),
            dtype=self.dtype.name,
            lanes=self.lanes,
            noisy=noisy,
            stimulated=self._currents is not None,
            recorded=bool(recorded),
        )
        self._run = compiled(ForwardKernel, self.shape)
        variables, channels = len(mass.variables), len(mass.channels)
        self.model_step = self._dt / mass.milliseconds_per_unit
        self.table.put(
            predicted=self.empty(variables),
            slopes=self.empty(variables),
            time_steps=np.array([self.model_step, 0.5 * self.model_step], self.dtype),
            delayed=self.empty(channels * (BLOCK + 1)),
            afferents=self.empty(channels),
            signals=self.empty(channels),
            predicted_signals=self.empty(channels),
            noise=self.empty(2 * len(noisy)),
            normals=self.empty(2 * len(noisy)),
            record=self.empty(recorded * self.shape.record_rows),
            keys=np.zeros(0, np.uint32),
            courses=np.zeros(0, self.dtype),
            stimulus=self.empty(1),
            activity=self.empty(1),
        )
        if noisy:
            keys = np.asarray(noise_keys(self._seeds, noisy, self.regions)).reshape(2 * len(noisy), -1)
            self.table.put(keys=np.pad(keys, ((0, 0), (0, self.padded - keys.shape[1]))))
        amplitude = (
            np.zeros((0, self.regions, self.lanes)) if self._currents is None else np.asarray(self._currents.amplitude)
        )
        self.table.put(waveforms=len(amplitude), amplitudes=self.flat(amplitude))
        longest = int(self.tracts.delays.max(initial=0))
        ring = max(longest, 2 * BLOCK) + 1
        if recorded:
            ring = spread(LEAD + ring + recorded, self.dtype)
        history = np.zeros((channels, self.regions, (ring + BLOCK) * self.lanes), self.dtype)
        self._kinds = self.tracts.kinds()
        counts = {name: len(tracts.targets) for name, tracts in self._kinds.items()}
        self.table.put(
            ring=ring, history=history, **counts, **tract_arrays(self._kinds, self.regions, history.shape[-1])
        )
        leaves = zip(*(jax.tree.leaves(n.mass) for n in self.networks), strict=True)
        self.pose(
            self._columns([list(leaf) for leaf in leaves]),
            np.stack([n.channel_weights for n in self.networks], axis=-1),
            self._columns([[n.sigma[v] if n.sigma else 0.0 for n in self.networks] for v in noisy]),
            self._columns([[n.start[v] for n in self.networks] for v in range(variables)]),
        )

    def pose(
        self,
        parameters: Float[np.ndarray, "leaf region lane"],
        weights: Float[np.ndarray, "channel region region lane"],
        sigma: Float[np.ndarray, "noisy region lane"],
        initial: Float[np.ndarray, "variable region lane"],
    ) -> None:
        """Begin anew with these numbers; only tracts that the networks have act."""
        # Each lane's own sum in its own order, so that it rounds alone as in a batch.
        strengths = np.ascontiguousarray(np.moveaxis(weights, -1, 0)).sum(axis=-1, dtype=float)
        self.table.put(
            parameters=self.flat(parameters),
            in_strengths=self.flat(np.moveaxis(strengths, 0, -1)),
            sigma=self.flat(sigma * self.model_step**0.5),
            state=self.flat(initial),
            step=0,
            fresh=1,
        )
        for name, (targets, sources, _) in self._kinds.items():
            values = np.ascontiguousarray(weights[:, targets, sources], self.dtype)
            self.table.put(**{"weights" if name == "long" else f"{name}_weights": values})

    def empty(self, rows: int) -> np.ndarray:
        return np.zeros((rows, self.padded), self.dtype)

    def _columns(self, columns: list[list[Any]]) -> Float[np.ndarray, "quantity region lane"]:
        """One row per quantity, of one value or one per region for every lane."""
        stacked = np.zeros((len(columns), self.regions, self.lanes))
        for k, lanes in enumerate(columns):
            for lane, value in enumerate(lanes):
                stacked[k, :, lane] = np.asarray(value, dtype=float)
        return stacked

    def flat(self, values: Float[np.ndarray, "row region lane"]) -> Float[np.ndarray, "row place"]:
        """One row per quantity, regions and lanes flattened, lanes last."""
        flat = values.reshape(len(values), self.regions * self.lanes)
        # Padding repeats a real place: whatever the equations, no place that nobody asked for runs into trouble.
        return np.ascontiguousarray(np.pad(flat, ((0, 0), (0, self.padded - flat.shape[1])), mode="edge"), self.dtype)

    def unpadded(self, rows: Float[np.ndarray, "*rows place"]) -> Float[np.ndarray, "*rows region lane"]:
        """What `flat` made flat."""
        return rows[..., : self.regions * self.lanes].reshape(*rows.shape[:-1], self.regions, self.lanes)

    def know_courses(self, steps: int) -> None:
        """Work out the stimuli of that many steps from the first on now, so that `advance` needs no JAX."""
        if self._currents is not None:
            self._courses = self._course(0, steps)

    def _course(self, first: int, steps: int) -> np.ndarray:
        if self._courses is not None:
            return self._courses[first : first + steps]
        when = np.arange(first, first + steps, dtype=np.int32)
        return np.ascontiguousarray(_all_courses(self._currents, when), self.dtype)

    def advance(
        self, chunks: int, capacity: int, steps: int | None = None
    ) -> tuple[Float[np.ndarray, "chunk region lane"], Float[np.ndarray, "chunk variable region lane"]]:
        """The next ``chunks`` chunks, in arrays of ``capacity``: mean activity of each and the state at its end.

        ``steps`` is another length of a chunk than usual.
        """
        chunk_steps = self._chunk_steps if steps is None else steps
        means = np.zeros((capacity, self.padded), self.dtype)
        ends = np.zeros((capacity, len(self._first.mass.variables), self.padded), self.dtype)
        table, start = self.table, self.table["step"]
        table.put(chunks=chunks, chunk_steps=chunk_steps, means=means, ends=ends)
        if self._currents is not None:
            table.put(courses=self._course(start, chunks * chunk_steps))
        self._run(table.address)
        table.put(step=start + chunks * chunk_steps, fresh=0)
        return self.unpadded(means), self.unpadded(ends)

    @property
    def state(self) -> tuple[np.ndarray, ...]:
        return tuple(self.unpadded(self.table["state"]).copy())

    def snapshot(self) -> dict[str, Any]:
        """Everything that changes, to `restore` this moment from."""
        changing = ("state", "history", "delayed", "signals", "noise")
        return {name: self.table[name].copy() for name in changing} | {n: self.table[n] for n in ("step", "fresh")}

    def restore(self, saved: dict[str, Any]) -> None:
        self.table.put(**saved)


def tract_arrays(kinds: dict[str, Tracts], regions: int, width: int, direction: int = 1) -> dict[str, np.ndarray]:
    """Tracts as the kernels read them; ``width`` is the length of a region's row of the past.

    ``direction`` −1 has delays reach into the future.
    """
    arrays = {
        "rows": kinds["long"].rows(regions),
        "sources": (kinds["long"].sources * width).astype(np.int32),
        "delays": (direction * kinds["long"].delays).astype(np.int32),
    }
    for kind in ("short", "zero"):
        targets, sources, delays = (ends.astype(np.int32) for ends in kinds[kind])
        arrays |= {f"{kind}_targets": targets, f"{kind}_sources": sources}
        if kind == "short":
            arrays["short_delays"] = np.int32(direction) * delays
    return arrays


def spread(columns: int, dtype: Any) -> int:
    """At least that many columns, so that rows do not all begin in the same lines of the cache."""
    line = 64 // np.dtype(dtype).itemsize
    return int((-(-(columns + BLOCK) // line) | 1) * line - BLOCK)


@jax.jit
def _all_courses(currents: Any, steps: Any) -> Any:
    return currents.course(steps)
