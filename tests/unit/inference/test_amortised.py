"""A trained ensemble gives the posterior that a closed form gives, and knows what it was not trained on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vbt.inference import gate
from vbt.inference._amortised import AmortisedPosterior, train
from vbt.inference._amortised_features import Summaries
from vbt.inference._amortised_resting_state import AmortisedTwin, samples_used, train_amortised
from vbt.inference._amortised_simulations import PARAMETERS, of_deviate, population_model
from vbt.inference._gate import diagnose

NOISE = np.array([0.5, 1.0])


@pytest.fixture(scope="module")
def trained():
    """θ ~ N(0, 1), seen once with noise of .5 and 1: the posterior's mean is y/(1+σ²), its variance σ²/(1+σ²)."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(1600, 2))
    seen = theta + NOISE * rng.normal(size=theta.shape)
    features = np.column_stack([3.0 + 2.0 * seen, seen.sum(axis=1) + rng.normal(size=1600)])
    return train(
        theta,
        features,
        parameter_names=("a", "b"),
        feature_names=("x", "y", "z"),
        card={"context_of_use": "test"},
        rng_seed=1,
        flows=2,
    )


def test_the_posterior_is_that_of_the_closed_form(trained):
    for seen in ((0.8, -0.5), (-1.0, 1.0)):
        summary = np.array([*(3.0 + 2.0 * np.array(seen)), sum(seen)])
        draws = trained.draw(summary, 2000, rng_seed=3).reshape(-1, 2)
        np.testing.assert_allclose(draws.mean(axis=0), np.array(seen) / (1 + NOISE**2), atol=0.2)
        np.testing.assert_allclose(draws.std(axis=0), NOISE / np.sqrt(1 + NOISE**2), rtol=0.2)


def test_held_out_simulations_are_covered(trained):
    assert trained.card["training_simulations"] == 1440
    for name in ("a", "b"):
        assert 0.82 < trained.card["validation"]["coverage_90"][name] < 0.97
    assert trained.card["validation"]["shrinkage"]["a"] == pytest.approx(0.8, abs=0.08)


def test_what_lies_outside_the_training_is_refused_and_what_lies_inside_is_not(trained):
    def reasons(summary):
        deviates = trained.draw(np.array(summary), 500, rng_seed=3)
        good = diagnose("a", deviates[..., 0], deviates[..., 0])
        parameters = (dataclasses.replace(good, r_hat=1.0, ess_bulk=1000.0, ess_tail=1000.0),)
        return gate(parameters, None, novelty=trained.novelty(np.array(summary), deviates))

    assert reasons([3.0, 3.0, 0.0]) == ()
    (said,) = (reason for reason in reasons([15.0, 3.0, 5.0]) if "out of distribution" in reason)
    assert "farthest out x, at +" in said
    # Each summary alone is common; together they contradict each other.
    assert any("out of distribution" in reason for reason in reasons([7.0, 7.0, -5.0]))
    assert trained.novelty(np.array([np.nan, 3.0, 0.0]), np.ones((2, 5, 2)) * np.arange(5)[:, None]).quantile == 1.0


def test_the_networks_may_disagree_as_far_as_they_do_on_simulations_held_out(trained):
    assert trained.disagreement_limit == max(1.0, trained.card["validation"]["disagreement_99"])
    held = dataclasses.replace(trained, disagreement_limit=1.3)
    again = AmortisedPosterior.from_npz(held.to_npz())
    novelty = again.novelty(np.array([3.0, 3.0, 0.0]), np.ones((2, 5, 2)) * np.arange(5)[None, :, None])
    assert novelty.disagreement_limit == 1.3
    good = diagnose("a", *[np.random.default_rng(0).normal(size=(2, 500))] * 2)
    parameters = (dataclasses.replace(good, r_hat=1.0, ess_bulk=1000.0, ess_tail=1000.0),)
    assert gate(parameters, None, novelty=dataclasses.replace(novelty, disagreement=1.2)) == ()
    (said,) = gate(parameters, None, novelty=dataclasses.replace(novelty, disagreement=1.4))
    assert "the trained networks disagree: by 1.40 standard deviations, limit 1.30" in said


def test_a_network_survives_its_archive(trained):
    content = trained.to_npz()
    again = AmortisedPosterior.from_npz(content)
    assert again.to_npz() == content
    assert again.digest == trained.digest
    summary = np.array([3.0, 3.0, 0.0])
    np.testing.assert_array_equal(again.draw(summary, 50, rng_seed=1), trained.draw(summary, 50, rng_seed=1))


def test_priors_are_what_their_names_say():
    deviates = np.random.default_rng(0).normal(size=100_000)
    assert of_deviate("g", deviates).mean() == pytest.approx(0.59, abs=0.005)
    assert of_deviate("alpha", deviates).std() == pytest.approx(12**-0.5, rel=0.01)
    assert np.median(of_deviate("p", deviates)) == pytest.approx(np.exp(-0.36), rel=0.01)
    assert of_deviate("h", deviates).mean() == pytest.approx(0.7 * np.sqrt(2 / np.pi), rel=0.01)


