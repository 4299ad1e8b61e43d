"""Every condition against its closed form, and every condition of size nothing against the network untouched."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import scipy.integrate

from vbt.simulation import (
    Condition,
    ConductionVelocity,
    Current,
    DeepBrainStimulation,
    Dose,
    DoseResponse,
    Drug,
    EdgeLesion,
    ElectrodeStimulation,
    FocusedUltrasound,
    Linear,
    MontbrioPazoRoxin,
    Network,
    NodeLesion,
    ParameterChange,
    Pharmacokinetics,
    PointSource,
    Resection,
    TemporalAverage,
    TemporalInterference,
    compose,
    condition_from_json,
    constant,
    delay_steps,
    drug_changes,
    electric_field,
    normal_field,
    potential,
    pulse_train,
    relative_speed,
    simulate,
    velocity_from_g_ratio,
    velocity_from_myelin,
)
from vbt.simulation._drug_classes import DRUG_CLASSES
from vbt.simulation.neural_masses import neural_masses

ORAL = Pharmacokinetics(
    volume=40.0, elimination=0.2, absorption=1.5, bioavailability=0.8, equilibration=0.7, source="made up"
)
BOLUS = Pharmacokinetics(volume=40.0, elimination=0.2, source="made up")
RESPONSE = DoseResponse(half_effective=2.5, steepness=1.7, source="made up")
TIMES = np.linspace(0.0, 100.0, 601)
CENTRES = np.array([[0.0, 0.0, 10.0], [20.0, 0.0, 0.0], [0.0, -30.0, 5.0]])
NORMALS = np.array([[0.0, 0.0, 2.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])


@pytest.fixture
def network() -> Network:
    rng = np.random.default_rng(4)
    weights = rng.uniform(0.1, 1.0, (3, 3)) * (1.0 - np.eye(3))
    lengths = rng.uniform(10.0, 50.0, (3, 3)) * (1.0 - np.eye(3))
    return Network(
        mass=MontbrioPazoRoxin(),
        weights=weights,
        tract_lengths=lengths,
        velocity=4.0,
        coupling=0.3,
        sigma=(0.0, 0.05),
        region_labels=("lh.a", "lh.b", "rh.a"),
    )


def _same_bits(network: Network, other: Network, regions: tuple[int, ...] = (0, 1, 2)) -> bool:
    runs = simulate(
        [network, other], [3, 3], duration=0.1, monitors=[TemporalAverage(0.01)], dt=0.1, transient=0.0
    ).observations[0]
    return np.array_equal(runs.values[0][:, list(regions)], runs.values[1][:, list(regions)])


# --- drugs


def test_half_the_largest_effect_is_at_ec50():
    response = dataclasses.replace(RESPONSE, largest=0.9)
    assert response.effect(2.5) == pytest.approx(0.45)
    assert response.effect(0.0) == 0.0
    effects = response.effect(np.geomspace(1e-6, 1e6, 50))
    assert (np.diff(effects) > 0).all()
    assert effects[-1] == pytest.approx(0.9, rel=1e-6)


@pytest.mark.parametrize(("kinetics", "arriving"), [(ORAL, 0.8), (BOLUS, 1.0)])
def test_area_under_the_curve_is_dose_over_clearance(kinetics, arriving):
    for course in (kinetics.plasma, kinetics.effect_site):
        area = scipy.integrate.simpson(course((Dose(time=0.0, amount=300.0),), TIMES), x=TIMES)
        assert area == pytest.approx(arriving * 300.0 / (40.0 * 0.2), rel=1e-4)


def test_doses_add_up():
    doses = (Dose(time=1.0, amount=300.0), Dose(time=8.0, amount=100.0))
    apart = [ORAL.effect_site((dose,), np.array([0.5, 9.0])) for dose in doses]
    np.testing.assert_allclose(ORAL.effect_site(doses, np.array([0.5, 9.0])), apart[0] + apart[1])
    assert apart[0][0] == 0.0


def test_oral_concentration_is_batemans():
    ka, ke = 1.5, 0.2
    expected = 0.8 * 300.0 / 40.0 * ka / (ka - ke) * (np.exp(-ke * TIMES) - np.exp(-ka * TIMES))
    np.testing.assert_allclose(ORAL.plasma((Dose(time=0.0, amount=300.0),), TIMES), expected, atol=1e-12)


def test_equal_rates_are_no_exception():
    """ka = ke: the limit of Bateman's formula is k t e^{−kt}."""
    kinetics = dataclasses.replace(ORAL, absorption=0.2, equilibration=None)
    expected = 0.8 * 300.0 / 40.0 * 0.2 * TIMES * np.exp(-0.2 * TIMES)
    np.testing.assert_allclose(kinetics.plasma((Dose(time=0.0, amount=300.0),), TIMES), expected, atol=1e-12)


