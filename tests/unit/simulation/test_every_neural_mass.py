"""What holds for every neural mass that is found, and how one is added."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from vbt.simulation import Network, PowerSpectrum, TemporalAverage, parameter_table, simulate
from vbt.simulation import neural_masses as folder
from vbt.simulation.neural_masses import neural_mass, neural_masses

NAMES = sorted(neural_masses())
README = Path(__file__).parents[3] / "libs" / "README.md"


def _network(mass, **rest):
    """Four regions, asymmetric weights, delays of which two are zero."""
    weights = np.array([[0.0, 0.9, 0.1, 0.0], [0.4, 0.0, 0.0, 0.7], [0.0, 0.3, 0.0, 0.6], [0.8, 0.2, 0.5, 0.0]])
    lengths = np.array([[0, 40, 90, 0], [25, 0, 0, 60], [0, 0, 0, 80], [30, 120, 45, 0]], dtype=float)
    return Network(mass=mass, weights=weights, tract_lengths=lengths, velocity=4.0, coupling=0.05, **rest)


def test_names_are_the_files_and_an_unknown_one_is_refused_with_the_known_ones():
    assert {"montbrio-pazo-roxin", "jansen-rit", "epileptor-2d", "kionex"} <= set(NAMES)
    assert neural_mass("jansen-rit").__name__ == "JansenRit"
    with pytest.raises(ValueError, match=r"no neural mass is called 'jansen'; known are .*jansen-rit, kionex"):
        neural_mass("jansen")


@pytest.mark.parametrize("name", NAMES)
def test_mass_runs_at_its_largest_step_on_a_network_with_delays_in_both_precisions_and_kernels(name):
    mass = neural_mass(name)()
    dt = mass.largest_dt * mass.milliseconds_per_unit
    period = 64 * dt / 1000.0
    start = np.tile(np.array(mass.initial_state(), float)[:, None], 4) + (1.0 if name == "linear" else 0.0)
    network = _network(mass, instantaneous_below_step=True, initial=start)
    activities = []
    for precision, engine in (("single", None), ("double", None), ("double", "xla")):
        kernel = {"dt": dt, "precision": precision, "engine": engine}
        run = simulate([network], [3], duration=10 * period, monitors=(TemporalAverage(period),), **kernel)
        for states, low, high in zip(run.final_state[0], mass.lower, mass.upper, strict=True):
            assert ((low <= states) & (states <= high) & np.isfinite(states)).all()
        activities.append(run.observations[0].values)
    single, double, through_xla = activities
    assert single.shape == double.shape == (1, 10, 4)
    assert 0.0 < np.abs(double).max() < 100.0
    assert np.abs(single - double).max() < 1e-4 * np.abs(double).max()
    assert np.abs(through_xla - double).max() < 1e-12 * np.abs(double).max()


@pytest.mark.parametrize("name", NAMES)
def test_mass_is_elementwise_and_keeps_the_precision_it_is_given(name):
    mass = neural_mass(name)()
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype is np.float64):
            for shape in ((), (5,), (5, 3)):
                state = tuple(np.full(shape, x, dtype) for x in mass.initial_state())
                signals = tuple(np.full(shape, 0.1, dtype) for _ in mass.channels)
                slopes = mass.derivative(state, signals, signals, np.zeros(shape, dtype))
                assert len(slopes) == len(mass.variables) == len(mass.lower) == len(mass.upper)
                sent = mass.sent(state)
                assert len(sent) == len(mass.channels)
                for value in (*slopes, *sent, mass.activity(state)):
                    assert np.isfinite(value).all()
                    assert value.dtype == dtype
                    assert np.shape(value) in (shape, ())


@pytest.mark.parametrize("name", NAMES)
def test_parameters_say_what_they_are_and_may_differ_between_regions(name):
    Mass = neural_mass(name)
    rows = parameter_table(Mass)
    assert all(row.symbol and row.meaning and row.unit and row.source for row in rows)
    assert len({row.symbol for row in rows}) == len(rows)
    assert re.search(r"References\n|exact|one unit of time", Mass.__doc__)
    fields = [f.name for f in dataclasses.fields(Mass) if "parameter" in f.metadata]
    assert len(fields) == len(rows)
    _network(Mass(**{n: np.full(4, row.default) for n, row in zip(fields, rows, strict=True)}))


@pytest.mark.parametrize("name", NAMES)
def test_parameter_outside_its_domain_is_refused_by_name_value_and_rule(name):
    Mass = neural_mass(name)
    for described in dataclasses.fields(Mass):
        row = described.metadata.get("parameter")
        if row is None:
            continue
        low, high = (float(end) for end in re.fullmatch(r"[\[(](.*), (.*)[\])]", row.domain).groups())
        outside = [np.nan, *([low - 1.0] if np.isfinite(low) else []), *([high + 1.0] if np.isfinite(high) else [])]
        outside += [low] if row.domain.startswith("(0") else []
        for value in outside:
            values = np.array([row.default, row.default, value, row.default])
            rule = rf"{described.name} must lie in {re.escape(row.domain)}, got {value:g} in region 2"
            with pytest.raises(ValueError, match=rule):
                _network(Mass(**{described.name: values}))


@pytest.mark.parametrize(
    ("name", "unit", "density"),
    [
        ("jansen-rit", "mV", "(mV)2/Hz"),
        ("kionex", "mV", "(mV)2/Hz"),
        ("zerlaut", "kHz", "(kHz)2/Hz"),
        ("dopamine-montbrio-pazo-roxin", "1/ms", "(1/ms)2/Hz"),
        ("stuart-landau", "1", "Hz-1"),
    ],
)
def test_what_is_observed_has_the_unit_of_the_observable(name, unit, density):
    mass = neural_mass(name)()
    network = Network(mass=mass, weights=np.zeros((2, 2)), tract_lengths=np.zeros((2, 2)), velocity=1.0)
    monitors = [TemporalAverage(0.04), PowerSpectrum(period=0.04, segment=0.04)]
    run = simulate([network], [0], duration=0.04, monitors=monitors, dt=0.02)
    assert [seen.unit for seen in run.observations] == [unit, density]


@pytest.mark.parametrize("name", NAMES)
def test_step_above_the_largest_is_refused(name):
    mass = neural_mass(name)()
    dt = 1.01 * mass.largest_dt * mass.milliseconds_per_unit
    with pytest.raises(ValueError, match=r"dt must lie in \(0, "):
        simulate([_network(mass)], [0], duration=1.0, monitors=(TemporalAverage(0.064),), dt=dt)


def test_a_mass_is_added_by_writing_the_file_the_readme_shows(tmp_path, monkeypatch):
    section = README.read_text(encoding="utf-8").split("## Adding a neural mass")[1]
    name, code = re.search(r"`neural_masses/(\w+)\.py`.*?```python\n(.*?)```", section, re.DOTALL).groups()
    (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    try:
        mass = neural_mass(name.replace("_", "-"))()
        run = simulate([_network(mass)], [0], duration=0.064, monitors=(TemporalAverage(0.0064),), dt=0.1)
    finally:
        sys.modules.pop(f"{folder.__name__}.{name}", None)
    assert np.isfinite(run.observations[0].values).all()
    assert np.ptp(run.observations[0].values) > 0.05


def test_a_file_without_a_mass_is_said_to_have_none(tmp_path, monkeypatch):
    (tmp_path / "nothing.py").write_text("x = 1\n", encoding="utf-8")
    monkeypatch.setattr(folder, "__path__", [str(tmp_path)])
    with pytest.raises(TypeError, match=r"nothing must define one neural mass, found \[\]"):
        neural_masses()
    sys.modules.pop(f"{folder.__name__}.nothing", None)
