"""The Epileptor inversion against known truths, and what it must not give numbers for."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vbt.errors import Rejected
from vbt.inference import SeizureCalibration, calibrate_seizure
from vbt.inference._gate import CHI_SQUARE_LIMIT
from vbt.inference._seizure import fit_of
from vbt.inference._seizure_checks import chi_square, recruitment
from vbt.inference._seizure_feature import Units, observe
from vbt.inference._seizure_gradient import log_likelihood_of
from vbt.inference._seizure_model import (
    ETA_SCALE,
    SITES,
    activity,
    coordinate_of,
    excitability,
    expected,
    leaving_rest,
    log_likelihood,
    parameters,
    resting,
    threshold,
)
from vbt.inference._seizure_posterior import posterior_of
from vbt.inference._seizure_search import equilibrium_of, noise_of, search
from vbt.inference._seizure_sides import Sides
from vbt.simulation import Epileptor2D, Network, TemporalAverage, simulate

REGIONS, SENSORS, SAMPLES, PERIOD = 4, 16, 60, 1.0
ETA = np.array([-1.6, -2.5, -3.3, -3.4])
UNITS = Units(centre=0.0, scale=1.0, gain=1.0)


QUICK: dict[str, int] = {"starts": 3, "most_starts": 3, "warmup": 75, "draws": 150, "rounds": 4}


class Kept:
    """A checkpoint in memory."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def load(self, name: str) -> bytes | None:
        return self.contents.get(name)

    def save(self, name: str, content: bytes) -> None:
        self.contents[name] = content


def _weights(rng: np.random.Generator, regions: int = REGIONS) -> np.ndarray:
    weights = rng.lognormal(size=(regions, regions))
    weights = weights + weights.T
    np.fill_diagonal(weights, 0.0)
    return np.asarray(weights)


