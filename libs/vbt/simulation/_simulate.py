"""The one entry point: networks and seeds in, what the monitors saw out."""

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
from vbt.simulation import _native
from vbt.simulation._equations import vector_width
from vbt.simulation._forward import Forward
from vbt.simulation._kernel import Integrator, Schedule
from vbt.simulation._lowering import CannotLower
from vbt.simulation._manifest import ReplayManifest, record
from vbt.simulation._monitors import Monitor
from vbt.simulation._network import Network, delay_steps
from vbt.simulation._noise import ROUNDS
from vbt.simulation._stepped import Stepped
from vbt.simulation._timing import Timing, timing_of
from vbt.simulation._watching import begin_watch, observe, restart

LANES = 8  # of the JAX kernel's compiled code
Engine = Literal["native", "xla"]
_BLOCK_LIMIT = 16  # steps whose long-range input is gathered at once


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


class SimulationCancelled(Exception):
    """The caller no longer wants the result."""


class Diverged(Unsound):
    """A run left the finite numbers.

    Parameters
    ----------
    run : its index in the call
    time : s from the start of the transient, the first moment found not finite
    region : label of the first region
    last_good : the run's state, one row per variable, at the last moment before it
    """

    def __init__(
        self, *, run: int, time: float, index: int, region: str, last_good: Float[np.ndarray, "variable region"]
    ) -> None:
        super().__init__(
            "simulation-diverged",
            rule="simulated activity stays finite",
            got=f"a region (index {index}) that left it within {time:.6g} s",
            action="do not report this simulation; check the parameters or take a smaller time step",
        )
        self.run, self.time, self.region, self.last_good = run, time, region, last_good


def simulate(
    networks: Sequence[Network],
    seeds: Sequence[int],
    *,
    duration: float,
    monitors: Sequence[Monitor],
    dt: float,
    transient: float = 0.0,
    integrator: Integrator = "heun",
    precision: Literal["single", "double"] = "single",
    engine: Engine | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Simulation:
    """Run each network once with its seed.

    The networks of one call share the type of neural mass and the regions; everything else is free. A run gives the
    same bits alone and in company, first or last, and memory does not grow with time beyond the samples kept.

    Parameters
    ----------
    seeds : one per network, whole numbers in [0, 2⁶³)
    duration, transient : s observed, and s run unobserved before that
    monitors : what to observe; each samples at the end of each of its periods
    dt : time step, ms
    integrator : ``"heun"`` is stochastic Heun; ``"rk4"`` the classical Runge-Kutta, for networks without noise, of
        fourth order where no tract has a delay and of second order along delays
    engine : ``"native"``, machine code for the CPU, or ``"xla"``, JAX on whatever device it has; where none is given
        the first wherever it can. Their numbers differ in the last digits
    progress : called with the fraction done
    cancelled : asked every second of simulated time or so

    Raises
    ------
    ValueError
        naming the argument, its value and the rule it breaks, before anything runs.
    Diverged
        (an `Unsound`) where a state was not finite.
    SimulationCancelled
        where ``cancelled`` says so.
    """
    timing = checked_timing(networks, seeds, monitors, duration, transient, dt, integrator)
    _check_machine(precision, engine, integrator)
    engine = engine or engine_of(networks, timing, integrator, precision)
    batches = side_by_side(networks, dt, engine, precision)
    session = _Session(
        networks, seeds, tuple(monitors), timing, integrator, precision, engine,
        _Meter(progress, cancelled, len(batches) * (timing.dropped + timing.kept)),
    )  # fmt: skip
    devices = jax.devices() if engine == "xla" else [None]
    workers = min(len(batches), max(len(os.sched_getaffinity(0)), len(devices)))
    with ThreadPoolExecutor(max_workers=workers) as pool:
        pending = [
            pool.submit(session.run, members, devices[index % len(devices)]) for index, members in enumerate(batches)
        ]
        finished = [future.result() for future in pending]
    back = np.argsort(np.concatenate([np.asarray(members) for members in batches]))
    final = np.concatenate([batch.final_state for batch in finished])[back]
    observations = []
    for m, monitor in enumerate(monitors):
        values = np.concatenate([batch.samples[m] for batch in finished])[back]
        time = monitor.period * np.arange(1, values.shape[1] + 1)
        unit = monitor.bound(networks[:1]).unit
        observations.append(Observation(time=time, values=values, labels=_bound_labels(monitor, networks), unit=unit))
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
                "mass_settings": _settings(networks[0].mass),
                "duration": duration,
                "monitors": [type(monitor).__name__ for monitor in monitors],
                "monitor_settings": [_settings(monitor) for monitor in monitors],
                "transient": transient,
                "integrator": integrator,
                "engine": engine,
            },
            seeds=tuple(int(seed) for seed in seeds),
            dt=dt,
            precision=precision,
            batch_shape=(networks[0].regions, _lanes(engine, precision)),
            prng=f"threefry2x32-{ROUNDS}, Box-Muller",
        ),
    )