def test_the_effect_site_follows_the_plasma():
    """Three exponentials, the partial fractions of ka ke0 / (s + ka)(s + ke)(s + ke0)."""
    ka, ke, ke0 = 1.5, 0.2, 0.7
    terms = [np.exp(-a * TIMES) / ((b - a) * (c - a)) for a, b, c in ((ka, ke, ke0), (ke, ka, ke0), (ke0, ka, ke))]
    expected = 0.8 * 300.0 / 40.0 * ka * ke0 * sum(terms)
    np.testing.assert_allclose(ORAL.effect_site((Dose(time=0.0, amount=300.0),), TIMES), expected, atol=1e-12)


def _drug(amount: float, **rest) -> Drug:
    settings = {
        "name": "something",
        "changes": (
            ParameterChange(parameter="J", operation="scale", amount=0.5, source="hypothesis"),
            ParameterChange(parameter="eta", operation="shift", amount=-2.0, source="hypothesis"),
        ),
        "doses": (Dose(time=0.0, amount=amount),),
        "kinetics": ORAL,
        "response": RESPONSE,
        "time": 2.0,
    }
    return Drug(**(settings | rest))


def test_no_dose_is_no_change_to_the_last_bit(network):
    assert _drug(0.0)(network) is network
    assert _same_bits(network, _drug(0.0)(network))
    assert not _same_bits(network, _drug(50.0)(network))
    before = _drug(50.0, time=-1.0)
    assert before(network) is network


def test_an_effect_changes_the_declared_parameters_in_proportion(network):
    drug = _drug(300.0)
    effect = drug.effect
    assert 0.1 < effect < 0.9
    dosed = drug(network)
    np.testing.assert_allclose(dosed.mass.J, network.mass.J * (1 + 0.5 * effect))
    assert dosed.mass.eta == pytest.approx(network.mass.eta - 2.0 * effect)
    local = _drug(300.0, sensitivity=np.array([0.0, 1.0, 0.5]))(network)
    np.testing.assert_allclose(local.mass.J, network.mass.J * (1 + 0.5 * effect * np.array([0.0, 1.0, 0.5])))


def test_more_drug_never_does_less():
    effects = [_drug(amount).effect for amount in np.linspace(0.0, 2000.0, 40)]
    assert (np.diff(effects) > 0).all()


def test_every_declared_change_moves_a_parameter_that_exists_and_names_its_source():
    masses = {mass.__name__: mass for mass in neural_masses().values()}
    declared = 0
    for name, by_mass in DRUG_CLASSES.items():
        for mass_name, changes in by_mass.items():
            mass = masses.get(mass_name, Linear)()
            assert drug_changes(name, mass) == changes
            for change in changes:
                declared += 1
                assert "hypothesis" in change.source or "doi:" in change.source
                if mass_name != "any":
                    before = getattr(mass, change.parameter)
                    after = change.apply(before, 1.0)
                    assert after != before or before == 0.0, (name, mass_name, change.parameter)
    assert declared >= 12


