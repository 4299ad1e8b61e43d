"""The one entry point: networks and seeds in, what the monitors saw out, always through the same batch shape."""

from __future__ import annotations

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
from vbt.simulation._kernel import Edges, Moment, Problem, Schedule, advance, begin, restart_monitors
from vbt.simulation._manifest import ReplayManifest, record
from vbt.simulation._monitors import Monitor, lanes_last
from vbt.simulation._network import Network, delay_steps
from vbt.simulation._stimulus import in_lanes

LANES = 8
_CHUNK_LIMIT = 80  # steps of noise held at a time
_BLOCK_LIMIT = 16  # steps whose long-range input is gathered at once
_SLOTS_LIMIT = 1000  # samples of one monitor that a compiled stretch holds
_NEVER = np.iinfo(np.int32).max


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one monitor saw.

    Parameters
    ----------
    time : s, end of each sampling period, counted from the end of the transient
    values : one row per run; regions that were removed are NaN where the channels are regions
    labels : of the channels
    """

    time: Float[np.ndarray, " time"]
    values: Float[np.ndarray, "run time channel"]
    labels: tuple[str, ...]
    unit: str


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What came of some runs.

    Parameters
    ----------
    observations : one per monitor, in their order
    final_state : state at the end, one row per variable; NaN in regions that were removed
    manifest : how to run it again
    """

    observations: tuple[Observation, ...]
    final_state: Float[np.ndarray, "run variable region"]
    manifest: ReplayManifest