def checked_timing(
    networks: Sequence[Network],
    seeds: Sequence[int],
    monitors: Sequence[Monitor],
    duration: float,
    transient: float,
    dt: float,
    integrator: str,
) -> Timing:
    """The counts of a simulation, its arguments found in order."""
    if not networks or len(networks) != len(seeds):
        raise ValueError(f"one seed per network, at least one network; got {len(networks)} and {len(seeds)}")
    for seed in seeds:
        if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
            raise ValueError(f"seeds must be whole numbers in [0, 2^63), got {seed}")
    _check(networks, dt, integrator)
    return timing_of(networks, monitors, duration, transient, dt)


def _lanes(engine: Engine, precision: str) -> int:
    return LANES if engine == "xla" else vector_width(_dtype(precision))


def _dtype(precision: str) -> Any:
    return np.float64 if precision == "double" else np.float32


@dataclass(frozen=True)
class _Batch:
    samples: list[np.ndarray]  # per monitor (run, time, channel)
    final_state: np.ndarray


class _Meter:
    """Counts chunks over all threads."""

    def __init__(
        self, progress: Callable[[float], None] | None, cancelled: Callable[[], bool] | None, total: int
    ) -> None:
        self._progress, self._cancelled, self._total, self._done = progress, cancelled, total, 0
        self._lock = threading.Lock()

    def tick(self, chunks: int) -> None:
        with self._lock:
            if self._cancelled is not None and self._cancelled():
                raise SimulationCancelled(f"cancelled after {self._done / self._total:.0%}")
            self._done += chunks
            if self._progress is not None:
                self._progress(self._done / self._total)


def _check(networks: Sequence[Network], dt: float, integrator: str) -> None:
    first, structure = networks[0], str(jax.tree.structure(networks[0].mass))
    for other in networks[1:]:
        if (
            str(jax.tree.structure(other.mass)) != structure
            or other.regions != first.regions
            or other.labels != first.labels
        ):
            raise ValueError("the networks of one call share the type of neural mass and the regions")
    units = dt / first.mass.milliseconds_per_unit
    if not 0.0 < units <= first.mass.largest_dt * (1.0 + 1e-9):
        largest = first.mass.largest_dt * first.mass.milliseconds_per_unit
        raise ValueError(f"dt must lie in (0, {largest:g}] ms for {type(first.mass).__name__}, got {dt:g} ms")
    if integrator not in ("heun", "rk4"):
        raise ValueError(f"integrator must be 'heun' or 'rk4', got {integrator!r}")
    if integrator == "rk4" and _noisy(networks):
        raise ValueError("integrator 'rk4' is for networks without noise; take 'heun'")


def _check_machine(precision: str, engine: str | None, integrator: str) -> None:
    if precision not in ("single", "double"):
        raise ValueError(f"precision must be 'single' or 'double', got {precision!r}")
    if engine not in (None, "native", "xla"):
        raise ValueError(f"engine must be 'native' or 'xla', got {engine!r}")
    if engine == "native" and integrator != "heun":
        raise ValueError(f"engine 'native' must integrate with 'heun', got {integrator!r}")


def _noisy(networks: Sequence[Network]) -> tuple[int, ...]:
    return tuple(sorted({i for n in networks for i, sigma in enumerate(n.sigma) if np.any(np.asarray(sigma))}))