@pytest.mark.parametrize(
    ("name", "mass_name", "parameter", "sign"),
    [
        ("gaba-a-agonist", "JansenRit", "B", 1),
        ("gaba-a-agonist", "JansenRit", "b", -1),
        ("gaba-a-agonist", "WongWangExcInh", "J_I", 1),
        ("gaba-a-agonist", "Zerlaut", "tau_i", 1),
        ("potassium-leak-block", "Zerlaut", "b", 1),
        ("nmda-block", "WongWangExcInh", "J_N", -1),
        ("levodopa", "DopamineMontbrioPazoRoxin", "wd", 1),
        ("anti-seizure", "Epileptor", "x0", -1),
    ],
)
def test_drugs_push_the_way_their_mechanism_does(name, mass_name, parameter, sign):
    mass = next(mass for mass in neural_masses().values() if mass.__name__ == mass_name)()
    (change,) = (change for change in drug_changes(name, mass) if change.parameter == parameter)
    assert np.sign(change.apply(getattr(mass, parameter), 1.0) - getattr(mass, parameter)) == sign


def test_fampridine_speeds_up_lesioned_tracts_only(network):
    lesions = np.zeros((3, 3))
    lesions[0, 1] = 1.0
    drug = _drug(300.0, name="fampridine", changes=drug_changes("fampridine", network.mass), lesions=lesions)
    dosed = drug(network)
    assert dosed.delays[0, 1] == pytest.approx(network.delays[0, 1] / (1 + 0.3 * drug.effect))
    untouched = lesions == 0
    assert np.array_equal(dosed.delays[untouched], network.delays[untouched])
    with pytest.raises(ValueError, match="needs their lesions"):
        _drug(300.0, changes=drug_changes("fampridine", network.mass))(network)


def test_a_drug_for_another_mass_is_refused(network):
    with pytest.raises(ValueError, match=r"gaba-a-agonist is declared for JansenRit.*, got MontbrioPazoRoxin"):
        drug_changes("gaba-a-agonist", network.mass)
    stranger = _drug(10.0, changes=(ParameterChange(parameter="B", operation="scale", amount=1.0, source="x"),))
    with pytest.raises(ValueError, match="changes B, which MontbrioPazoRoxin does not have"):
        stranger(network)


# --- electrodes


def test_a_milliampere_at_a_centimetre_is_forty_millivolts():
    source = (PointSource(position=(0.0, 0.0, 0.0), current=1.0),)
    assert potential(source, CENTRES[:1], conductivity=0.2)[0] == pytest.approx(0.03979, abs=5e-6)


def test_the_field_is_minus_the_gradient_of_the_potential():
    sources = (PointSource(position=(1.0, 2.0, 3.0), current=2.0), PointSource(position=(-4.0, 0.0, 2.0), current=-2.0))
    field = electric_field(sources, CENTRES)
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = 1e-3
        slope = (potential(sources, CENTRES + step) - potential(sources, CENTRES - step)) / 2e-6  # V/m
        np.testing.assert_allclose(field[:, axis], -slope, rtol=1e-6)
    outward = normal_field(field, NORMALS)
    assert outward[0] == pytest.approx(field[0, 2])
    assert outward[2] == pytest.approx(field[2].sum() / np.sqrt(3.0))


def _electrode(current: float) -> ElectrodeStimulation:
    return ElectrodeStimulation(
        sources=(PointSource(position=(0.0, 0.0, 0.0), current=current),),
        waveform=pulse_train(frequency=50.0, width=1.0),
        centres=CENTRES,
        orientations=NORMALS,
        sensitivity=0.2,
    )


def test_regions_feel_the_field_along_their_normals(network):
    amplitude = _electrode(2.0)(network).stimulus.amplitude[0]
    near = 1000.0 * 2.0 / (4.0 * np.pi * 0.33 * 10.0**2)
    assert amplitude[0] == pytest.approx(0.2 * near)
    assert amplitude[1] == pytest.approx(0.2 * near / 4.0)
    assert amplitude[2] < 0.0  # the normal points back to the electrode


def test_no_current_is_no_stimulation_to_the_last_bit(network):
    assert _electrode(0.0)(network) is network
    assert Current(regions=("lh.b",), amplitude=0.0, waveform=constant())(network) is network
    assert not _same_bits(network, _electrode(2.0)(network))


def test_two_stimulations_act_at_once(network):
    both = compose(_electrode(1.0), Current(regions=("rh.a", 0), amplitude=2.0, waveform=constant()))(network)
    assert both.stimulus.amplitude.shape == (2, 3)
    assert both.stimulus.amplitude[1].tolist() == [2.0, 0.0, 2.0]


