"""Runs in machine code with their derivatives: forwards with a mark at the start of every segment, then back from them.

The way back runs each segment again from its mark, now with a record of its steps, and takes the record in reverse
order (`_adjoint`). With segments of about the square root of their number marks and record stay small.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from vbt.simulation._adjoint import AdjointKernel
from vbt.simulation._emission import BLOCK, LEAD, Table
from vbt.simulation._forward import Forward, tract_arrays
from vbt.simulation._native import compiled
from vbt.simulation._network import Network


class Numbers(NamedTuple):
    """What runs depend on continuously, or the cotangents of that; lanes last."""

    parameters: Float[np.ndarray, "leaf region lane"]
    weights: Float[np.ndarray, "channel region region lane"]
    sigma: Float[np.ndarray, "noisy region lane"]
    initial: Float[np.ndarray, "variable region lane"]


class Reversible:
    """Some runs with the same delays, one in each lane.

    Parameters
    ----------
    networks, seeds, dt_ms, chunk_steps, dtype, among : as of `Forward`
    segments : their lengths in chunks
    """

    def __init__(
        self,
        networks: Sequence[Network],
        seeds: Sequence[int],
        dt_ms: float,
        chunk_steps: int,
        dtype: Any,
        *,
        among: Sequence[Network],
        segments: Sequence[int],
    ) -> None:
        self._count, self._chunk_steps = len(networks), chunk_steps
        self._bounds = list(itertools.pairwise(np.cumsum([0, *segments]).tolist()))
        self._forward = Forward(networks, seeds, dt_ms, chunk_steps, dtype, among=among)
        longest = max(segments) * chunk_steps
        self._again = Forward(networks, seeds, dt_ms, chunk_steps, dtype, among=among, recorded=longest)
        for runs in (self._forward, self._again):
            runs.know_courses(sum(segments) * chunk_steps)
        self._back = _Backward(self._again)
        # Two threads may call the same compiled function.
        self._lock = threading.Lock()

    @property
    def mark_size(self) -> int:
        """Numbers of a mark: the state, what arrives and leaves at that moment, and the past."""
        runs = self._forward
        variables, channels = len(runs.table["state"]), len(runs.table["signals"])
        past = channels * runs.regions * runs.table["ring"] * runs.lanes
        return int((variables + 2 * channels) * runs.padded + past)

    def run(self, numbers: Numbers) -> tuple[np.ndarray, np.ndarray]:
        """Mean activity of every chunk and the state at its end."""
        with self._lock:
            self._forward.pose(*self._filled(numbers))
            chunks = self._bounds[-1][1]
            means, ends = self._forward.advance(chunks, chunks)
            return means[..., : self._count], ends[..., : self._count]

    def run_with_marks(self, numbers: Numbers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same, and a row of numbers for the start of every segment."""
        with self._lock:
            self._forward.pose(*self._filled(numbers))
            marks = np.zeros((len(self._bounds), self.mark_size), self._forward.dtype)
            parts = []
            for row, (start, stop) in zip(marks, self._bounds, strict=True):
                _mark(self._forward, row)
                parts.append(self._forward.advance(stop - start, stop - start))
            means, ends = (np.concatenate(kind)[..., : self._count] for kind in zip(*parts, strict=True))
            return means, ends, marks

    def pull(
        self, numbers: Numbers, marks: np.ndarray, means: np.ndarray, ends: np.ndarray, *, by_weights: bool
    ) -> tuple[Numbers, Float[np.ndarray, "channel region lane"]]:
        """Cotangents of the numbers, from those of mean activities and states; apart, that of what is sent at first.

        ``by_weights`` False leaves out what the weights do along tracts.
        """
        with self._lock:
            self._again.pose(*self._filled(numbers))
            means = self._filled_rows(means / self._chunk_steps)
            ends = self._filled_rows(ends)
            back = self._back
            back.begin(by_weights)
            for row, (start, stop) in reversed(list(zip(marks, self._bounds, strict=True))):
                column = _restore(self._again, row, start * self._chunk_steps)
                self._again.advance(stop - start, stop - start)
                back.segment(column, means[start:stop], ends[start:stop])
            found, sent = back.finish()
            return Numbers(*(part[..., : self._count] for part in found)), sent[..., : self._count]

    def _filled(self, numbers: Numbers) -> Numbers:
        """Lanes left over repeat the last."""
        missing = self._forward.lanes - self._count
        wide = [np.asarray(part, dtype=float) for part in numbers]
        return Numbers(*(np.concatenate([part, *[part[..., -1:]] * missing], axis=-1) for part in wide))

    def _filled_rows(self, values: np.ndarray) -> np.ndarray:
        """In the kernel's rows; nothing comes back from what is padded."""
        runs = self._forward
        rows = np.zeros((*values.shape[:-2], runs.padded), runs.dtype)
        runs.unpadded(rows)[..., : self._count] = values
        return rows