def _case(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    weights = _weights(rng)
    gain = rng.uniform(0.02, 0.2, (SENSORS, REGIONS))
    gain[np.arange(SENSORS), np.arange(SENSORS) % REGIONS] += 1.0
    observed = observe(weights, gain, rng.normal(size=(SAMPLES, SENSORS)), 0.5, ETA, UNITS)
    with jax.enable_x64(True):
        state = jnp.asarray(np.full(REGIONS, -2.0)), jnp.asarray(np.full(REGIONS, 4.5))
        x = np.asarray(activity(observed, jnp.asarray(ETA), jnp.asarray(1.0), *state, SAMPLES)[0])
    clean = 2.0 * x @ gain.T + 10.0
    return {
        "weights": weights,
        "gain": gain,
        "feature": clean + 0.15 * rng.normal(size=clean.shape),
        "sampling_period": PERIOD,
        "region_labels": tuple("abcd"),
        "sensor_labels": tuple("ABCDEFGHIJKLMNOP"),
    }


@pytest.fixture(scope="module")
def found() -> SeizureCalibration:
    return calibrate_seizure(**_case(), rng_seed=1, **QUICK)


def test_truth_lies_in_the_intervals_and_the_zone_is_found(found: SeizureCalibration) -> None:
    median, low, high = found.region_intervals("eta", 0.99)
    assert found.sound, found.reasons
    assert ((low < ETA) & (high > ETA)).all()
    assert np.abs(median - ETA).max() < 0.3
    assert found.onset_zone().tolist() == [True, False, False, False]


def test_every_sensor_and_parameter_is_in_the_feature_s_own_units(found: SeizureCalibration) -> None:
    assert found.interval("amplitude")[0] == pytest.approx(2.0, rel=0.1)
    assert found.interval("offset")[0] == pytest.approx(10.0, abs=0.5)
    assert found.interval("noise")[0] == pytest.approx(0.15, rel=0.1)
    assert (found.observed - found.fitted).std() == pytest.approx(0.15, rel=0.1)


def test_only_the_zone_recruits_and_when_it_did(found: SeizureCalibration) -> None:
    assert np.isnan(found.onset[:, 1:]).all()
    clean = found.fitted[:, 0]
    risen = np.flatnonzero(clean > 0.5 * (clean.min() + clean.max()))[0] * PERIOD
    assert np.median(found.onset[:, 0]) == pytest.approx(risen, abs=2.0 * PERIOD)


def test_an_archive_gives_the_same_calibration_back(found: SeizureCalibration) -> None:
    again = SeizureCalibration.from_npz(found.to_npz())
    assert again.fit == found.fit
    assert again.to_npz() == found.to_npz()
    np.testing.assert_array_equal(again.draws["eta"], found.draws["eta"])


def test_a_killed_calibration_goes_on_to_the_same_draws() -> None:
    few = QUICK | {"draws": 25, "rounds": 1}
    undisturbed = calibrate_seizure(**_case(), rng_seed=1, **few)
    kept = Kept()

    def stop(message: str, _fraction: float) -> None:
        if message.startswith("sampling"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate_seizure(**_case(), rng_seed=1, checkpoint=kept, progress=stop, **few)
    messages: list[str] = []
    resumed = calibrate_seizure(**_case(), rng_seed=1, checkpoint=kept, progress=lambda m, _: messages.append(m), **few)
    assert not any(message.startswith("search") for message in messages)
    np.testing.assert_array_equal(resumed.draws["eta"], undisturbed.draws["eta"])


def test_rhythms_that_no_epileptor_makes_are_not_explained() -> None:
    case, rng = _case(), np.random.default_rng(5)
    phases = 2.0 * np.pi * (np.linspace(0.0, 3.0, SAMPLES)[:, None] + rng.uniform(size=REGIONS))
    feature = np.sin(phases) @ case["gain"].T + 0.1 * rng.normal(size=(SAMPLES, SENSORS))
    units = Units.of(case["gain"], feature)
    observed = observe(case["weights"], case["gain"], feature, 0.5, np.full(REGIONS, -3.0), units)
    with jax.enable_x64(True):
        found = search(
            posterior_of(observed), observed, starts=3, most_starts=3, rng_seed=1, tell=lambda *_: None, checkpoint=None
        )
        assert fit_of(posterior_of(observed), observed, found).chi_square > CHI_SQUARE_LIMIT


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("feature-too-short", {"feature": lambda f: f[:30]}),
        ("flat-sensors", {"feature": lambda f: np.where(np.arange(SENSORS) == 2, 1.0, f)}),
        ("not-a-number", {"feature": lambda f: np.where(f == f.max(), np.nan, f)}),
        ("no-seizure", {"feature": lambda f: np.random.default_rng(0).normal(size=f.shape)}),
        ("isolated-regions", {"weights": lambda w: w * (np.arange(4) != 1) * (np.arange(4) != 1)[:, None]}),
        ("shapes-differ", {"gain": lambda g: g[:, :3]}),
        ("blind-sensors", {"gain": lambda g: g * (np.arange(SENSORS) != 3)[:, None]}),
        ("too-few-sensors", {"gain": lambda g: g[:3], "feature": lambda f: f[:, :3], "sensor_labels": lambda s: s[:3]}),
    ],
)
def test_what_cannot_be_inverted_is_refused_by_rule(code: str, change: dict[str, Any]) -> None:
    case = _case()
    for name, edit in change.items():
        case[name] = edit(case[name])
    with pytest.raises(Rejected) as refusal:
        calibrate_seizure(**case, rng_seed=0)
    assert refusal.value.code == code


def test_the_network_moves_as_the_simulator_moves_it() -> None:
    rng = np.random.default_rng(2)
    weights = _weights(rng)
    network = Network(
        mass=Epileptor2D(x0=ETA, K=1.0),
        weights=weights / weights.sum(axis=1).max(),
        tract_lengths=np.zeros((REGIONS, REGIONS)),
        velocity=1.0,
        initial=np.repeat(np.array([-2.0, 4.5])[:, None], REGIONS, axis=1),
    )
    run = simulate([network], [0], duration=0.04, monitors=[TemporalAverage(1e-4)], dt=0.1, precision="double")
    simulated = np.asarray(run.observations[0].values[0])
    gain, feature = np.ones((SENSORS, REGIONS)), np.zeros((SAMPLES, SENSORS))
    observed = observe(weights, gain, feature, 0.5, ETA, UNITS)
    with jax.enable_x64(True):
        state = jnp.full(REGIONS, -2.0), jnp.full(REGIONS, 4.5)
        x = np.asarray(activity(observed, jnp.asarray(ETA), jnp.asarray(1.0), *state, SAMPLES)[0])
    np.testing.assert_allclose(x, simulated[4::5][:SAMPLES], atol=5e-6)  # it keeps single precision


