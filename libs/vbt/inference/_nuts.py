"""From a NumPyro model to posterior draws: mode, curvature, then NUTS whitened by it, chains side by side."""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import scipy.optimize
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float, Int
from numpyro import handlers
from numpyro.infer.hmc import hmc
from numpyro.infer.util import log_density
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from vbt.inference._checkpoint import Checkpoint, load_arrays, save_arrays

CHAINS = 4
_STRIDE = 25  # draws per compiled call
_MAX_TREE_DEPTH = 8
_TARGET_ACCEPTANCE = 0.85
_LONGER = 1.2  # times the largest eigenvalue that chance gives; chains of finite length scatter a little more

Model = Callable[[Any], None]
Progress = Callable[[str, float, int], None]


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A posterior mode in unconstrained space and the covariance its curvature implies."""

    location: Float[np.ndarray, " dimension"]
    covariance: Float[np.ndarray, "dimension dimension"]
    potential: float
    starts_agreeing: int


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What NUTS returned, warm-up left out; ``unconstrained`` and every diagnostic are (chain, draw).

    ``density`` is the log posterior density up to a constant.
    """

    unconstrained: Float[np.ndarray, "chain draw dimension"]
    density: Float[np.ndarray, "chain draw"]
    energy: Float[np.ndarray, "chain draw"]
    diverging: Bool[np.ndarray, "chain draw"]
    steps: Int[np.ndarray, "chain draw"]
    max_tree_depth: int = _MAX_TREE_DEPTH

    @classmethod
    def of(cls, chains: list[Mapping[str, np.ndarray]], max_tree_depth: int) -> Draws:
        """What each chain drew, by the names of the fields, side by side."""
        stacked = {name: np.stack([chain[name] for chain in chains]) for name in _DRAWN}
        return cls(**stacked, max_tree_depth=max_tree_depth)

    @property
    def saturated(self) -> float:
        """Fraction of draws whose tree reached its largest depth."""
        return float((self.steps >= 2**self.max_tree_depth - 1).mean())


def stretched(mode: Mode, draws: Draws) -> Mode:
    """The mode with its covariance made longer where draws reach farther than curvature says.

    Curvature is a local thing: along a bent or one-sided direction a posterior can be three times as long, and a
    sampler whitened by curvature crosses it slowly. Only directions beyond what as many draws of unit variance would
    show by chance are changed.

    References
    ----------
    Marčenko & Pastur (1967), Math. USSR Sb. 1, 457: the largest eigenvalue of a sample covariance.
    """
    factor = np.linalg.cholesky(mode.covariance)
    every = draws.unconstrained.reshape(-1, len(factor))
    whitened = np.linalg.solve(factor, (every - every.mean(axis=0)).T)
    values, directions = np.linalg.eigh(whitened @ whitened.T / len(every))
    longer = values > _LONGER * (1.0 + np.sqrt(len(factor) / len(every))) ** 2
    along = factor @ directions[:, longer]
    return dataclasses.replace(mode, covariance=mode.covariance + (along * (values[longer] - 1.0)) @ along.T)


_DRAWN = ("unconstrained", "density", "energy", "diverging", "steps")