def schedule_of(networks: Sequence[Network], timing: Timing, integrator: Integrator) -> Schedule:
    steps = timing.chunk_steps
    block = max(size for size in range(1, _BLOCK_LIMIT + 1) if steps % size == 0)
    return Schedule(
        dt=timing.dt / networks[0].mass.milliseconds_per_unit,
        block=block,
        blocks=steps // block,
        noisy=_noisy(networks),
        integrator=integrator,
    )


def engine_of(networks: Sequence[Network], timing: Timing, integrator: str, precision: str) -> Engine:
    if jax.default_backend() != "cpu" or integrator != "heun" or not _native.is_available():
        return "xla"
    try:
        Forward(networks[:1], [0], timing.dt, timing.chunk_steps, _dtype(precision))
    except CannotLower:
        return "xla"
    return "native"


def alike(networks: Sequence[Network], dt: float) -> list[list[int]]:
    """Indices of the networks, those with the same delays together."""
    groups: dict[bytes, list[int]] = {}
    for index, network in enumerate(networks):
        groups.setdefault(delay_steps(network, dt).tobytes(), []).append(index)
    return list(groups.values())


def side_by_side(networks: Sequence[Network], dt: float, engine: Engine, precision: str) -> list[list[int]]:
    """Indices of the runs that go side by side: same delays, as many as there are lanes."""
    lanes = _lanes(engine, precision)
    batches = []
    for group in alike(networks, dt):
        for start in range(0, len(group), lanes):
            members = group[start : start + lanes]
            # A few runs are faster one after the other than in a vector that is mostly empty.
            alone = engine == "native" and len(members) <= 5 * lanes // 8
            batches += [[member] for member in members] if alone else [members]
    return batches


def _bound_labels(monitor: Monitor, networks: Sequence[Network]) -> tuple[str, ...]:
    return tuple(monitor.bound(networks[:1]).labels(networks[0].labels))