def _mark(runs: Forward, row: np.ndarray) -> None:
    """What `_restore` needs to begin here."""
    table, lanes = runs.table, runs.lanes
    ring, oldest = table["ring"] * lanes, (table["step"] + 1) % table["ring"] * lanes
    past = table["history"]
    start = 0
    for values in (table["state"], table["delayed"][:: BLOCK + 1], table["signals"]):
        row[start : start + values.size] = values.ravel()
        start += values.size
    kept = row[start:].reshape(*past.shape[:2], ring)
    kept[..., : ring - oldest], kept[..., ring - oldest :] = past[..., oldest:ring], past[..., :oldest]


def _restore(runs: Forward, row: np.ndarray, step: int) -> int:
    """The moment of a mark; the column of that moment, from where the record goes on."""
    table = runs.table
    start = 0
    for values in (table["state"], table["delayed"][:: BLOCK + 1], table["signals"]):
        values[:] = row[start : start + values.size].reshape(values.shape)
        start += values.size
    past = row[start:].reshape(*table["history"].shape[:2], -1)
    table["history"][..., LEAD * runs.lanes : LEAD * runs.lanes + past.shape[-1]] = past
    column: int = LEAD - 1 + past.shape[-1] // runs.lanes
    # At the first moment input, signals and the past are made of the state.
    table.put(step=step, fresh=int(step == 0), shift=(column - step) % table["ring"])
    return column