def test_machine_code_gives_the_likelihood_and_gradient_that_autodiff_gives() -> None:
    rng = np.random.default_rng(7)
    case, weights = _case(), rng.lognormal(size=(REGIONS, REGIONS))  # not symmetric
    with jax.enable_x64(True):
        observed = observe(weights, case["gain"], case["feature"], 0.75, ETA, UNITS)

    def traced(site: dict[str, Any]) -> Any:
        x, _ = activity(observed, site["eta"], site["K"], site["x"], site["z"], SAMPLES)
        residual = observed.values - expected(observed.gain, site, x)
        return log_likelihood(residual, site["noise"], site["baseline"])

    with jax.enable_x64(True):
        network = {"K": 1.1, "amplitude": 1.8, "level": 9.0, "noise": 0.2, "baseline": 0.3}
        site = {name: jnp.asarray(value) for name, value in network.items()}
        state = {"eta": ETA, "x": rng.normal(-2.0, 0.1, REGIONS), "z": rng.normal(4.5, 0.3, REGIONS)}
        site |= {name: jnp.asarray(value) for name, value in state.items()}
        value, gradient = jax.jit(jax.value_and_grad(lambda at: log_likelihood_of(observed, at)))(site)
        by_autodiff, slopes = jax.value_and_grad(traced)(site)
    assert float(value) == pytest.approx(float(by_autodiff), rel=1e-10)
    for name, slope in slopes.items():
        np.testing.assert_allclose(gradient[name], slope, rtol=1e-7, err_msg=name)


def test_a_trajectory_that_leaves_the_numbers_has_no_likelihood() -> None:
    case = _case()
    observed = observe(case["weights"], case["gain"], case["feature"], 0.5, ETA, UNITS)
    with jax.enable_x64(True):
        site = dict.fromkeys(("K", "amplitude", "level", "noise", "baseline"), jnp.asarray(1.0))
        site |= {"eta": jnp.asarray(ETA), "x": jnp.full(REGIONS, 1e3), "z": jnp.full(REGIONS, 4.5)}
        assert not np.isfinite(float(log_likelihood_of(observed, site)))
        loud = site | {"x": jnp.full(REGIONS, -2.0), "noise": jnp.asarray(1e200), "baseline": jnp.asarray(1e200)}
        assert not np.isfinite(float(log_likelihood_of(observed, loud)))


def test_threshold_is_where_an_uncoupled_region_loses_rest() -> None:
    assert threshold() == pytest.approx(-2.03687, abs=1e-5)
    assert threshold(2857.0) == pytest.approx(-2.06195, abs=1e-5)


@pytest.mark.parametrize("side", [-1.0, 0.0, 1.0])
def test_a_coordinate_never_crosses_to_the_other_side(side: float) -> None:
    edge = leaving_rest()
    with jax.enable_x64(True):
        coordinate = jnp.linspace(-3.0, 6.0, 9001)
        x, slope = (np.asarray(part) for part in resting(jnp.full(9001, side), coordinate))
    numeric = np.gradient(x, np.asarray(coordinate))
    np.testing.assert_allclose(np.exp(np.broadcast_to(slope, x.shape))[1:-1], numeric[1:-1], rtol=1e-4, atol=1e-7)
    assert (side * (x - edge) >= 0.0).all()
    again = coordinate_of(np.full(9001, side), x)
    seen = np.abs(x - edge) > 1e-3
    np.testing.assert_allclose(again[seen], np.asarray(coordinate)[seen], atol=1e-6)