def _lead(**rest) -> DeepBrainStimulation:
    contacts = (PointSource(position=(0.0, 0.0, 0.0), current=-3.0),)
    return DeepBrainStimulation(sources=contacts, centres=CENTRES, orientations=None, sensitivity=1.0, **rest)


def test_deep_brain_stimulation_states_charge_density_and_power():
    lead = _lead()
    assert lead.charge_per_phase == pytest.approx(0.18)  # 3 mA for 60 µs
    assert lead.charge_density == pytest.approx(3.0)
    assert not lead.exceeds_charge_limit
    assert lead.power == pytest.approx(70.2)  # µW: 9 mA² · 1 kΩ · 60 µs · 130 Hz
    assert _lead(pulse_width=610.0).exceeds_charge_limit
    assert not _lead(pulse_width=590.0).exceeds_charge_limit


def test_a_balanced_pulse_is_felt_by_its_first_phase_or_hardly(network):
    axons, membrane = _lead()(network).stimulus, _lead(response="current", gap=20.0)(network).stimulus
    assert membrane.waveforms[0].is_balanced
    assert membrane.waveforms[0].gap == pytest.approx(0.02)
    assert not axons.waveforms[0].is_balanced
    np.testing.assert_array_equal(axons.amplitude, membrane.amplitude)


def _interference(**rest) -> TemporalInterference:
    first = (PointSource(position=(0.0, 0.0, 50.0), current=1.0), PointSource(position=(0.0, 0.0, -50.0), current=-1.0))
    second = (PointSource(position=(0.0, 0.0, 40.0), current=0.5), PointSource(position=(0.0, 50.0, 0.0), current=-0.5))
    settings = {"first": first, "second": second, "carrier": 2000.0, "beat": 10.0, "centres": CENTRES}
    return TemporalInterference(**(settings | {"orientations": NORMALS, "sensitivity": 0.3} | rest))


def test_the_envelope_is_twice_the_smaller_field(network):
    """Against the two carriers themselves, added up and their envelope read off."""
    condition = _interference()
    along = [normal_field(electric_field(sources, CENTRES), NORMALS) for sources in (condition.first, condition.second)]
    t = np.linspace(0.0, 0.1, 400_001)
    for region in range(3):
        e1, e2 = along[0][region], along[1][region]
        total = e1 * np.sin(2 * np.pi * 2000.0 * t) + e2 * np.sin(2 * np.pi * 2010.0 * t)
        envelope = np.abs(total).reshape(-1)[:400_000].reshape(200, 2000).max(axis=1)  # a carrier's period each
        assert condition.envelope()[region] == pytest.approx(envelope.max() - envelope.min(), rel=0.02, abs=1e-6)
    stimulus = condition(network).stimulus
    np.testing.assert_allclose(stimulus.amplitude[0], 0.3 * condition.envelope())
    assert stimulus.waveforms[0].period == 100.0
    with pytest.raises(ValueError, match="carrier must be above 1000 Hz"):
        _interference(carrier=500.0)


def _ultrasound(**rest) -> FocusedUltrasound:
    settings = {
        "focus": (0.0, 0.0, 10.0),
        "axis": (0.0, 0.0, 5.0),
        "pressure": 1.0,
        "frequency": 0.25,
        "width": 3.0,
        "depth": 15.0,
        "pulse_repetition_frequency": 1000.0,
        "duty_cycle": 0.5,
        "duration": 0.02,
        "centres": CENTRES,
        "largest": 0.5,
        "half_intensity": 100.0 / 3.0,
    }
    return FocusedUltrasound(**(settings | rest))


def test_a_megapascal_of_ultrasound_is_thirty_three_watts_per_square_centimetre(network):
    beam = _ultrasound()
    assert beam.intensities()[0] == pytest.approx(33.3, abs=0.05)
    assert beam.amplitudes()[0] == pytest.approx(0.25)  # half of the largest at I50
    assert _ultrasound(sign=-1).amplitudes()[0] == pytest.approx(-0.25)
    assert beam.pressures()[1] == pytest.approx(math.exp(-(20.0**2) / 18.0 - 10.0**2 / 450.0))
    assert beam.mechanical_index == pytest.approx(2.0)
    assert beam.exceeds_mechanical_limit
    assert not _ultrasound(transmission=0.9).exceeds_mechanical_limit
    assert "hypothesis" in json.loads(beam.to_json())["mapping"]
    assert _ultrasound(pressure=0.0)(network) is network


