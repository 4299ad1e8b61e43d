"""From a NumPyro model to posterior draws: mode, curvature, then NUTS whitened by it, chains side by side."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
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

CHAINS = 4
_STRIDE = 25  # draws per compiled call
_MAX_TREE_DEPTH = 8
_TARGET_ACCEPTANCE = 0.85

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

    @classmethod
    def joined(cls, rounds: list[Draws]) -> Draws:
        """The rounds of the same chains end to end."""
        names = [f.name for f in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in rounds], axis=1) for name in names})

    @property
    def saturated(self) -> float:
        """Fraction of draws whose tree reached its largest depth."""
        return float((self.steps >= 2**_MAX_TREE_DEPTH - 1).mean())


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
        self._samplers: dict[int, tuple[Any, Any]] = {}

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

    def mode(self, data: Any, *, starts: int, rng_seed: int) -> Mode:
        """The best of several L-BFGS descents from overdispersed starts, with its curvature by central differences."""
        rng = np.random.default_rng(rng_seed)
        with threadpool_limits(1):
            found = [self._descend(rng.normal(scale=1.0, size=self.dimension), data) for _ in range(starts)]
            best = min(found, key=lambda result: float(result.fun))
            covariance = self._curvature(best.x, data)
        return Mode(
            location=best.x,
            covariance=covariance,
            potential=float(best.fun),
            starts_agreeing=sum(float(result.fun) < float(best.fun) + 5.0 for result in found),
        )

    def _descend(self, start: np.ndarray, data: Any) -> Any:
        def objective(z: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self._value_and_grad(jnp.asarray(z), data)
            value, gradient = float(value), np.asarray(gradient)
            # A line search that stepped too far must come back, not stop.
            if not np.isfinite(value) or not np.isfinite(gradient).all():
                return 1e12, np.zeros_like(z)
            return value, gradient

        return scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 300})

    def _curvature(self, z: np.ndarray, data: Any, step: float = 1e-4) -> np.ndarray:
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
        enough: Callable[[Draws], bool] | None = None,
        rounds: int = 1,
        progress: Progress | None = None,
    ) -> Draws:
        """NUTS from starts spread wider than the posterior, the mode's covariance as dense mass matrix.

        After each round of ``draws`` per chain ``enough`` decides whether the chains run on, at most ``rounds`` times.
        ``progress(phase, fraction, divergences)`` hears of every stretch of every chain.
        """
        if warmup % _STRIDE or draws % _STRIDE:
            raise ValueError(f"warm-up and draws must be multiples of {_STRIDE}, got {warmup} and {draws}")
        begin, stretch = self._sampler(warmup)
        rng = np.random.default_rng(rng_seed)
        spread = np.linalg.cholesky(mode.covariance) * 2.0
        starts = mode.location + rng.normal(size=(CHAINS, self.dimension)) @ spread.T
        keys = jax.random.split(jax.random.key(rng_seed, impl="threefry2x32"), CHAINS)
        meter = _Meter(progress, warmup, draws)

        def started(chain: int) -> Any:
            with jax.enable_x64(True):
                state = begin(jnp.asarray(starts[chain]), jnp.asarray(mode.covariance), keys[chain], data)
                for _ in range(warmup // _STRIDE):
                    state, _piece = stretch(state, data)
                    meter.tick(0)
                return state

        def continued(state: Any) -> tuple[Any, tuple[np.ndarray, ...]]:
            with jax.enable_x64(True):
                pieces = []
                for _ in range(draws // _STRIDE):
                    state, piece = stretch(state, data)
                    pieces.append(tuple(np.asarray(part) for part in piece))
                    meter.tick(int(pieces[-1][3].sum()))
                return state, tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))

        # OpenBLAS would split each small eigendecomposition over the cores that the other chains need.
        with threadpool_limits(1), ThreadPoolExecutor(min(CHAINS, len(os.sched_getaffinity(0)))) as pool:
            states = list(pool.map(started, range(CHAINS)))
            kept: list[Draws] = []
            for _ in range(rounds):
                states, chains = (list(part) for part in zip(*pool.map(continued, states), strict=True))
                z, density, energy, diverging, steps = (np.stack(parts) for parts in zip(*chains, strict=True))
                kept.append(Draws(unconstrained=z, density=density, energy=energy, diverging=diverging, steps=steps))
                joined = Draws.joined(kept)
                if enough is None or enough(joined):
                    break
                meter.extend()
        return joined

    def _sampler(self, warmup: int) -> tuple[Any, Any]:
        if warmup not in self._samplers:
            init_kernel, sample_kernel = hmc(potential_fn_gen=self._potential_of, algo="NUTS")

            def begin(z: Any, covariance: Any, key: Any, data: Any) -> Any:
                return init_kernel(
                    z,
                    warmup,
                    step_size=0.5,
                    inverse_mass_matrix=covariance,
                    adapt_mass_matrix=False,
                    dense_mass=True,
                    target_accept_prob=_TARGET_ACCEPTANCE,
                    trajectory_length=None,
                    max_tree_depth=_MAX_TREE_DEPTH,
                    model_args=(data,),
                    rng_key=key,
                )

            def one(state: Any, _: None, data: Any) -> Any:
                state = sample_kernel(state, (data,))
                return state, (state.z, -state.potential_energy, state.energy, state.diverging, state.num_steps)

            def stretch(state: Any, data: Any) -> Any:
                return jax.lax.scan(functools.partial(one, data=data), state, None, length=_STRIDE)

            self._samplers[warmup] = (jax.jit(begin), jax.jit(stretch))
        return self._samplers[warmup]

    def _potential_of(self, data: Any) -> Any:
        return functools.partial(self._potential, data=data)


class _Meter:
    """Adds up the stretches of all chains; never goes back when a round is added."""

    def __init__(self, progress: Progress | None, warmup: int, draws: int) -> None:
        self._progress, self._done, self._divergences, self._told = progress, 0, 0, 0.0
        self._warmup, self._round = CHAINS * (warmup // _STRIDE), CHAINS * (draws // _STRIDE)
        self._total = self._warmup + self._round
        self._lock = threading.Lock()

    def extend(self) -> None:
        self._total += self._round

    def tick(self, divergences: int) -> None:
        with self._lock:
            self._done += 1
            self._divergences += divergences
            self._told = max(self._told, self._done / self._total)
            if self._progress is not None:
                phase = "warm-up" if self._done <= self._warmup else "sampling"
                self._progress(phase, self._told, self._divergences)
