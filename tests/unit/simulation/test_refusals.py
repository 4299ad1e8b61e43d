"""What cannot be simulated is refused by name, value and rule before anything runs."""

from __future__ import annotations

import numpy as np
import pytest

from vbt.simulation import (
    BalloonWindkessel,
    Epileptor2D,
    Linear,
    MontbrioPazoRoxin,
    Network,
    Stimulus,
    TemporalAverage,
    constant,
    delay_steps,
    differentiable,
    simulate,
)

TWO = np.array([[0.0, 1.0], [0.5, 0.0]])


def network(**changes) -> Network:
    return Network(**({"mass": Linear(), "weights": TWO, "tract_lengths": 10 * TWO, "velocity": 1.0} | changes))


def changed(matrix: np.ndarray, value: float) -> np.ndarray:
    return np.where(np.arange(4).reshape(2, 2) == 1, value, matrix)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": changed(TWO, np.nan)}, r"weights must be finite and not negative, got nan at \[0, 1\]"),
        ({"weights": changed(TWO, -0.25)}, r"weights must be finite and not negative, got -0.25 at \[0, 1\]"),
        ({"tract_lengths": changed(TWO, np.inf)}, r"tract_lengths must be finite and not negative, got inf"),
        ({"tract_lengths": changed(TWO, -3.0)}, r"tract_lengths must be finite and not negative, got -3 at \[0, 1\]"),
        ({"weights": np.ones((2, 3))}, r"weights must be square.*got \(2, 3\)"),
        ({"weights": np.ones((2, 2, 2))}, r"weights must be square, one matrix or one for each of 1 channels"),
        ({"tract_lengths": np.ones((3, 3))}, r"tract_lengths must be \(2, 2\) as weights, got \(3, 3\)"),
        ({"velocity": 0.0}, "velocity must be positive, got 0 m/s"),
        ({"velocity": changed(TWO + 1, -2.0)}, "velocity must be positive, got -2 m/s"),
        ({"velocity": np.ones(2)}, r"velocity must be one number or \(2, 2\), got \(2,\)"),
        ({"coupling": np.nan}, "coupling must be finite, got nan"),
        ({"region_labels": ("a", "b", "c")}, "region_labels must name 2 regions, got 3"),
        ({"initial": np.zeros((2, 2))}, r"initial must be \(1, 2\), got \(2, 2\)"),
        ({"active": np.ones(3, bool)}, r"active must be \(2,\), got \(3,\)"),
        ({"sigma": (0.1, 0.1)}, r"sigma needs one entry per state variable \('x',\), got 2"),
        ({"sigma": (-0.1,)}, "sigma must be finite and not negative, got -0.1 on x"),
        ({"mass": Linear(I=np.zeros(3))}, r"Linear.I must be one number or \(2,\), got \(3,\)"),
        ({"mass": Epileptor2D(tau0=np.array([10.0, -1.0]))}, r"Epileptor2D.tau0 must lie in .*, got -1 in region 1"),
        ({"region_labels": ("a", "a")}, "region_labels must be different from each other, got that of region 1 again"),
        ({"initial": np.array([[0.0, np.nan]])}, "initial must be finite, got nan for x in region 1"),
        ({"active": np.array([1, 0])}, "active must be True or False for every region, got int64"),
        ({"sigma": (np.ones(3),)}, r"sigma of x must be one number or \(2,\), got \(3,\)"),
        ({"stimulus": Stimulus(amplitude=np.ones(3), waveforms=(constant(),))}, "one amplitude for each of 2 regions"),
        ({"mass": Linear(milliseconds_per_unit=0.0)}, "milliseconds_per_unit must be positive and finite, got 0"),
        ({"balloon": BalloonWindkessel(tau=np.ones(3))}, r"BalloonWindkessel.tau must be one number or \(2,\), got"),
        ({"balloon": BalloonWindkessel(tau=0.0)}, r"BalloonWindkessel.tau must lie in \(0, inf\), got 0"),
        ({"balloon": BalloonWindkessel(alpha=-0.3)}, r"BalloonWindkessel.alpha must lie in \(0, inf\), got -0.3"),
        ({"balloon": BalloonWindkessel(E0=1.5)}, r"BalloonWindkessel.E0 must lie in \(0, 1\), got 1.5"),
        ({"mass": MontbrioPazoRoxin(Delta=np.nan)}, "MontbrioPazoRoxin.Delta must lie in .*, got nan"),
    ],
)
def test_a_network_that_means_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        network(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dt": 1.5}, r"dt must lie in \(0, 1\] ms for Linear, got 1.5 ms"),
        ({"dt": 0.0}, r"dt must lie in \(0, 1\] ms"),
        ({"duration": 0.0}, "duration must hold at least one sampling period, got 0 s"),
        ({"transient": 0.00015}, "transient must be a whole number of time steps of 0.1 ms, got 0.00015 s"),
        ({"monitors": [TemporalAverage(0.00025)]}, "TemporalAverage.period must be a whole number of time steps"),
        ({"duration": np.nan}, "duration must be finite, got nan s"),
        ({"duration": np.inf}, "duration must be finite, got inf s"),
        ({"transient": -0.01}, "transient must be finite and not negative, got -0.01 s"),
        ({"transient": np.inf}, "transient must be finite and not negative, got inf s"),
        ({"monitors": [TemporalAverage(np.nan)]}, "TemporalAverage.period must be finite and not negative, got nan s"),
        ({"monitors": []}, "at least one monitor"),
        ({"precision": "half"}, "precision must be 'single' or 'double', got 'half'"),
        ({"engine": "cuda"}, "engine must be 'native' or 'xla', got 'cuda'"),
        ({"engine": "native", "integrator": "rk4"}, "engine 'native' must integrate with 'heun', got 'rk4'"),
        ({"seeds": [-1]}, r"seeds must be whole numbers in \[0, 2\^63\), got -1"),
        ({"seeds": [2**63]}, r"seeds must be whole numbers in \[0, 2\^63\), got 9223372036854775808"),
        ({"seeds": [1.5]}, r"seeds must be whole numbers in \[0, 2\^63\), got 1.5"),
        ({"integrator": "euler"}, "integrator must be 'heun' or 'rk4', got 'euler'"),
        ({"seeds": [1, 2]}, "one seed per network, at least one network; got 1 and 2"),
        ({"networks": [network(velocity=200.0)]}, "one time step of 0.1 ms at least .*, got 0.025 ms"),
        ({"networks": [network(sigma=(0.1,))], "integrator": "rk4"}, "'rk4' is for networks without noise"),
        ({"networks": [network(), network(mass=Epileptor2D())], "seeds": [0, 0]}, "share the type of neural mass"),
        ({"networks": [network(), network(region_labels=("a", "b"))], "seeds": [0, 0]}, "and the regions"),
    ],
)
def test_a_simulation_that_cannot_be_right_is_refused(changes, message):
    arguments = {
        "networks": [network()],
        "seeds": [0],
        "duration": 0.01,
        "monitors": [TemporalAverage(0.01)],
        "dt": 0.1,
    }
    arguments |= changes
    networks, seeds = arguments.pop("networks"), arguments.pop("seeds")
    with pytest.raises(ValueError, match=message):
        simulate(networks, seeds, **arguments)


def test_a_delay_of_exactly_one_step_is_not_too_short():
    # 0.3 mm at 3 m/s come out as 0.09999999999999999 ms.
    tracts = network(tract_lengths=0.3 * (TWO > 0), velocity=3.0)
    assert tracts.delays.max() < 0.1
    np.testing.assert_array_equal(delay_steps(tracts, 0.1), TWO > 0)


def test_a_differentiable_simulation_of_different_delays_is_refused():
    with pytest.raises(ValueError, match="share their delays"):
        differentiable(
            [network(), network(velocity=2.0)], [0, 0], duration=0.01, monitors=[TemporalAverage(0.01)], dt=0.1
        )