# --- lesions


def test_a_lesion_of_nothing_is_the_same_network(network):
    for nothing in (
        EdgeLesion(fraction=np.zeros((3, 3)), axonal_loss=1.0, slowing=2.0),
        EdgeLesion(fraction=np.ones((3, 3)), axonal_loss=0.0, slowing=0.0),
        NodeLesion(regions=(0, 1), fraction=0.0),
        Resection(regions=()),
        compose(),
    ):
        changed = nothing(network)
        assert np.array_equal(changed.weights, network.weights)
        assert np.array_equal(changed.delays, network.delays)
        assert _same_bits(network, changed)


def test_a_whole_lesion_is_removal(network):
    fraction = np.zeros((3, 3))
    fraction[1, 2] = 1.0
    cut = EdgeLesion(fraction=fraction)(network)
    assert cut.weights[1, 2] == 0.0
    assert np.array_equal(np.delete(cut.weights, 5), np.delete(network.weights, 5))
    whole, surgery = NodeLesion(regions=("lh.b",))(network), Resection(regions=(1,))(network)
    assert np.array_equal(whole.weights, surgery.weights)
    assert not whole.weights[1].any()
    assert not whole.weights[:, 1].any()
    assert whole.active.tolist() == surgery.active.tolist() == [True, False, True]


def test_lesioned_tracts_lose_axons_and_slow_down_in_proportion(network):
    fraction = np.array([[0.0, 0.5, 0.2], [0.0, 0.0, 1.0], [0.3, 0.0, 0.0]])
    hurt = EdgeLesion(fraction=fraction, axonal_loss=0.4, slowing=3.0)(network)
    np.testing.assert_allclose(hurt.weights, network.weights * (1 - 0.4 * fraction), rtol=1e-15)
    np.testing.assert_allclose(hurt.delays, network.delays * (1 + 3.0 * fraction), rtol=1e-15)


def test_half_a_node_keeps_half_of_every_connection(network):
    half = NodeLesion(regions=(1,), fraction=0.5)(network)
    expected = network.weights.copy()
    expected[1] *= 0.5
    expected[:, 1] *= 0.5
    np.testing.assert_allclose(half.weights, expected, rtol=1e-15)


def test_removing_an_isolated_region_leaves_the_others_bit_for_bit(network):
    weights = network.weights.copy()
    weights[2] = weights[:, 2] = 0.0
    isolated = dataclasses.replace(network, weights=weights)
    assert _same_bits(isolated, Resection(regions=("rh.a",))(isolated), (0, 1))
    assert not _same_bits(network, Resection(regions=("rh.a",))(network), (0, 1))


def test_every_channel_of_a_connectome_is_cut():
    mass = next(mass for name, mass in neural_masses().items() if name.startswith("dopamine"))()
    three = Network(
        mass=mass, weights=np.ones((len(mass.channels), 3, 3)), tract_lengths=np.zeros((3, 3)), velocity=1.0
    )
    cut = Resection(regions=(1,))(three)
    assert not cut.weights[:, 1].any()
    assert not cut.weights[:, :, 1].any()
    assert cut.weights[:, 0, 2].all()
    fraction = np.zeros((3, 3))
    fraction[0, 2] = 0.5
    assert (EdgeLesion(fraction=fraction)(three).weights[:, 0, 2] == 0.5).all()


# --- conduction


def test_halving_the_velocity_doubles_every_delay_exactly(network):
    slow = ConductionVelocity(velocity=2.0)(network)
    assert np.array_equal(slow.delays, 2.0 * network.delays)
    each = ConductionVelocity(velocity=np.full((3, 3), 2.0))(network)
    assert np.array_equal(delay_steps(each, 0.1), delay_steps(slow, 0.1))