class _Backward:
    """The arrays of the adjoint kernel, for records of ``runs``."""

    def __init__(self, runs: Forward) -> None:
        self._runs = runs
        self._run = compiled(AdjointKernel, runs.shape)
        mass, lanes, regions = runs.shape.mass, runs.lanes, runs.regions
        variables, channels, noisy = len(mass.variables), len(mass.channels), len(runs.shape.noisy)
        turned = runs.tracts.turned()
        block = AdjointKernel.block_of(runs.shape)
        self._kinds = turned.kinds(block)
        delayed = self._delayed = turned.those(turned.delays > 0)
        self._longest = int(turned.delays.max(initial=0))
        history = np.zeros_like(runs.table["history"])
        self._sums = {
            "parameter_sums": runs.empty(runs.shape.structure.num_leaves),
            "strength_sums": runs.empty(channels),
            "sigma_sums": runs.empty(noisy),
            "tract_sums": np.zeros((channels, len(delayed.targets), runs.shape.width), runs.dtype),
            "zero_sums": np.zeros((channels, len(self._kinds["zero"].targets), lanes), runs.dtype),
        }
        table = self._table = Table(AdjointKernel)
        table.put(**{name: runs.table[name] for name in ("regions", "padded", "ring", "record", "time_steps")})
        table.put(**{name: runs.empty(variables) for name in ("state", "predicted", "slopes")})
        rows = ("afferents", "signals", "pending", "arrived", "sent", "predicted_sent")
        table.put(**{name: runs.empty(channels) for name in rows})
        table.put(
            shift=0,
            history=history,
            past=runs.table["history"],
            delayed=runs.empty(channels * (block + 1)),
            # Backwards in time a delay is negative.
            **tract_arrays(self._kinds, regions, history.shape[-1], -1),
            **{name: len(tracts.targets) for name, tracts in self._kinds.items()},
            tracts=len(delayed.targets),
            tract_rows=delayed.rows(regions),
            tract_targets=(delayed.sources * history.shape[-1]).astype(np.int32),
            tract_delays=delayed.delays.astype(np.int32),
            **self._sums,
        )

    def begin(self, by_weights: bool) -> None:
        """At the end of the runs, on which nothing depends as yet."""
        for name in ("state", "pending", "history"):
            self._table[name][:] = 0.0
        # In double precision over segments, in the runs' own within.
        self._totals = {name: np.zeros(values.shape) for name, values in self._sums.items()}
        self._weights = self._tract_weights()
        self._table.put(by_weights=int(by_weights))
        self._table.put(**{name: self._runs.table[name] for name in ("parameters", "in_strengths", "sigma")})
        for name, tracts in self._kinds.items():
            ordered = np.ascontiguousarray(self._weights[:, tracts.sources, tracts.targets])
            self._table.put(**{"weights" if name == "long" else f"{name}_weights": ordered})

    def _tract_weights(self) -> Float[np.ndarray, "channel region region lane"]:
        runs = self._runs
        channels = len(runs.table["signals"])
        weights = np.zeros((channels, runs.regions, runs.regions, runs.lanes), runs.dtype)
        for name, tracts in runs.tracts.kinds().items():
            weights[:, tracts.targets, tracts.sources] = runs.table["weights" if name == "long" else f"{name}_weights"]
        return weights

    def segment(self, start: int, means: np.ndarray, ends: np.ndarray) -> None:
        """Back over the chunks that the runs have just recorded, from the column ``start`` of the past on."""
        chunks, chunk_steps = len(means), self._runs.table["chunk_steps"]
        history, lanes = self._table["history"], self._runs.lanes
        # What came back of the moments after these moves behind them.
        kept = self._longest * lanes
        before, behind = LEAD * lanes, (LEAD + chunks * chunk_steps) * lanes
        history[..., behind : behind + kept] = history[..., before : before + kept].copy()
        for values in self._sums.values():
            values[:] = 0.0
        self._table.put(chunks=chunks, chunk_steps=chunk_steps, start=start, means=means, ends=ends)
        self._run(self._table.address)
        for name, values in self._sums.items():
            self._totals[name] += values

    def finish(self) -> tuple[Numbers, Float[np.ndarray, "channel region lane"]]:
        """All cotangents, of the numbers and of the signals of the initial state, which are the past as well."""
        runs, lanes, totals = self._runs, self._runs.lanes, self._totals
        arrived = self._first_arrivals()
        until = np.cumsum(arrived, axis=2)  # a past moment is heard until a delay after the start
        tracts = runs.tracts
        heard = self._weights[:, tracts.targets, tracts.sources] * until[:, tracts.targets, tracts.delays]
        sent = np.zeros((len(heard), runs.regions, lanes))
        for signal, one in zip(sent, heard, strict=True):
            np.add.at(signal, tracts.sources, one)
        by_weights = np.repeat(runs.unpadded(totals["strength_sums"])[:, :, None], runs.regions, axis=2)
        delayed, zero = self._delayed, self._kinds["zero"]
        initial = runs.table["history"][:, :, :lanes]
        along = totals["tract_sums"].reshape(*totals["tract_sums"].shape[:2], runs.shape.width // lanes, lanes)
        at_first = arrived[:, delayed.sources, 0] * initial[:, delayed.targets]
        by_weights[:, delayed.sources, delayed.targets] += along.sum(axis=2) + at_first
        by_weights[:, zero.sources, zero.targets] += totals["zero_sums"]
        found = Numbers(
            parameters=runs.unpadded(totals["parameter_sums"]),
            weights=by_weights,
            sigma=runs.unpadded(totals["sigma_sums"]) * runs.model_step**0.5,
            initial=runs.unpadded(self._table["state"]),
        )
        return found, sent

    def _first_arrivals(self) -> Float[np.ndarray, "channel region moment lane"]:
        """Cotangents of the input at the moments from the first on, as many as the longest delay reaches."""
        runs, history = self._runs, self._table["history"]
        history = history.reshape(*history.shape[:2], -1, runs.lanes)
        pending = runs.unpadded(self._table["pending"])
        return np.concatenate([pending[:, :, None], history[:, :, LEAD : LEAD + self._longest]], axis=2, dtype=float)
