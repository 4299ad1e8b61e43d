"""A sampler that is stopped goes on as if it had not been, from wherever its chains are told to begin."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from vbt.inference import Draws, Posterior
from vbt.inference._nuts import Mode, stretched

WARMUP, DRAWS, ROUNDS = 50, 50, 2


class Shelf:
    """A checkpoint in memory that counts what it is given."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.saves = 0

    def load(self, name: str) -> bytes | None:
        return self.kept.get(name)

    def save(self, name: str, content: bytes) -> None:
        self.saves += 1
        self.kept[name] = content


class Killed(Exception):
    pass


def two_means(data) -> None:
    """Normal data around the distance of two unknowns, so that both signs fit: two modes."""
    first = numpyro.sample("first", dist.Normal(0.0, 3.0))
    second = numpyro.sample("second", dist.Normal(0.0, 3.0))
    numpyro.deterministic("distance", first - second)
    numpyro.sample("seen", dist.Normal((first - second) ** 2, 1.0), obs=data)


@pytest.fixture(scope="module")
def observed():
    with jax.enable_x64(True):
        return jax.numpy.asarray(np.random.default_rng(0).normal(9.0, 1.0, 20))


@pytest.fixture(scope="module")
def posterior(observed):
    with jax.enable_x64(True):
        return Posterior(two_means, observed)


def _sample(posterior, observed, **more) -> Draws:
    with jax.enable_x64(True):
        mode = posterior.mode(observed, starts=4, rng_seed=1)
        return posterior.sample(
            observed,
            mode,
            warmup=WARMUP,
            draws=DRAWS,
            rng_seed=5,
            **{"rounds": ROUNDS, "enough": lambda _draws: False} | more,
        )


def _stop_after(ticks: int):
    left = ticks

    def progress(_phase: str, _fraction: float, _divergences: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    return progress


@pytest.mark.parametrize("stretches", [3, 9, 20])
def test_a_killed_sampler_resumes_to_the_same_draws_bit_for_bit(posterior, observed, stretches):
    """Killed in the warm-up, in the first round and in the second; 24 stretches of four chains altogether."""
    undisturbed = _sample(posterior, observed)
    shelf = Shelf()
    with pytest.raises(Killed):
        _sample(posterior, observed, progress=_stop_after(stretches), checkpoint=shelf)
    kept = shelf.saves
    assert stretches < kept < 24
    resumed = _sample(Posterior(two_means, observed), observed, checkpoint=shelf)
    assert shelf.saves == 24  # nothing that was kept is drawn again
    for field in dataclasses.fields(Draws):
        np.testing.assert_array_equal(getattr(resumed, field.name), getattr(undisturbed, field.name))


def test_progress_goes_on_where_the_kill_was(posterior, observed):
    shelf, told = Shelf(), []
    with pytest.raises(Killed):
        _sample(posterior, observed, rounds=1, progress=_stop_after(11), checkpoint=shelf)
    _sample(posterior, observed, rounds=1, progress=lambda *heard: told.append(heard), checkpoint=shelf)
    assert told[0][0] == "sampling"
    assert told[0][1] > 11 / 16
    assert told[-1][1] == 1.0


def test_chains_begin_where_they_are_told_and_so_r_hat_can_fail(posterior, observed):
    apart = np.array([[1.5, -1.5], [1.5, -1.5], [-1.5, 1.5], [-1.5, 1.5]])
    drawn = _sample(posterior, observed, rounds=1, starts=apart).unconstrained
    sides = np.sign(drawn[..., 0] - drawn[..., 1])
    assert (sides == np.sign(apart[:, :1] - apart[:, 1:])).all()


def test_a_larger_target_takes_smaller_steps_and_the_tree_s_limit_is_known(posterior, observed):
    usual = _sample(posterior, observed, rounds=1)
    careful = _sample(posterior, observed, rounds=1, target_acceptance=0.99)
    assert careful.steps.mean() > usual.steps.mean()
    shallow = _sample(posterior, observed, rounds=1, max_tree_depth=1)
    assert shallow.steps.max() <= 1
    assert shallow.saturated > 0.5


def test_a_direction_in_which_draws_reach_farther_than_curvature_says_is_stretched():
    rng = np.random.default_rng(8)
    dimension, count = 40, 100
    shape = rng.normal(size=(dimension, dimension))
    covariance = shape @ shape.T / dimension + np.eye(dimension)
    direction = np.linalg.cholesky(covariance) @ np.eye(dimension)[3]
    truth = covariance + 8.0 * np.outer(direction, direction)
    unconstrained = rng.multivariate_normal(np.ones(dimension), truth, size=(4, count))
    nothing = np.zeros((4, count))
    draws = Draws(
        unconstrained=unconstrained,
        density=nothing,
        energy=nothing,
        diverging=nothing.astype(bool),
        steps=nothing.astype(int),
    )
    mode = Mode(location=np.ones(dimension), covariance=covariance, potential=0.0, starts_agreeing=4)
    longer = np.linalg.eigvals(np.linalg.solve(covariance, stretched(mode, draws).covariance)).real
    assert longer.max() == pytest.approx(9.0, rel=0.25)
    assert np.sort(longer)[:-1] == pytest.approx(np.ones(dimension - 1))
    usual = dataclasses.replace(
        draws, unconstrained=rng.multivariate_normal(np.ones(dimension), covariance, (4, count))
    )
    np.testing.assert_allclose(stretched(mode, usual).covariance, covariance)