@dataclass(frozen=True)
class _Session:
    """One call of `simulate`."""

    networks: Sequence[Network]
    seeds: Sequence[int]
    monitors: tuple[Monitor, ...]
    timing: Timing
    integrator: Integrator
    precision: str
    engine: Engine
    meter: _Meter

    def run(self, members: list[int], device: Any) -> _Batch:
        # Both switches are thread-local, so nobody else's precision or device changes.
        with jax.enable_x64(self.precision == "double"), jax.default_device(device):
            return self._run(members, device)

    def _run(self, members: list[int], device: Any) -> _Batch:
        networks, seeds = [self.networks[i] for i in members], [self.seeds[i] for i in members]
        timing = self.timing
        runs: Forward | Stepped
        if self.engine == "native":
            runs = Forward(networks, seeds, timing.dt, timing.chunk_steps, _dtype(self.precision))
        else:
            schedule = schedule_of(self.networks, timing, self.integrator)
            runs = Stepped(networks, seeds, LANES, timing.dt, schedule, device)
        monitors = tuple(monitor.bound(runs.networks) for monitor in self.monitors)
        state = tuple(jnp.asarray(x) for x in runs.state)
        watch = begin_watch(monitors, jnp.zeros_like(state[0]))
        taken: list[list[np.ndarray]] = [[] for _ in monitors]
        for before, total in ((True, timing.dropped), (False, timing.kept)):
            for done in range(0, total, timing.stretch):
                chunks = min(timing.stretch, total - done)
                means, ends = self._stretch(runs, members, chunks, done + (0 if before else timing.dropped))
                watch, samples = observe(
                    monitors, watch, means, ends, jnp.asarray(chunks, jnp.int32), timing.every, timing.chunk_seconds
                )
                self.meter.tick(chunks)
                if not before:
                    for m, every in enumerate(timing.every):
                        count = (done + chunks) // every - done // every
                        taken[m].append(np.asarray(samples[m][:count]))
            if before:
                watch = restart(monitors, watch, tuple(jnp.asarray(x) for x in runs.state))
        return self._finished(members, taken, runs)

    def _stretch(self, runs: Forward | Stepped, members: list[int], chunks: int, done: int) -> tuple[Any, Any]:
        saved = runs.snapshot() if isinstance(runs, Forward) else None
        start = [np.asarray(x) for x in runs.state]
        means, ends = runs.advance(chunks, self.timing.stretch)
        # Padding of the last stretch is zero, which is finite.
        if not (np.isfinite(np.asarray(ends)).all() and np.isfinite(np.asarray(means)).all()):
            found = self._broken(members, means, ends, np.stack(start))
            if found is not None:
                raise self._diverged(runs, saved, members, done, found)
        return means, ends

    def _broken(
        self, members: list[int], means: Any, ends: Any, start: np.ndarray
    ) -> tuple[int, int, int, np.ndarray] | None:
        """Chunk, region and lane of the first state that is not finite in a region that is there; the state before."""
        states = np.asarray(ends)[..., : len(members)]
        broken = ~(np.isfinite(states).all(axis=1) & np.isfinite(np.asarray(means)[..., : len(members)]))
        for lane, member in enumerate(members):
            active = self.networks[member].active
            if active is not None:
                broken[:, ~active, lane] = False
        if not broken.any():
            return None
        chunk, region, lane = (int(i) for i in np.argwhere(broken)[0])
        return chunk, region, lane, states[chunk - 1, ..., lane] if chunk else start[..., lane]

    def _diverged(
        self, runs: Forward | Stepped, saved: Any, members: list[int], done: int, found: tuple[int, int, int, Any]
    ) -> Diverged:
        timing = self.timing
        chunk, region, lane, last_good = found
        steps = (done + chunk + 1) * timing.chunk_steps
        if isinstance(runs, Forward):
            # Once more, up to the chunk and then step by step.
            runs.restore(saved)
            runs.advance(chunk, max(chunk, 1))
            start = np.stack(runs.state)
            means, ends = runs.advance(timing.chunk_steps, timing.chunk_steps, steps=1)
            exact = self._broken(members, means, ends, start)
            if exact is not None:
                step, region, lane, last_good = exact
                steps = (done + chunk) * timing.chunk_steps + step + 1
        return Diverged(
            run=members[lane],
            time=steps * timing.dt / 1000.0,
            index=region,
            region=self.networks[0].labels[region],
            last_good=last_good,
        )

    def _finished(self, members: list[int], taken: list[list[np.ndarray]], runs: Forward | Stepped) -> _Batch:
        count = len(members)
        values = [np.concatenate(parts).transpose(2, 0, 1)[:count] for parts in taken]
        final = np.stack([np.asarray(x) for x in runs.state]).transpose(2, 0, 1)[:count]
        for lane, member in enumerate(members):
            network = self.networks[member]
            if network.active is None:
                continue
            for m, monitor in enumerate(self.monitors):
                if _bound_labels(monitor, self.networks) == network.labels:
                    values[m][lane][:, ~network.active] = np.nan
            final[lane][:, ~network.active] = np.nan
        return _Batch(values, final)


def _settings(model: Any) -> dict[str, Any]:
    """What is compiled into a monitor or a neural mass; their numbers are among the inputs."""
    static = {f.name: getattr(model, f.name) for f in dataclasses.fields(model) if f.metadata.get("static")}
    return {name: _told(value) for name, value in static.items()}


def _told(value: Any) -> Any:
    # JSON has no infinity, which is where a spectrum without a highest frequency ends.
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _inputs(networks: Sequence[Network], monitors: Sequence[Monitor]) -> dict[str, np.ndarray]:
    ones = np.ones(networks[0].regions)
    leaves = [jax.tree.leaves((n.mass, n.balloon)) for n in networks]
    told = {
        "weights": np.stack([n.channel_weights for n in networks]),
        "delays": np.stack([n.delays for n in networks]),
        "parameters": np.stack([[np.asarray(leaf, dtype=float) * ones for leaf in row] for row in leaves]),
        "sigma": np.stack([[np.asarray(s, dtype=float) * ones for s in n.sigma or (0.0,)] for n in networks]),
        "active": np.stack([np.ones(n.regions, bool) if n.active is None else n.active for n in networks]),
        "initial": np.stack([[np.asarray(x, dtype=float) * ones for x in n.start] for n in networks]),
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