class Posterior:
    """A model whose sites are all unconstrained, compiled once: any data of the same shapes reuses the code.

    Use under ``jax.enable_x64(True)``.
    """

    def __init__(self, model: Model, example: Any) -> None:
        self._model = model
        # Shapes only: running the model once op by op would take longer than compiling it.
        sites = jax.eval_shape(self._sites, example)
        flat, self._unravel = ravel_pytree({name: jnp.zeros(site.shape) for name, site in sites.items()})
        self.dimension = int(flat.size)
        self._value_and_grad = jax.jit(jax.value_and_grad(self._potential))
        self._constrain = jax.jit(jax.vmap(self._constrain_one, in_axes=(0, None)))
        self._samplers: dict[tuple[int, float, int], tuple[Any, Any]] = {}

    def _sites(self, data: Any) -> dict[str, Any]:
        traced = handlers.trace(handlers.seed(self._model, 0)).get_trace(data)
        latent = {k: v for k, v in traced.items() if v["type"] == "sample" and not v["is_observed"]}
        if not all(
            site["fn"].support in (dist.constraints.real, dist.constraints.real_vector) for site in latent.values()
        ):
            raise ValueError("the model's sites must be unconstrained; transform them with numpyro.deterministic")
        return {name: site["value"] for name, site in latent.items()}

    def _potential(self, z: Any, data: Any) -> Any:
        return -log_density(self._model, (data,), {}, self._unravel(z))[0]

    def _constrain_one(self, z: Any, data: Any) -> Any:
        traced = handlers.trace(handlers.substitute(self._model, self._unravel(z))).get_trace(data)
        return {name: site["value"] for name, site in traced.items() if site["type"] == "deterministic"}

    def constrained(self, z: Float[np.ndarray, "draw dimension"], data: Any) -> dict[str, np.ndarray]:
        """Unconstrained points as parameters by name."""
        return {name: np.asarray(value) for name, value in self._constrain(jnp.asarray(z), data).items()}

    def split(self, z: Float[np.ndarray, "draw dimension"]) -> dict[str, np.ndarray]:
        """Unconstrained points by the names of the model's sites."""
        return {name: np.asarray(value) for name, value in jax.vmap(self._unravel)(jnp.asarray(z)).items()}

    def joined(self, sites: Mapping[str, np.ndarray]) -> Float[np.ndarray, " dimension"]:
        """The unconstrained point at these values of the model's sites: the inverse of `split` for one point."""
        return np.asarray(ravel_pytree({name: jnp.asarray(value) for name, value in sites.items()})[0])

    def mode(self, data: Any, *, starts: int, rng_seed: int) -> Mode:
        """The best of several L-BFGS descents from overdispersed starts, with its curvature by central differences."""
        rng = np.random.default_rng(rng_seed)
        with threadpool_limits(1):
            found = [self._descend(rng.normal(scale=1.0, size=self.dimension), data) for _ in range(starts)]
            best = min(found, key=lambda result: float(result.fun))
            covariance = self.curvature(best.x, data)
        return Mode(
            location=best.x,
            covariance=covariance,
            potential=float(best.fun),
            starts_agreeing=sum(float(result.fun) < float(best.fun) + 5.0 for result in found),
        )

    def _descend(self, start: np.ndarray, data: Any) -> Any:
        def objective(z: np.ndarray) -> tuple[float, np.ndarray]:
            return self.value_and_gradient(z, data)

        return scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 300})

    def value_and_gradient(self, z: Float[np.ndarray, " dimension"], data: Any) -> tuple[float, np.ndarray]:
        """Negative log posterior density in unconstrained space, as a descent can use it (`finite`)."""
        return finite(*self._value_and_grad(jnp.asarray(z), data))

    def curvature(
        self, z: Float[np.ndarray, " dimension"], data: Any, step: float = 1e-4
    ) -> Float[np.ndarray, "dimension dimension"]:
        """The covariance that the Hessian at a point implies, by central differences of the gradient."""

        def gradient(at: np.ndarray) -> np.ndarray:
            return np.asarray(self._value_and_grad(jnp.asarray(at), data)[1])

        eye = step * np.eye(self.dimension)
        hessian = np.stack([(gradient(z + row) - gradient(z - row)) / (2.0 * step) for row in eye])
        eigenvalues, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
        # A direction the recording says nothing about keeps the curvature of its standard normal prior.
        return np.asarray((vectors / np.maximum(eigenvalues, 1.0)) @ vectors.T)

    def sample(
        self,
        data: Any,
        mode: Mode,
        *,
        warmup: int,
        draws: int,
        rng_seed: int,
        starts: Float[np.ndarray, "chain dimension"] | None = None,
        target_acceptance: float = _TARGET_ACCEPTANCE,
        max_tree_depth: int = _MAX_TREE_DEPTH,
        enough: Callable[[Draws], bool] | None = None,
        rounds: int = 1,
        progress: Progress | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Draws:
        """NUTS whitened by the mode's covariance as dense mass matrix, the chains side by side.

        After each round of ``draws`` per chain ``enough`` decides whether the chains run on, at most ``rounds`` times.

        Parameters
        ----------
        starts : where each chain begins, e.g. at different modes; else `CHAINS` of them spread twice as wide as the
            mode's own curvature says
        progress : ``progress(phase, fraction, divergences)`` hears of every stretch of every chain; an exception from
            it stops all chains at their next stretch
        checkpoint : every chain is kept after every stretch; sampling again with the same arguments goes on from there
            and gives the draws that an undisturbed run gives, bit for bit
        """
        if warmup % _STRIDE or draws % _STRIDE:
            raise ValueError(f"warm-up and draws must be multiples of {_STRIDE}, got {warmup} and {draws}")
        if starts is None:
            rng = np.random.default_rng(rng_seed)
            spread = np.linalg.cholesky(mode.covariance) * 2.0
            starts = mode.location + rng.normal(size=(CHAINS, self.dimension)) @ spread.T
        begin, stretch = self._sampler(warmup, target_acceptance, max_tree_depth)
        keys = jax.random.split(jax.random.key(rng_seed, impl="threefry2x32"), len(starts))
        inverse_mass = jnp.asarray(mode.covariance)
        # Traced also where every chain goes on from a checkpoint: the sampler keeps its settings from its beginning.
        shapes = jax.eval_shape(begin, jnp.asarray(starts[0]), inverse_mass, keys[0], data)
        chains = [
            _Chain(
                f"chain-{i}", checkpoint, shapes, functools.partial(begin, jnp.asarray(start), inverse_mass, key, data)
            )
            for i, (start, key) in enumerate(zip(starts, keys, strict=True))
        ]
        meter = _Meter(progress, chains, warmup, draws)

        def run(until: int, chain: _Chain) -> None:
            try:
                with jax.enable_x64(True):
                    while chain.stretches < until:
                        chain.advance(lambda state: stretch(state, data))
                        meter.tick()
            except BaseException as failure:
                meter.stop(failure)
                raise

        # OpenBLAS would split each small eigendecomposition over the cores that the other chains need.
        with threadpool_limits(1), ThreadPoolExecutor(min(len(chains), len(os.sched_getaffinity(0)))) as pool:
            first = warmup // _STRIDE
            list(pool.map(functools.partial(run, first), chains))
            for done in range(1, rounds + 1):
                until = first + done * (draws // _STRIDE)
                list(pool.map(functools.partial(run, until), chains))
                joined = Draws.of([chain.drawn(first, until) for chain in chains], max_tree_depth)
                if enough is None or enough(joined):
                    break
                meter.extend()
        return joined

    def _sampler(self, warmup: int, target_acceptance: float, max_tree_depth: int) -> tuple[Any, Any]:
        settings = (warmup, target_acceptance, max_tree_depth)
        if settings not in self._samplers:
            init_kernel, sample_kernel = hmc(potential_fn_gen=self._potential_of, algo="NUTS")

            def begin(z: Any, covariance: Any, key: Any, data: Any) -> Any:
                return init_kernel(
                    z,
                    warmup,
                    step_size=0.5,
                    inverse_mass_matrix=covariance,
                    adapt_mass_matrix=False,
                    dense_mass=True,
                    target_accept_prob=target_acceptance,
                    trajectory_length=None,
                    max_tree_depth=max_tree_depth,
                    model_args=(data,),
                    rng_key=key,
                )

            def one(state: Any, _: None, data: Any) -> Any:
                state = sample_kernel(state, (data,))
                return state, (state.z, -state.potential_energy, state.energy, state.diverging, state.num_steps)

            def stretch(state: Any, data: Any) -> Any:
                return jax.lax.scan(functools.partial(one, data=data), state, None, length=_STRIDE)

            self._samplers[settings] = (jax.jit(begin), jax.jit(stretch))
        return self._samplers[settings]

    def _potential_of(self, data: Any) -> Any:
        return functools.partial(self._potential, data=data)


def finite(value: Any, gradient: Any) -> tuple[float, np.ndarray]:
    """An objective and its slope; a huge flat one where they are no numbers.

    A line search that stepped too far must come back, not stop.
    """
    number, slope = float(value), np.asarray(gradient)
    if not np.isfinite(number) or not np.isfinite(slope).all():
        return 1e12, np.zeros_like(slope)
    return number, slope


class _Chain:
    """One chain: its sampler's state, what it drew in every stretch, and both in the checkpoint."""

    def __init__(self, name: str, checkpoint: Checkpoint | None, shapes: Any, begin: Callable[[], Any]) -> None:
        self._name, self._checkpoint = name, checkpoint
        self._shapes, self._treedef = jax.tree.flatten(shapes)
        self._begin = begin
        self._state: Any = None
        self._pieces: list[dict[str, np.ndarray]] = []
        saved = load_arrays(checkpoint, name)
        if saved is not None:
            parts = {key: np.split(saved[key], len(saved[key]) // _STRIDE) for key in _DRAWN}
            self._pieces = [dict(zip(_DRAWN, piece, strict=True)) for piece in zip(*parts.values(), strict=True)]
            self._state = self._restored(saved)

    @property
    def stretches(self) -> int:
        return len(self._pieces)

    def divergences(self, first: int) -> int:
        """Of the stretches from a first one on."""
        return sum(int(piece["diverging"].sum()) for piece in self._pieces[first:])

    def advance(self, stretch: Callable[[Any], tuple[Any, tuple[Any, ...]]]) -> None:
        """One stretch on."""
        if self._state is None:
            self._state = self._begin()
        self._state, piece = stretch(self._state)
        self._pieces.append({name: np.asarray(part) for name, part in zip(_DRAWN, piece, strict=True)})
        if self._checkpoint is not None:
            save_arrays(self._checkpoint, self._name, self._saved())

    def drawn(self, first: int, until: int) -> Mapping[str, np.ndarray]:
        """Draws and diagnostics of a span of stretches, end to end."""
        return {name: np.concatenate([piece[name] for piece in self._pieces[first:until]]) for name in _DRAWN}

    def _saved(self) -> dict[str, np.ndarray]:
        leaves = jax.tree.leaves(self._state)
        state = {f"state-{i}": np.asarray(_bits(leaf)) for i, leaf in enumerate(leaves)}
        return state | dict(self.drawn(0, self.stretches))

    def _restored(self, saved: dict[str, np.ndarray]) -> Any:
        with jax.enable_x64(True):
            leaves = [
                jax.random.wrap_key_data(jnp.asarray(saved[f"state-{i}"]), impl="threefry2x32")
                if _is_key(shape)
                else jnp.asarray(saved[f"state-{i}"], dtype=shape.dtype)
                for i, shape in enumerate(self._shapes)
            ]
        return jax.tree.unflatten(self._treedef, leaves)


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _bits(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


class _Meter:
    """Adds up the stretches of all chains; never goes back when a round is added. What stops one chain stops all."""

    def __init__(self, progress: Progress | None, chains: list[_Chain], warmup: int, draws: int) -> None:
        self._progress, self._chains, self._told = progress, chains, 0.0
        self._first = warmup // _STRIDE
        self._warmup, self._round = len(chains) * self._first, len(chains) * (draws // _STRIDE)
        self._total = self._warmup + self._round
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def extend(self) -> None:
        self._total += self._round

    def stop(self, failure: BaseException) -> None:
        self._failure = failure

    def tick(self) -> None:
        if self._failure is not None:
            raise self._failure
        with self._lock:
            done = sum(chain.stretches for chain in self._chains)
            self._told = max(self._told, done / self._total)
            if self._progress is not None:
                phase = "warm-up" if done <= self._warmup else "sampling"
                self._progress(phase, self._told, sum(chain.divergences(self._first) for chain in self._chains))