def test_as_many_draws_lie_on_the_other_side_as_its_odds_say() -> None:
    rng = np.random.default_rng(4)
    case, draws = _case(), 4000
    observed = observe(case["weights"], case["gain"], case["feature"], 0.5, ETA, UNITS)
    observed = dataclasses.replace(observed, side=jnp.asarray([1.0, -1.0, -1.0, -1.0]))
    beyond = np.zeros((REGIONS, 7))
    beyond[2, 4:6] = 0.125  # odds 1 to 4
    coordinate = rng.normal(size=(draws, REGIONS)) * 0.2
    coupling = np.full(draws, 1.0)
    with jax.enable_x64(True):
        x = np.asarray(resting(observed.side, coordinate)[0])
        eta = np.stack([excitability(np.asarray(observed.weights), row, 1.0) for row in x])
        crossed = Sides(observed, beyond).crossed(eta, coordinate, coupling)
    moved = (crossed != eta).any(axis=1)
    assert moved.mean() == pytest.approx(0.2, abs=0.03)
    # A region beyond the edge leaves rest on its own, whatever it is tied to.
    states = np.stack([equilibrium_of(np.asarray(observed.weights), row, 1.0) for row in crossed[moved][:50]])
    assert (states[:, 2] > leaving_rest()).all()
    assert (states[:, 1] < leaving_rest()).all()


@pytest.mark.parametrize("side", [0.0, -1.0])
def test_coordinates_keep_the_prior_of_excitability(side: float) -> None:
    rng = np.random.default_rng(3)
    weights, mean = _weights(rng), np.full(REGIONS, -3.0)
    observed = observe(weights, np.ones((SENSORS, REGIONS)), np.zeros((SAMPLES, SENSORS)), 0.5, mean, UNITS)
    observed = dataclasses.replace(observed, side=jnp.full(REGIONS, side))
    with jax.enable_x64(True):
        standard = {name: jnp.asarray(rng.normal(size=(REGIONS,) if name in ("x", "z") else ())) for name in SITES}
        point = jnp.asarray(rng.normal(size=REGIONS))

        def eta(u: Any) -> Any:
            return parameters(observed, standard | {"equilibrium": u})[0]["eta"]

        site, correction = parameters(observed, standard | {"equilibrium": point})
        log_jacobian = float(jnp.linalg.slogdet(jax.jacfwd(eta)(point))[1])
    wanted = scipy.stats.norm(mean, ETA_SCALE).logpdf(np.asarray(site["eta"])).sum() + log_jacobian
    assert float(correction) + scipy.stats.norm().logpdf(np.asarray(point)).sum() == pytest.approx(wanted)
    again = equilibrium_of(np.asarray(observed.weights), np.asarray(site["eta"]), float(site["K"]))
    np.testing.assert_allclose(again, resting(observed.side, point)[0], atol=1e-8)
    np.testing.assert_allclose(excitability(np.asarray(observed.weights), again, float(site["K"])), site["eta"])


def test_baselines_integrated_out_are_a_normal_density_with_one_covariance() -> None:
    residual = np.random.default_rng(4).normal(size=(5, 3))
    covariance = 0.09 * np.eye(5) + 0.25 * np.ones((5, 5))
    wanted = sum(scipy.stats.multivariate_normal(np.zeros(5), covariance).logpdf(column) for column in residual.T)
    with jax.enable_x64(True):
        got = float(log_likelihood(jnp.asarray(residual), jnp.asarray(0.3), jnp.asarray(0.5)))
    assert got == pytest.approx(wanted)


def test_noise_alone_has_chi_square_one_and_what_lasts_raises_it() -> None:
    noise = np.random.default_rng(5).normal(size=(400, 20))
    lasting = np.sin(np.linspace(0.0, 20.0, 400))[:, None]
    assert chi_square(noise) == pytest.approx(1.0, abs=0.04)
    assert chi_square(noise + 0.5 * lasting) == pytest.approx(1.125, abs=0.04)
    assert noise_of(noise) == pytest.approx(1.0, abs=0.05)


def test_recruitment_is_the_first_crossing_between_samples_or_none() -> None:
    x = np.full((1, 6, 2), -2.0)
    x[0, 3:, 0] = 0.0
    onset = recruitment(x, 2.0)
    assert onset[0, 0] == pytest.approx((2.0 + 2.0 / 3.0) * 2.0)
    assert np.isnan(onset[0, 1])