def test_weaker_connections_between_hemispheres_weaken_only_those(connectome):
    model = population_model(connectome, np.arange(24), samples=100, repetition_time=2.0)
    whole, cut = (model.coupling({"p": 1.0, "h": 0.0, "alpha": alpha}) for alpha in (0.0, 0.5))
    ratio = cut[whole > 0] / whole[whole > 0]
    between = model.between[whole > 0]
    assert np.unique(ratio[between].round(9)).size == np.unique(ratio[~between].round(9)).size == 1
    assert ratio[between][0] / ratio[~between][0] == pytest.approx(0.5)


def test_coupling_raises_connectivity_and_the_summaries_see_it(connectome):
    model = population_model(connectome, np.arange(24), samples=100, repetition_time=2.0)
    summaries = Summaries(model)
    bold = model.simulate(np.array([[-1.5, 0, 0, 0], [2.2, 0, 0, 0]] * 3), rng_seed=2)
    found = np.stack([summaries(one) for one in bold])
    weak, strong = found[::2].mean(axis=0), found[1::2].mean(axis=0)
    for name in ("fc-mode-0", "fc-eigenvalue-0"):
        assert strong[summaries.names.index(name)] > weak[summaries.names.index(name)]
    again = model.simulate(np.array([[-1.5, 0, 0, 0], [2.2, 0, 0, 0]] * 3), rng_seed=2)
    np.testing.assert_array_equal(bold, again)


class _Kept(dict):
    def load(self, name):
        return self.get(name)

    def save(self, name, content):
        self[name] = content


def test_training_resumes_to_the_same_network(connectome):
    """60 simulations and no more: enough to see that a kept batch is not simulated again."""
    kept, heard = _Kept(), []

    def go(checkpoint):
        return train_amortised(
            connectome,
            np.arange(24),
            samples=90,
            repetition_time=2.0,
            rng_seed=4,
            simulations=60,
            flows=1,
            progress=lambda message, fraction: heard.append((message, fraction)),
            checkpoint=checkpoint,
        )

    first = go(kept)
    assert set(kept) == {"simulations-0", "simulations-48", "flow-0"}
    del kept["simulations-48"], kept["flow-0"]
    assert go(kept).posterior.digest == first.posterior.digest
    assert set(kept) == {"simulations-0", "simulations-48", "flow-0"}
    assert go(kept).posterior.digest == first.posterior.digest
    assert heard[-1][1] == 1.0
    # The same connectome, recording and seed: the network is taken as it is; another seed has another network.
    same = {"samples": 90, "repetition_time": 2.0, "simulations": 60, "flows": 1, "trained": [first.posterior]}
    assert train_amortised(connectome, np.arange(24), rng_seed=4, **same).posterior is first.posterior
    assert not first.posterior.trained_as({**first.posterior.card, "rng_seed": 5})
    assert not first.posterior.trained_as({**first.posterior.card, "simulations": 61})
    calibration = first.calibrate(first.model.simulate(np.zeros((1, 4)), rng_seed=5)[0], rng_seed=1)
    assert set(calibration.draws) == set(PARAMETERS)
    again = type(calibration).from_npz(calibration.to_npz())
    assert again.novelty == calibration.novelty
    assert again.network == first.posterior.digest


def test_what_identifies_nothing_is_refused_as_not_identifiable(connectome):
    """A network trained on pairs in which the recording says nothing of the parameters: prior in, prior out."""
    model = population_model(connectome, np.arange(24), samples=90, repetition_time=2.0)
    bold = model.simulate(np.random.default_rng(2).normal(size=(48, 4)), rng_seed=3)
    seen = np.stack([Summaries(model)(recording) for recording in bold])
    rng = np.random.default_rng(4)
    blind = train(
        rng.normal(size=(800, 4)),
        seen[rng.integers(48, size=800)] + 1e-3 * rng.normal(size=(800, seen.shape[1])),
        parameter_names=PARAMETERS,
        feature_names=Summaries(model).names,
        card={},
        rng_seed=1,
        flows=1,
    )
    twin = AmortisedTwin(model=model, used=tuple(range(24)), posterior=blind)
    calibration = twin.calibrate(bold[0], rng_seed=1, predict=False)
    assert not calibration.sound
    assert any(reason.startswith("g is not identifiable from this recording") for reason in calibration.reasons)


@pytest.mark.parametrize(
    ("samples", "repetition_time", "code"), [(80, 2.0, "bold-too-short"), (300, 4.5, "bold-sampled-too-slowly")]
)
def test_a_recording_that_cannot_inform_the_features_is_refused(samples, repetition_time, code):
    from vbt.errors import Rejected

    with pytest.raises(Rejected) as refused:
        samples_used(samples, repetition_time)
    assert refused.value.code == code


def test_no_more_than_five_minutes_are_looked_at():
    assert samples_used(800, 2.0) == 150
    assert samples_used(100, 2.0) == 100
