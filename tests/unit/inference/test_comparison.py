"""Equal posteriors are told from moved ones, also where a parameter has many values."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vbt.inference import Calibration, ParameterDiagnostics
from vbt.inference._comparison import moved
from vbt.simulation import record


def posterior(seed: int, **change: float) -> Calibration:
    rng = np.random.default_rng(seed)
    draws = {"K": 1.0 + 0.1 * rng.normal(size=(4, 300)), "eta": -2.0 + rng.normal(size=(4, 300, 80))}
    draws["K"] += change.get("K", 0.0)
    draws["eta"][..., 7] += change.get("eta", 0.0)
    return Calibration(
        region_labels=tuple(f"r{i}" for i in range(80)),
        used_regions=np.arange(80),
        draws=draws,
        priors={},
        parameters=(ParameterDiagnostics(name="K", r_hat=1.0, ess_bulk=1200.0, ess_tail=1200.0, shrinkage=0.9),),
        sampler=None,
        verdict="sound",
        reasons=(),
        warnings=(),
        checks=(),
        manifest=record(
            "test", inputs={}, outputs={}, parameters={}, seeds=(0,), dt=None, precision="double", batch_shape=(4,)
        ),
    )


def test_other_draws_of_one_posterior_are_equal():
    assert [moved(posterior(seed), posterior(seed + 100)) for seed in range(5)] == [""] * 5
    assert moved(posterior(0), posterior(0)) == ""


@pytest.mark.parametrize(("name", "shift"), [("K", 0.03), ("eta", 0.4)])
def test_one_value_that_moved_is_found_and_named(name, shift):
    assert moved(posterior(0), posterior(1, **{name: shift})).startswith(name)


def test_posteriors_of_other_parameters_are_not_compared():
    other = posterior(1)
    assert moved(posterior(0), dataclasses.replace(other, draws={"K": other.draws["K"]})) == "the parameters differ"


def test_draws_that_do_not_vary_move_by_any_difference():
    fixed = dataclasses.replace(posterior(0), draws={"K": np.ones((4, 10))})
    assert moved(fixed, fixed) == ""
    assert "K moved" in moved(fixed, dataclasses.replace(fixed, draws={"K": np.full((4, 10), 1.01)}))
