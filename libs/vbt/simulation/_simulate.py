"""The one entry point: networks and seeds in, sampled activity and BOLD out, always through the same batch shape."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vbt.errors import Unsound
from vbt.simulation._kernel import BLOCK, Edges, Moment, Problem, Pulses, Schedule, advance, begin
from vbt.simulation._manifest import ReplayManifest, record
from vbt.simulation._network import Network, Stimulus, delay_steps

LANES = 8
_CHUNK_LIMIT = 80  # steps of noise held at a time
_NEVER = np.iinfo(np.int32).max


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What the monitors saw.

    Parameters
    ----------
    time : s, end of each sampling period, counted from the end of the transient
    activity : mean over each sampling period of the neural mass's observable
    bold : BOLD change in percent at the end of each sampling period
    final_state : state at the end, one row per variable
    manifest : how to run it again

    Regions that were removed are NaN throughout.
    """

    time: Float[np.ndarray, " time"]
    activity: Float[np.ndarray, "run time region"]
    bold: Float[np.ndarray, "run time region"]
    final_state: Float[np.ndarray, "run variable region"]
    manifest: ReplayManifest


def simulate(
    networks: Sequence[Network],
    seeds: Sequence[int],
    *,
    duration: float,
    sampling_period: float,
    dt: float = 0.5,
    transient: float = 0.0,
    precision: Literal["single", "double"] = "single",
    progress: Callable[[float], None] | None = None,
) -> Simulation:
    """Run each network once with its seed.

    The networks of one call share the neural mass, tract lengths and velocity; weights, parameters, noise, stimulus and
    initial state are free. Runs go through one compiled kernel in batches of `LANES`, so a run gives the same bits
    alone and in company, and memory does not grow with time beyond the samples kept.

    Parameters
    ----------
    duration, transient : s kept, and s run and dropped before that
    sampling_period : s; a whole number of blocks of 8 time steps
    dt : time step, ms
    progress : called with the fraction done

    Raises
    ------
    Unsound
        ``simulation-diverged`` with the first time and the region's index where activity or blood flow was not finite.
    """
    if not networks or len(networks) != len(seeds):
        raise ValueError(f"one seed per network, at least one network; got {len(networks)} and {len(seeds)}")
    _check_shared(networks)
    schedule = _schedule(networks, sampling_period, dt)
    dropped, kept = round(transient / sampling_period), round(duration / sampling_period)
    if kept < 1:
        raise ValueError(f"duration must hold at least one sampling period, got {duration} s")
    count = -(-len(networks) // LANES)
    meter = _Meter(progress, count * (dropped + kept))

    def run(index: int) -> _Batch:
        chosen = slice(index * LANES, (index + 1) * LANES)
        # The switch is thread-local, so nobody else's precision changes.
        with jax.enable_x64(precision == "double"):
            return _run_batch(networks[chosen], seeds[chosen], schedule, dt, dropped, kept, meter)

    with ThreadPoolExecutor(max_workers=min(count, len(os.sched_getaffinity(0)))) as pool:
        batches = list(pool.map(run, range(count)))
    outputs = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("activity", "bold", "final_state")
    }
    return Simulation(
        time=sampling_period * np.arange(1, kept + 1),
        **outputs,
        manifest=record(
            "vbt.simulation.simulate",
            inputs=_inputs(networks),
            outputs=outputs,
            parameters={
                "mass": type(networks[0].mass).__name__,
                "velocity": networks[0].velocity,
                "duration": duration,
                "sampling_period": sampling_period,
                "transient": transient,
            },
            seeds=tuple(int(seed) for seed in seeds),
            dt=dt,
            precision=precision,
            batch_shape=(networks[0].regions, LANES),
        ),
    )


@dataclass(frozen=True)
class _Batch:
    activity: np.ndarray
    bold: np.ndarray
    final_state: np.ndarray