def simulate(
    networks: Sequence[Network],
    seeds: Sequence[int],
    *,
    duration: float,
    monitors: Sequence[Monitor],
    dt: float,
    transient: float = 0.0,
    precision: Literal["single", "double"] = "single",
    progress: Callable[[float], None] | None = None,
) -> Simulation:
    """Run each network once with its seed.

    The networks of one call share the type of neural mass and the number of regions; everything else is free. Runs go
    through one compiled kernel in batches of `LANES`, so a run gives the same bits alone and in company, and memory
    does not grow with time beyond the samples kept.

    Parameters
    ----------
    duration, transient : s observed, and s run unobserved before that
    monitors : what to observe; each samples at the end of each of its periods
    dt : time step, ms
    progress : called with the fraction done

    Raises
    ------
    ValueError
        naming the argument, its value and the rule it breaks, before anything runs.
    Unsound
        ``simulation-diverged`` with the first time and the region's index where a state was not finite.
    """
    if not networks or len(networks) != len(seeds):
        raise ValueError(f"one seed per network, at least one network; got {len(networks)} and {len(seeds)}")
    _check_shared(networks, dt)
    timing = _timing(networks, monitors, duration, transient, dt)
    batches = [group[start : start + LANES] for group in _alike(networks, dt) for start in range(0, len(group), LANES)]
    meter = _Meter(progress, len(batches) * (timing.dropped + timing.kept))

    def run(members: list[int]) -> _Batch:
        # The switch is thread-local, so nobody else's precision changes.
        with jax.enable_x64(precision == "double"):
            return _run_batch([networks[i] for i in members], [seeds[i] for i in members], monitors, timing, meter)

    with ThreadPoolExecutor(max_workers=min(len(batches), len(os.sched_getaffinity(0)))) as pool:
        finished = list(pool.map(run, batches))
    back = np.argsort(np.concatenate([np.asarray(members) for members in batches]))
    final = np.concatenate([batch.final_state for batch in finished])[back]
    observations = []
    for m, monitor in enumerate(monitors):
        values = np.concatenate([batch.samples[m] for batch in finished])[back]
        time = monitor.period * np.arange(1, values.shape[1] + 1)
        labels = _bound_labels(monitor, networks)
        observations.append(Observation(time=time, values=values, labels=labels, unit=monitor.unit))
    outputs = {f"observation {m}": o.values for m, o in enumerate(observations)} | {"final_state": final}
    return Simulation(
        observations=tuple(observations),
        final_state=final,
        manifest=record(
            "vbt.simulation.simulate",
            inputs=_inputs(networks, monitors),
            outputs=outputs,
            parameters={
                "mass": type(networks[0].mass).__name__,
                "duration": duration,
                "monitors": [type(monitor).__name__ for monitor in monitors],
                "periods": [monitor.period for monitor in monitors],
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
    samples: list[np.ndarray]  # per monitor (run, time, channel)
    final_state: np.ndarray


@dataclass(frozen=True)
class _Timing:
    """Counts of spans: dropped before observing, kept, and at most run in one compiled stretch."""

    schedule: Schedule
    dropped: int
    kept: int
    stretch: int


class _Meter:
    """Counts spans over all threads."""

    def __init__(self, progress: Callable[[float], None] | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        self._lock = threading.Lock()

    def tick(self, spans: int) -> None:
        with self._lock:
            self._done += spans
            if self._progress is not None:
                self._progress(self._done / self._total)


def _check_shared(networks: Sequence[Network], dt: float) -> None:
    first = networks[0]
    for other in networks[1:]:
        if (
            type(other.mass) is not type(first.mass)
            or other.mass.milliseconds_per_unit != first.mass.milliseconds_per_unit
            or other.regions != first.regions
            or other.labels != first.labels
        ):
            raise ValueError("the networks of one call share the type of neural mass and the regions")
    units = dt / first.mass.milliseconds_per_unit
    if not 0.0 < units <= first.mass.largest_dt * (1.0 + 1e-9):
        largest = first.mass.largest_dt * first.mass.milliseconds_per_unit
        raise ValueError(f"dt must lie in (0, {largest:g}] ms for {type(first.mass).__name__}, got {dt:g} ms")


def _steps(seconds: float, dt: float, name: str) -> int:
    steps = 1000.0 * seconds / dt
    if not math.isclose(round(steps), steps, rel_tol=1e-9, abs_tol=1e-6):
        raise ValueError(f"{name} must be a whole number of time steps of {dt:g} ms, got {seconds:g} s")
    return round(steps)


def _timing(
    networks: Sequence[Network], monitors: Sequence[Monitor], duration: float, transient: float, dt: float
) -> _Timing:
    periods = [_steps(monitor.period, dt, f"{type(monitor).__name__}.period") for monitor in monitors]
    if not periods or min(periods) < 1:
        raise ValueError(f"at least one monitor, each with a period of at least one time step; got {periods} steps")
    total = max(period * math.floor(_steps_of(duration, dt) / period + 1e-9) for period in periods)
    if total < 1:
        raise ValueError(f"duration must hold at least one sampling period, got {duration:g} s")
    before = _steps(transient, dt, "transient")
    span = math.gcd(*periods, before)
    block = max(size for size in range(1, _BLOCK_LIMIT + 1) if span % size == 0)
    blocks = max(n for n in range(1, max(1, _CHUNK_LIMIT // block) + 1) if (span // block) % n == 0)
    every = tuple(period // span for period in periods)
    stretch = max(1, min(_SLOTS_LIMIT * min(every), math.ceil(1000.0 / (span * dt))))
    noisy = {i for network in networks for i, sigma in enumerate(network.sigma) if np.any(np.asarray(sigma))}
    schedule = Schedule(
        dt=dt / networks[0].mass.milliseconds_per_unit,
        step_ms=dt,
        block=block,
        blocks=blocks,
        chunks=span // (block * blocks),
        noisy=tuple(sorted(noisy)),
        every=every,
        slots=tuple(-(-stretch // e) for e in every),
    )
    return _Timing(schedule=schedule, dropped=before // span, kept=total // span, stretch=stretch)


def _steps_of(seconds: float, dt: float) -> float:
    return 1000.0 * seconds / dt


def _alike(networks: Sequence[Network], dt: float) -> list[list[int]]:
    """Indices of the runs, those with the same delays together, in the order of their first."""
    groups: dict[bytes, list[int]] = {}
    for index, network in enumerate(networks):
        groups.setdefault(delay_steps(network, dt).tobytes(), []).append(index)
    return list(groups.values())


def _bound_labels(monitor: Monitor, networks: Sequence[Network]) -> tuple[str, ...]:
    return tuple(monitor.bound(networks[:1]).labels(networks[0].labels))


def _run_batch(
    networks: Sequence[Network], seeds: Sequence[int], monitors: Sequence[Monitor], timing: _Timing, meter: _Meter
) -> _Batch:
    padded = [*networks, *[networks[-1]] * (LANES - len(networks))]
    keys = jnp.stack(
        [jax.random.key(int(s), impl="threefry2x32") for s in [*seeds, *[seeds[-1]] * (LANES - len(seeds))]]
    )
    schedule = timing.schedule
    problem, moment = _assemble(padded, keys, monitors, schedule)

    def run(moment: Moment, spans: int) -> tuple[Moment, tuple[Any, ...]]:
        moment, samples = advance(problem, moment, jnp.asarray(spans, jnp.int32), schedule)
        _stop_if_broken(padded, np.asarray(moment.broken_at), schedule)
        meter.tick(spans)
        return moment, samples

    for done in range(0, timing.dropped, timing.stretch):
        moment, _ = run(moment, min(timing.stretch, timing.dropped - done))
    moment = restart_monitors(problem, moment)
    collected: list[list[np.ndarray]] = [[] for _ in monitors]
    for done in range(0, timing.kept, timing.stretch):
        spans = min(timing.stretch, timing.kept - done)
        moment, samples = run(moment, spans)
        for m, every in enumerate(schedule.every):
            taken = (done + spans) // every - done // every
            collected[m].append(np.asarray(samples[m][:taken]))
    runs = len(networks)
    values = [np.concatenate(parts).transpose(2, 0, 1)[:runs] for parts in collected]
    final = np.stack([np.asarray(x) for x in moment.state]).transpose(2, 0, 1)[:runs]
    for run_index, network in enumerate(networks):
        if network.active is not None:
            for m, monitor in enumerate(monitors):
                if _bound_labels(monitor, networks) == network.labels:
                    values[m][run_index][:, ~network.active] = np.nan
            final[run_index][:, ~network.active] = np.nan
    return _Batch(values, final)


def _stop_if_broken(networks: Sequence[Network], broken_at: np.ndarray, schedule: Schedule) -> None:
    active = np.stack([np.ones(n.regions, dtype=bool) if n.active is None else n.active for n in networks], axis=-1)
    steps = np.where((broken_at >= 0) & active, broken_at, _NEVER)
    if (steps == _NEVER).all():
        return
    region, run = np.unravel_index(int(np.argmin(steps)), steps.shape)
    raise Unsound(
        "simulation-diverged",
        rule="simulated activity stays finite",
        got=f"a region (index {region}) that left it within {steps[region, run] * schedule.step_ms / 1000.0:.3f} s",
        action="do not report this simulation; check the parameters or take a smaller time step",
    )


def _assemble(
    networks: Sequence[Network], keys: jax.Array, monitors: Sequence[Monitor], schedule: Schedule
) -> tuple[Problem, Moment]:
    regions = networks[0].regions
    weights = np.stack([network.channel_weights for network in networks], axis=-1)
    long_edges, short_edges, longest = _edges(weights, delay_steps(networks[0], schedule.step_ms), schedule.block)
    sigma = np.zeros((len(schedule.noisy), regions, len(networks)))
    for lane, network in enumerate(networks):
        for position, variable in enumerate(schedule.noisy):
            sigma[position, :, lane] = network.sigma[variable] if network.sigma else 0.0
    state = lanes_last([_start(n) for n in networks], networks)
    problem = Problem(
        mass=lanes_last([network.mass for network in networks], networks),
        long_edges=long_edges,
        short_edges=short_edges,
        in_strengths=tuple(jnp.asarray(w.sum(axis=1), dtype=float) for w in weights),
        sigma=jnp.asarray(sigma, dtype=float),
        pulses=in_lanes([network.stimulus for network in networks], regions, schedule.step_ms),
        keys=keys,
        monitors=tuple(monitor.bound(networks) for monitor in monitors),
    )
    # One more than the longest delay must be remembered; a whole number of blocks keeps writes aligned.
    ring = -(-(longest + 1) // schedule.block) * schedule.block
    return problem, begin(problem, state, ring, schedule)


def _edges(weights: np.ndarray, delays: np.ndarray, block: int) -> tuple[Edges, Edges, int]:
    present = (weights != 0).any(axis=(0, -1))
    longest = int(delays[present].max(initial=0))
    is_long = delays >= block
    return _padded(weights, delays, present & is_long), _padded(weights, delays, present & ~is_long), longest


def _padded(weights: np.ndarray, delays: np.ndarray, chosen: np.ndarray) -> Edges:
    """In-edges of every region in the order of their sources, padded to the largest in-degree."""
    regions, lanes = chosen.shape[0], weights.shape[-1]
    degree = int(chosen.sum(axis=1).max(initial=0))
    source = np.zeros((degree, regions), np.int32)
    delay = np.full((degree, regions), int(delays[chosen].min(initial=_NEVER)) if degree else 0, np.int32)
    weight = np.zeros((len(weights), degree, regions, lanes))
    for target in range(regions):
        sources = np.flatnonzero(chosen[target])
        source[: sources.size, target] = sources
        delay[: sources.size, target] = delays[target, sources]
        weight[:, : sources.size, target] = weights[:, target, sources]
    return Edges(jnp.asarray(source), jnp.asarray(delay), tuple(jnp.asarray(w, dtype=float) for w in weight))


def _inputs(networks: Sequence[Network], monitors: Sequence[Monitor]) -> dict[str, np.ndarray]:
    ones = np.ones(networks[0].regions)
    leaves = [jax.tree.leaves((n.mass, n.balloon)) for n in networks]
    told = {
        "weights": np.stack([n.channel_weights for n in networks]),
        "delays": np.stack([n.delays for n in networks]),
        "parameters": np.stack([[np.asarray(leaf, dtype=float) * ones for leaf in row] for row in leaves]),
        "sigma": np.stack([[np.asarray(s, dtype=float) * ones for s in n.sigma or (0.0,)] for n in networks]),
        "initial": np.stack([[np.asarray(x, dtype=float) * ones for x in _start(n)] for n in networks]),
    }
    for run, network in enumerate(networks):
        if network.stimulus is not None:
            told[f"stimulus {run}"] = network.stimulus.numbers()
    for m, monitor in enumerate(monitors):
        told[f"monitor {m}"] = _bytes(jax.tree.leaves(monitor))
    return told


def _bytes(value: Any) -> np.ndarray:
    """Everything in a dataclass or a list of arrays, exactly, as numbers."""
    parts = [getattr(value, name) for name in vars(value)] if not isinstance(value, list) else value
    return np.concatenate(
        [np.zeros(0), *(np.ravel(np.asarray(np.nan if p is None else p, dtype=float)) for p in parts)]
    )


def _start(network: Network) -> tuple[Any, ...]:
    return network.mass.initial_state() if network.initial is None else tuple(network.initial)
