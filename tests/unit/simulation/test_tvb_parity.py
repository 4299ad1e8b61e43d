"""Every neural mass against The Virtual Brain: random states and parameters, and coupling through its simulator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest
from tvb.simulator import lab

from vbt.simulation import Network, TemporalAverage, simulate
from vbt.simulation.neural_masses import neural_mass, neural_masses

models, coupling = lab.models, lab.coupling

TOLERANCE = 1e-10
SETS, STATES = 10, 100
ABSENT_FROM_TVB = {"dopamine-montbrio-pazo-roxin"}

Parameters = dict[str, Any]


@dataclass(frozen=True)
class Counterpart:
    """How one of our masses is said in The Virtual Brain."""

    model: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    parameters: Callable[[Parameters], Parameters]
    coupling: Callable[[Parameters, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    theirs_from_ours: tuple[int | None, ...] = ()  # for each of their variables ours; None for one we leave out
    ours: Parameters = dataclasses.field(default_factory=dict)
    whole: tuple[str, ...] = ()  # parameters that are whole numbers there


def _renamed(**names: str) -> Callable[[Parameters], Parameters]:
    return lambda p: {theirs: p[ours] for theirs, ours in names.items()}


def _same(*names: str, **rest: str) -> Callable[[Parameters], Parameters]:
    return _renamed(**{name: name for name in names}, **rest)


# What arrives, as their coupling variables, from parameters, afferents, in-strengths and state.
def _plain(_: Parameters, afferents: np.ndarray, *rest: np.ndarray) -> np.ndarray:
    del rest
    return afferents


def _difference(_: Parameters, afferents: np.ndarray, in_strengths: np.ndarray, state: np.ndarray) -> np.ndarray:
    return afferents - in_strengths * state[: len(afferents)]


def _sine(_: Parameters, afferents: np.ndarray, __: np.ndarray, state: np.ndarray) -> np.ndarray:
    return np.cos(state) * afferents[:1] - np.sin(state) * afferents[1:]


def _padded(_: Parameters, afferents: np.ndarray, *rest: np.ndarray) -> np.ndarray:
    """Their second coupling variable, which we leave out, at zero."""
    del rest
    return np.concatenate([afferents, np.zeros_like(afferents)])


def _epileptor(p: Parameters) -> Parameters:
    return {"x0": p["x0"], "Iext": p["I1"], "slope": p["slope"], "r": p["r"], "Ks": -p["K"], "Kvf": p["K_vf"]} | {
        "Iext2": p["I2"]
    }


def _wong_wang(p: Parameters) -> Parameters:
    per_ms = {"a": p["a"] / 1000, "b": p["b"] / 1000, "d": p["d"] * 1000}
    return per_ms | _same("gamma", "w", "J_N", tau_s="tau", I_o="I0")(p)


def _exc_inh(p: Parameters) -> Parameters:
    own = {f"{name}_{side.lower()}": p[f"{name}_{side}"] for name in ("a", "b", "d", "tau", "W") for side in "EI"}
    gamma = {"gamma_e": p["gamma_E"] / 1000, "gamma_i": p["gamma_I"] / 1000}
    names = _renamed(w_p="w_plus", J_N="J_N", J_i="J_I", I_o="I0", I_ext="I_ext", lamda="feedforward", M_i="M")
    return own | gamma | names(p) | {"G": 1.0}


def _zerlaut(p: Parameters) -> Parameters:
    same = _same("g_L", "C_m", "E_L_e", "E_L_i", "E_e", "E_i", "Q_e", "Q_i", "tau_e", "tau_i", "g", "T")(p)
    rest = _renamed(N_tot="N", p_connect_e="p", p_connect_i="p", K_ext_e="K", a_e="a", b_e="b", tau_w_e="tau_w")(p)
    outside = _renamed(external_input_ex_ex="nu_ext", external_input_in_ex="nu_ext", weight_noise="w_o", tau_OU="tau_o")
    return same | rest | outside(p)


def _kionex(p: Parameters) -> Parameters:
    same = _same("K_bath", "E", "J", "eta", "Delta", "R_minus", "c_minus", "R_plus", "c_plus", "tau_n", "gamma")(p)
    return same | _renamed(epsilon="epsilon", Vstar="V_star", Cm="C")(p)


_FITZHUGH = ("tau", "I", "a", "b", "c", "d", "e", "f", "g", "alpha", "beta", "gamma")
_COWAN = ("c_ee", "c_ei", "c_ie", "c_ii", "tau_e", "tau_i", "a_e", "a_i", "r_e", "r_i", "k_e", "k_i", "P", "Q")
_BREAKSPEAR = (
    *("gCa", "gK", "gL", "gNa", "TK", "TCa", "TNa", "VCa", "VK", "VL", "VNa", "VT", "ZT", "QV_max", "QZ_max"),
    *("aei", "aie", "aee", "ane", "ani", "b", "C", "rNMDA", "phi", "tau_K"),
)

COUNTERPARTS = {
    "epileptor": Counterpart(
        "Epileptor",
        (-2.0, -20.0, -1.0, -2.0, 0.0, -1.0),
        (1.0, 2.0, 5.0, 2.0, 2.0, 1.0),
        _epileptor,
        lambda p, a, s, x: _padded(p, _difference(p, a, s, x)),
    ),
    "epileptor-2d": Counterpart(
        "Epileptor2D",
        (-2.0, 0.0),
        (0.0, 5.0),
        lambda p: {"x0": p["x0"], "Iext": p["I1"], "Ks": -p["K"], "r": 1.0 / p["tau0"]},
        _difference,
    ),
    "montbrio-pazo-roxin": Counterpart(
        "MontbrioPazoRoxin", (0.0, -2.0), (2.0, 1.5), _same("tau", "I", "Delta", "J", "eta"), _padded
    ),
    "stuart-landau": Counterpart("SupHopf", (-5.0, -5.0), (5.0, 5.0), _same("a", "omega"), _difference),
    "jansen-rit": Counterpart(
        "JansenRit",
        (-1.0, -50.0, -50.0, -6.0, -20.0, -20.0),
        (1.0, 50.0, 50.0, 6.0, 20.0, 20.0),
        _same("A", "B", "a", "b", "v0", "r", nu_max="e0", J="C", a_1="c1", a_2="c2", a_3="c3", a_4="c4", mu="p"),
        _padded,
    ),
    "wong-wang": Counterpart("ReducedWongWang", (0.0,), (1.0,), _wong_wang, _plain),
    "wong-wang-exc-inh": Counterpart("DecoBalancedExcInh", (0.0, 0.0), (1.0, 1.0), _exc_inh, _plain),
    "zerlaut": Counterpart(
        "ZerlautAdaptationFirstOrder",
        (0.0, 0.0, 0.0, -10.0),
        (0.1, 0.1, 200.0, 10.0),
        _zerlaut,
        _plain,
        theirs_from_ours=(0, 1, 2, None, 3),
        whole=("N", "K"),
    ),
    "wilson-cowan": Counterpart(
        "WilsonCowan", (0.0, 0.0), (1.0, 1.0), _same(*_COWAN, b_e="theta_e", b_i="theta_i"), _padded
    ),
    "kuramoto": Counterpart(
        "Kuramoto",
        (0.0,),
        (2 * np.pi,),
        _same("omega"),
        _sine,
    ),
    "generic-2d-oscillator": Counterpart("Generic2dOscillator", (-2.0, -6.0), (4.0, 6.0), _same(*_FITZHUGH), _plain),
    "larter-breakspear": Counterpart(
        "LarterBreakspear",
        (-1.5, -1.5, -1.5),
        (1.5, 1.5, 1.5),
        _same(*_BREAKSPEAR, Iext="I", d_V="dV", d_Z="dZ", d_K="dK", d_Ca="dCa", d_Na="dNa"),
        _plain,
    ),
    "kionex": Counterpart(
        "KIonEx",
        (0.0, -90.0, 0.0, -10.0, -1.0),
        (1.0, 30.0, 1.0, 0.0, 20.0),
        _kionex,
        lambda p, afferents, *_: afferents * np.pi / p["R_minus"],
        ours={"local_conductance": False},
    ),
    "linear": Counterpart("Linear", (-1.0,), (1.0,), lambda p: {"gamma": -p["decay"]}, lambda p, a, *_: a + p["I"]),
}


def _draw(counterpart: Counterpart, name: str, rng: np.random.Generator) -> tuple[Any, Parameters, np.ndarray]:
    """Our mass with parameters a tenth around their defaults, the same as numbers, and states."""
    mass = neural_mass(name)
    described = {f.name: f.metadata["parameter"] for f in dataclasses.fields(mass) if "parameter" in f.metadata}
    drawn = {n: row.default + 0.1 * (abs(row.default) or 1.0) * rng.uniform(-1, 1) for n, row in described.items()}
    drawn |= {n: abs(drawn[n]) for n, row in described.items() if row.domain.startswith(("[0", "(0"))}
    drawn |= {n: round(drawn[n]) for n in counterpart.whole}
    states = rng.uniform(
        np.array(counterpart.low)[:, None], np.array(counterpart.high)[:, None], (len(mass.variables), STATES)
    )
    drawn |= counterpart.ours
    return mass(**drawn), drawn, states


def _ours(mass: Any, states: np.ndarray, afferents: np.ndarray, in_strengths: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        slopes = mass.derivative(tuple(states), tuple(afferents), tuple(in_strengths), np.float64(0.0))
        return np.stack([np.broadcast_to(np.asarray(slope), states.shape[1:]) for slope in slopes])


def _theirs(counterpart: Counterpart, p: Parameters, states: np.ndarray, coupling: np.ndarray) -> np.ndarray:
    model = getattr(models, counterpart.model)(**{k: np.array([v]) for k, v in counterpart.parameters(p).items()})
    model.configure()
    order = counterpart.theirs_from_ours or tuple(range(len(states)))
    whole = np.stack([np.zeros(STATES) if i is None else states[i] for i in order])
    slopes = model.dfun(whole[..., None], coupling[..., None].copy())[..., 0]
    return slopes[[position for position, i in enumerate(order) if i is not None]]


def _largest_relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.max(np.abs(ours - theirs) / np.maximum(np.abs(theirs), np.finfo(float).tiny)))


def _compare(name: str, correction: Callable[[Any, np.ndarray], np.ndarray] | None = None, **changes: Any) -> float:
    counterpart = dataclasses.replace(COUNTERPARTS[name], **changes)
    rng = np.random.default_rng(20261122)
    worst = 0.0
    for _ in range(SETS):
        mass, drawn, states = _draw(counterpart, name, rng)
        afferents, in_strengths = rng.uniform(0.0, 0.1, (2, len(mass.channels), STATES))
        ours = _ours(mass, states, afferents, in_strengths)
        if correction is not None:
            ours = ours + correction(mass, states)
        coupling = counterpart.coupling(drawn, afferents, in_strengths, states)
        worst = max(worst, _largest_relative_error(ours, _theirs(counterpart, drawn, states, coupling)))
    return worst


def test_every_mass_has_its_counterpart_or_is_absent_from_tvb():
    assert set(COUNTERPARTS) | ABSENT_FROM_TVB == set(neural_masses())


@pytest.mark.parametrize("name", sorted(COUNTERPARTS))
def test_derivative_agrees_with_tvb(name):
    assert _compare(name) < TOLERANCE


def test_wong_wang_without_extra_gain_is_the_other_tvb_model():
    def plain(p: Parameters) -> Parameters:
        return {name: value for name, value in _exc_inh(p).items() if name != "M_i"}

    changes = {"model": "ReducedWongWangExcInh", "parameters": plain}
    assert _compare("wong-wang-exc-inh", **changes, ours={"M": 1.0}) < TOLERANCE
    assert _compare("wong-wang-exc-inh", **changes) > 1e-3


def test_plain_cubic_of_the_two_dimensional_epileptor_is_the_one_deviation():
    def swap(mass: Any, states: np.ndarray) -> np.ndarray:
        x, z = states
        plain, piecewise = x**3 + 2.0 * x**2, (5.0 * x - 0.6 * (z - 4.0) ** 2) * x
        return np.stack([np.where(x < 0, 0.0, plain - piecewise), np.where(z < 0, -0.1 * z**7, 0.0) / mass.tau0])

    everywhere = {"low": (-2.0, -1.0), "high": (1.0, 5.0)}
    assert _compare("epileptor-2d", **everywhere) > 1e-3
    assert _compare("epileptor-2d", swap, **everywhere) < TOLERANCE


def test_kionex_differs_by_the_conductance_that_tvb_leaves_out():
    def without(mass: Any, states: np.ndarray) -> np.ndarray:
        x, V, *_ = states
        correction = np.zeros_like(states)
        correction[1] = -mass.J * mass.R_minus * x / np.pi * (mass.E - V)
        return correction

    assert _compare("kionex", ours={}) > 1e-5
    assert _compare("kionex", without, ours={}) < TOLERANCE


def test_tvb_gives_jansen_and_rit_another_threshold_in_the_node_than_in_the_coupling():
    assert (models.JansenRit().v0[0], coupling.SigmoidalJansenRit().midpoint[0]) == (5.52, 6.0)
    assert neural_mass("jansen-rit")().v0 == 6.0


def test_gain_has_no_hole_at_threshold_where_tvb_has():
    mass = neural_mass("wong-wang")(w=0.0, I0=0.5, a=216.0)
    ours = _ours(mass, np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)))
    assert ours[0, 0] == pytest.approx(mass.gamma / mass.d / 1000.0)
    theirs = models.ReducedWongWang(**{k: np.array([v]) for k, v in _wong_wang(vars(mass)).items()})
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(theirs.dfun(np.zeros((1, 1, 1)), np.zeros((1, 1, 1)))).all()


STRENGTH = 0.3


def _coupling(name: str, mass: Any) -> Any:
    strength = {"a": np.array([STRENGTH])}
    if name in ("epileptor", "epileptor-2d", "stuart-landau"):
        return coupling.Difference(**strength)
    if name == "kuramoto":  # documented as a / N but divided by the number of coupling variables, one
        return coupling.Kuramoto(**strength)
    if name == "jansen-rit":
        sigmoid = {"cmax": 2 * mass.e0, "midpoint": mass.v0, "r": mass.r}
        return coupling.SigmoidalJansenRit(**strength, **{k: np.array([v]) for k, v in sigmoid.items()})
    if name == "larter-breakspear":
        rate = {"a": 0.5 * STRENGTH * mass.QV_max, "b": 1.0, "midpoint": mass.VT, "sigma": mass.dV}
        return coupling.HyperbolicTangent(**{k: np.array([v]) for k, v in rate.items()})
    return coupling.Linear(**strength, b=np.array([0.0]))


def _simulator(
    model: Any, connectivity: tuple[np.ndarray, np.ndarray], coupling: Any, integrator: Any, start: Any, duration: float
) -> Any:
    weights, lengths = connectivity
    tracts = lab.connectivity.Connectivity(
        weights=weights,
        tract_lengths=lengths,
        region_labels=np.array(list("abcd")),
        centres=np.zeros((4, 3)),
        speed=np.array([4.0]),
    )
    horizon = int(np.rint(lengths / 4.0 / integrator.dt).max()) + 1
    return lab.simulator.Simulator(
        model=model,
        connectivity=tracts,
        coupling=coupling,
        integrator=integrator,
        initial_conditions=np.tile(start[None, :, :, None], (horizon, 1, 1, 1)),
        monitors=(lab.monitors.Raw(),),
        simulation_length=duration,
    ).configure()


@pytest.mark.parametrize("name", sorted(set(COUNTERPARTS) - {"linear"}))
def test_coupling_agrees_with_one_step_of_tvbs_simulator(name):
    """Four regions, asymmetric weights: sign, direction and nonlinearity; its history is in single precision."""
    counterpart, rng, step = COUNTERPARTS[name], np.random.default_rng(7), 1e-3
    mass, drawn, states = _draw(counterpart, name, rng)
    states, weights = states[:, :4], rng.uniform(0.1, 1.0, (4, 4)) * (1 - np.eye(4))
    order = counterpart.theirs_from_ours or tuple(range(len(states)))
    whole = np.stack([np.zeros(4) if i is None else states[i] for i in order])
    simulator = _simulator(
        model=getattr(models, counterpart.model)(
            **{k: np.array([v]) for k, v in counterpart.parameters(drawn).items()}
        ),
        connectivity=(weights, np.zeros((4, 4))),
        coupling=_coupling(name, mass),
        integrator=lab.integrators.EulerDeterministic(dt=step),
        start=whole,
        duration=step,
    )
    simulator.run()
    kept = [position for position, i in enumerate(order) if i is not None]
    theirs = (simulator.current_state[:, :, 0] - whole)[kept] / step
    with jax.enable_x64(True):
        sent = [np.asarray(signal) for signal in mass.sent(tuple(states))]
    afferents = np.stack([STRENGTH * weights @ signal for signal in sent])
    in_strengths = np.stack([STRENGTH * weights.sum(axis=1)] * len(sent))
    ours = _ours(mass, states, afferents, in_strengths)
    effect = ours - _ours(mass, states, 0 * afferents, 0 * in_strengths)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(effect).max())


JANSEN_RIT = np.array([[0.05] * 4, [10.0, 12.0, 8.0, 11.0], [5.0] * 4, *np.zeros((3, 4))])
MONTBRIO = np.array([[1.5, 0.8, 1.0, 0.2], [0.5, -0.5, 0.3, -1.0]])


@pytest.mark.parametrize(
    ("mass", "start", "duration", "dt", "swing", "bound"),
    [
        (neural_mass("montbrio-pazo-roxin")(Delta=1.0, J=15.0, eta=-3.5, milliseconds_per_unit=1.0),
         MONTBRIO, 12.8, 0.02, 0.05, 8e-3),
        (neural_mass("jansen-rit")(), JANSEN_RIT, 400.0, 0.2, 4.0, 1.5e-4),
    ],
    ids=["montbrio-pazo-roxin", "jansen-rit"],
)  # fmt: skip
def test_oscillating_network_with_delays_and_no_noise_runs_as_in_tvb(mass, start, duration, dt, swing, bound):
    """It holds the coupling still over both stages of Heun's step, so the two meet as the step shrinks, linearly.

    ``bound`` is of the difference at the finer step, over the variable's largest value at the end.
    """
    rng = np.random.default_rng(11)
    weights, lengths = rng.uniform(0.1, 1.0, (4, 4)) * (1 - np.eye(4)), 4.0 * dt * rng.integers(50, 500, (4, 4))
    weights[2, 0] = lengths[1, 3] = 0.0  # a tract that is absent and one without delay
    network = Network(mass=mass, weights=weights, tract_lengths=lengths, velocity=4.0, coupling=STRENGTH, initial=start)
    name = {row: name for name, row in neural_masses().items()}[type(mass)]
    counterpart, differences = COUNTERPARTS[name], []
    for step in (dt, dt / 2):
        theirs = _simulator(
            model=getattr(models, counterpart.model)(
                **{k: np.array([v]) for k, v in counterpart.parameters(vars(mass)).items()}
            ),
            connectivity=(weights, lengths),
            coupling=_coupling(name, mass),
            integrator=lab.integrators.HeunDeterministic(dt=step),
            start=start,
            duration=duration,
        )
        theirs.run()
        monitors = (TemporalAverage(0.005 * dt),)
        ours = simulate([network], [0], duration=duration / 1000, monitors=monitors, dt=step, precision="double")
        differences.append(ours.final_state[0] - theirs.current_state[:, :, 0])
    assert np.ptp(ours.observations[0].values[0, -64:], axis=0).min() > swing  # phase errors would show
    coarse, fine = differences
    size = np.abs(ours.final_state[0]).max(axis=1, keepdims=True)
    assert np.abs(fine / size).max() < bound
    assert np.abs(coarse - 2.0 * fine).max() < 0.1 * np.abs(fine).max()