class _Meter:
    """Counts sampling periods over all threads."""

    def __init__(self, progress: Callable[[float], None] | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        self._lock = threading.Lock()

    def tick(self) -> None:
        with self._lock:
            self._done += 1
            if self._progress is not None:
                self._progress(self._done / self._total)


def _check_shared(networks: Sequence[Network]) -> None:
    first = networks[0]
    for other in networks[1:]:
        if (
            type(other.mass) is not type(first.mass)
            or other.mass.milliseconds_per_unit != first.mass.milliseconds_per_unit
            or other.velocity != first.velocity
            or other.instantaneous_below_step != first.instantaneous_below_step
            or not np.array_equal(other.tract_lengths, first.tract_lengths)
        ):
            raise ValueError("the networks of one call share neural mass, tract lengths and velocity")


def _schedule(networks: Sequence[Network], sampling_period: float, dt: float) -> Schedule:
    """Loop counts: the longest chunk of whole blocks within the limit that divides the sampling period."""
    steps = 1000.0 * sampling_period / dt
    blocks = round(steps / BLOCK)
    if blocks < 1 or not math.isclose(blocks * BLOCK, steps, rel_tol=1e-9):
        raise ValueError(f"sampling period must be a whole number of blocks of {BLOCK} steps, got {steps:.6g} steps")
    per_chunk = max(size for size in range(1, _CHUNK_LIMIT // BLOCK + 1) if blocks % size == 0)
    noisy = {i for network in networks for i, sigma in enumerate(network.sigma) if np.any(np.asarray(sigma))}
    return Schedule(
        dt=dt / networks[0].mass.milliseconds_per_unit,
        chunk_seconds=per_chunk * BLOCK * dt / 1000.0,
        blocks=per_chunk,
        chunks=blocks // per_chunk,
        noisy=tuple(sorted(noisy)),
    )


def _run_batch(
    networks: Sequence[Network],
    seeds: Sequence[int],
    schedule: Schedule,
    dt: float,
    dropped: int,
    kept: int,
    meter: _Meter,
) -> _Batch:
    padded = [*networks, *[networks[-1]] * (LANES - len(networks))]
    keys = jnp.stack(
        [jax.random.key(int(s), impl="threefry2x32") for s in [*seeds, *[seeds[-1]] * (LANES - len(seeds))]]
    )
    problem, moment = _assemble(padded, keys, schedule, dt)
    samples = []
    for index in range(dropped + kept):
        moment, sample = advance(problem, moment, schedule)
        if index >= dropped:
            samples.append(tuple(np.asarray(part) for part in sample))
        _stop_if_broken(padded, np.asarray(moment.broken_at), dt)
        meter.tick()
    runs = len(networks)
    activity = np.stack([a for a, _ in samples]).transpose(2, 0, 1)[:runs]
    bold = 100.0 * np.stack([b for _, b in samples]).transpose(2, 0, 1)[:runs]
    final = np.stack([np.asarray(x) for x in moment.state]).transpose(2, 0, 1)[:runs]
    for run, network in enumerate(networks):
        if network.active is not None:
            for values in (activity, bold, final):
                values[run][:, ~network.active] = np.nan
    return _Batch(activity, bold, final)


def _stop_if_broken(networks: Sequence[Network], broken_at: np.ndarray, dt: float) -> None:
    active = np.stack([np.ones(n.regions, dtype=bool) if n.active is None else n.active for n in networks], axis=-1)
    steps = np.where((broken_at >= 0) & active, broken_at, _NEVER)
    if (steps == _NEVER).all():
        return
    region, run = np.unravel_index(int(np.argmin(steps)), steps.shape)
    raise Unsound(
        "simulation-diverged",
        rule="simulated activity and blood flow stay finite",
        got=f"a region (index {region}) that left it within {steps[region, run] * dt / 1000.0:.3f} s",
        action="do not report this simulation; check the parameters or take a smaller time step",
    )


def _assemble(networks: Sequence[Network], keys: jax.Array, schedule: Schedule, dt: float) -> tuple[Problem, Moment]:
    regions = networks[0].regions

    def column(value: Any) -> np.ndarray:
        return np.broadcast_to(np.asarray(value, dtype=float), (regions,))

    def lanes(columns: list[np.ndarray]) -> jax.Array:
        return jnp.asarray(np.stack(columns, axis=-1), dtype=float)

    def stacked(parts: list[Any]) -> Any:
        return jax.tree.map(lambda *leaves: lanes([column(leaf) for leaf in leaves]), *parts)

    mass = stacked([network.mass for network in networks])
    balloon = stacked([network.balloon for network in networks])
    weights = np.stack([network.coupling * network.weights for network in networks], axis=-1)
    long_edges, short_edges, longest = _edges(weights, delay_steps(_union(networks), dt))
    sigma = np.zeros((len(schedule.noisy), regions, LANES))
    for lane, network in enumerate(networks):
        for position, variable in enumerate(schedule.noisy):
            sigma[position, :, lane] = network.sigma[variable] if network.sigma else 0.0
    state = tuple(
        lanes([column(n.mass.initial_state()[i] if n.initial is None else n.initial[i]) for n in networks])
        for i in range(len(mass.variables))
    )
    problem = Problem(
        mass=mass,
        balloon=balloon,
        long_edges=long_edges,
        short_edges=short_edges,
        in_strength=jnp.asarray(weights.sum(axis=1), dtype=float),
        sigma=jnp.asarray(sigma, dtype=float),
        pulses=_pulses(networks, dt),
        keys=keys,
    )
    # One more than the longest delay must be remembered; a whole number of blocks keeps writes aligned.
    ring = -(-(longest + 1) // BLOCK) * BLOCK
    return problem, begin(mass, balloon, state, ring)


def _union(networks: Sequence[Network]) -> Network:
    """A network with every edge that any of the networks has, to decide delays by."""
    present = np.any([network.weights != 0 for network in networks], axis=0)
    return dataclasses.replace(networks[0], weights=present.astype(float))


def _edges(weights: np.ndarray, delays: np.ndarray) -> tuple[Edges, Edges, int]:
    present = (weights != 0).any(axis=-1)
    longest = int(delays[present].max(initial=0))
    is_long = delays >= BLOCK
    return _padded(weights, delays, present & is_long), _padded(weights, delays, present & ~is_long), longest


def _padded(weights: np.ndarray, delays: np.ndarray, chosen: np.ndarray) -> Edges:
    """In-edges of every region in the order of their sources, padded to the largest in-degree."""
    regions, lanes = chosen.shape[0], weights.shape[-1]
    degree = int(chosen.sum(axis=1).max(initial=0))
    source = np.zeros((degree, regions), np.int32)
    delay = np.full((degree, regions), int(delays[chosen].min(initial=_NEVER)) if degree else 0, np.int32)
    weight = np.zeros((degree, regions, lanes))
    for target in range(regions):
        sources = np.flatnonzero(chosen[target])
        source[: sources.size, target] = sources
        delay[: sources.size, target] = delays[target, sources]
        weight[: sources.size, target] = weights[target, sources]
    return Edges(jnp.asarray(source), jnp.asarray(delay), jnp.asarray(weight, dtype=float))


def _pulses(networks: Sequence[Network], dt: float) -> Pulses:
    silent = Stimulus(amplitude=np.zeros(networks[0].regions))
    stimuli = [network.stimulus or silent for network in networks]

    def steps(milliseconds: float) -> int:
        return _NEVER if milliseconds / dt > _NEVER else math.floor(milliseconds / dt + 0.5)

    def row(values: list[int]) -> jax.Array:
        return jnp.asarray(np.array(values, np.int32))

    return Pulses(
        amplitude=jnp.asarray(np.stack([s.amplitude for s in stimuli], axis=-1), dtype=float),
        onset=row([steps(1000.0 * s.onset) for s in stimuli]),
        offset=row([steps(1000.0 * s.offset) for s in stimuli]),
        period=row([_NEVER if s.period is None else max(1, steps(s.period)) for s in stimuli]),
        width=row([_NEVER if s.width is None else max(1, steps(s.width)) for s in stimuli]),
    )


def _inputs(networks: Sequence[Network]) -> dict[str, np.ndarray]:
    regions = networks[0].regions
    leaves = [jax.tree.leaves((n.mass, n.balloon)) for n in networks]
    ones = np.ones(regions)
    return {
        "weights": np.stack([n.coupling * n.weights for n in networks]),
        "tract_lengths": networks[0].tract_lengths,
        "parameters": np.stack([[np.asarray(leaf, dtype=float) * ones for leaf in row] for row in leaves]),
        "sigma": np.stack([[np.asarray(s, dtype=float) * ones for s in n.sigma or (0.0,)] for n in networks]),
        "stimulus": np.stack([np.zeros(regions) if n.stimulus is None else n.stimulus.amplitude for n in networks]),
        "stimulus_times": np.array([_times(n.stimulus) for n in networks]),
        "initial": np.stack([[np.asarray(x, dtype=float) * ones for x in _start(n)] for n in networks]),
    }


def _times(stimulus: Stimulus | None) -> tuple[float, ...]:
    if stimulus is None:
        return 0.0, 0.0, 0.0, 0.0
    return stimulus.onset, stimulus.offset, stimulus.period or 0.0, stimulus.width or 0.0


def _start(network: Network) -> tuple[Any, ...]:
    return network.mass.initial_state() if network.initial is None else tuple(network.initial)