def test_an_axon_is_fastest_at_a_g_ratio_of_sixty_percent():
    g = np.linspace(0.3, 0.95, 6501)
    assert g[relative_speed(g).argmax()] == pytest.approx(0.6065, abs=1e-4)
    assert relative_speed(np.exp(-0.5)) == pytest.approx(1.0)
    assert relative_speed(0.8) == pytest.approx(0.8811, abs=5e-5)
    assert relative_speed(0.9) == pytest.approx(0.6812, abs=5e-5)
    assert velocity_from_g_ratio(2.0, np.exp(-0.5)) == pytest.approx(11.0)
    with pytest.raises(ValueError, match=r"g-ratio must be in \(0, 1\), got 1.2"):
        relative_speed(np.array([0.5, 1.2]))


def test_a_myelin_proxy_moves_velocity_linearly_and_never_to_zero():
    z = np.array([0.0, 1.0, -1.0, -50.0])
    np.testing.assert_allclose(velocity_from_myelin(z, baseline=6.0, kappa=0.15), [6.0, 6.9, 5.1, 0.6])


# --- the record


CONDITIONS: tuple[Condition, ...] = (
    Resection(regions=("lh.a", 2)),
    NodeLesion(regions=(1,), fraction=0.25),
    EdgeLesion(fraction=np.eye(3) * 0.5, slowing=1.5),
    ConductionVelocity(velocity=np.full((3, 3), 3.5)),
    Current(regions=(0,), amplitude=0.7, waveform=constant(onset=0.5)),
    _drug(100.0, sensitivity=np.array([0.1, 0.2, 0.3])),
    _electrode(1.0),
    _lead(),
    _interference(),
    _ultrasound(interval=0.1),
    compose(Resection(regions=(0,)), _electrode(1.0)),
)


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda c: type(c).__name__)
def test_a_record_makes_the_same_condition_again(condition, network):
    again = condition_from_json(condition.to_json())
    assert again == condition
    assert again.digest() == condition.digest()
    assert len({other.digest() for other in CONDITIONS}) == len(CONDITIONS)
    one, two = condition(network), again(network)
    assert np.array_equal(one.weights, two.weights)
    assert np.array_equal(one.delays, two.delays)
    assert one.mass.J is two.mass.J or np.array_equal(one.mass.J, two.mass.J)
    if one.stimulus is not None:
        assert np.array_equal(one.stimulus.numbers(), two.stimulus.numbers())


def test_a_change_of_any_number_changes_the_digest():
    base = _drug(100.0)
    assert base.digest() == _drug(100.0).digest()
    assert base.digest() != _drug(100.00000000000001).digest()
    assert EdgeLesion(fraction=np.eye(3)).digest() != EdgeLesion(fraction=np.eye(3) * (1 - 1e-16 * 2)).digest()


def test_composition_is_associative_and_ordered(network):
    a, b, c = Resection(regions=(0,)), NodeLesion(regions=(1,), fraction=0.5), _electrode(1.0)
    assert compose(compose(a, b), c) == compose(a, compose(b, c)) == compose(a, b, c)
    assert compose(a) == a
    assert compose(a, b) != compose(b, a)
    once = compose(a, b, c)(network)
    assert np.array_equal(once.weights, c(b(a(network))).weights)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        "{}",
        '{"kind":"Network"}',
        '{"kind":"Dose","time":0.0,"amount":1.0}',
        '{"kind":"Resection","regions":[0],"more":1}',
        '{"kind":"EdgeLesion","fraction":{"array":[[0.0]],"dtype":"object"}}',
        '{"kind":"NodeLesion","regions":[0],"fraction":1.5}',
        "not json",
    ],
)
def test_what_is_no_record_of_a_condition_is_refused(text):
    with pytest.raises(ValueError):
        condition_from_json(text)


@pytest.mark.parametrize(
    ("condition", "rule"),
    [
        (Resection(regions=("lh.z",)), "must have the region, got 'lh.z'"),
        (Resection(regions=(3,)), r"must be in \[0, 3\), got 3"),
        (EdgeLesion(fraction=np.zeros((2, 2))), "of 3 regions, got"),
    ],
)
def test_a_condition_of_other_regions_is_refused(condition, rule, network):
    with pytest.raises(ValueError, match=rule):
        condition(network)
