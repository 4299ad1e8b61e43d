"""Continuation, classification and normal forms on systems that are solved with pencil and paper."""

from __future__ import annotations

from concurrent.futures import CancelledError

import jax.numpy as jnp
import numpy as np
import pytest

from vbt.simulation.bifurcation import (
    Axis,
    Bifurcation,
    Steps,
    System,
    bifurcation_diagram,
    diagram_bands,
    equilibria,
    first_lyapunov_coefficient,
    follow_cycles,
    follow_equilibria,
    follow_fold,
)


def cubic(x, p, c):
    return jnp.stack([p + c * x[0] - x[0] ** 3])


def pitchfork(x, p, _):
    return jnp.stack([p * x[0] - x[0] ** 3])


def corner(x, p, _):
    return jnp.stack([p - jnp.abs(x[0])])


def opposite(x, p, _):
    """A saddle whose two real eigenvalues, 1 and p, become opposite at p = −1."""
    return jnp.stack([x[0] + x[1] ** 2, p * x[1] + x[0] * x[1]])


def isola(x, p, _):
    return jnp.stack([x[0] ** 2 + p**2 - 1.0])


def polynomial(x, p, c):
    """A rotation with every quadratic and cubic term; c holds ω and the coefficients of both equations."""
    u, v = x
    terms = jnp.stack([u * u, u * v, v * v, u**3, u * u * v, u * v * v, v**3])
    omega, f, g = c
    return jnp.stack([p * u - omega * v + f @ terms, omega * u + p * v + g @ terms])


def bautin(x, p, c):
    """r' = r (p + r² − r⁴), θ' = c."""
    square = x[0] ** 2 + x[1] ** 2
    growth = p + square - square**2
    return jnp.stack([growth * x[0] - c * x[1], c * x[0] + growth * x[1]])


def two_hopfs(x, p, _):
    """Two rotations of different speed that become unstable at p = 0 and p = 1, and a third alike the first."""
    rows = []
    for k, (speed, at) in enumerate(((1.0, 0.0), (3.0, 1.0), (1.0, 0.0))):
        u, v = x[2 * k], x[2 * k + 1]
        growth = p - at - u * u - v * v
        rows += [growth * u - speed * v, speed * u + growth * v]
    return jnp.stack(rows)


def system(field, size, constants=()):
    return System(field=field, variables=tuple(f"x{i}" for i in range(size)), constants=constants)


def test_cubic_folds_where_its_derivative_vanishes():
    diagram = follow_equilibria(system(cubic, 1, 1.0), -2.0, 2.0)
    exact = 2.0 / (3.0 * np.sqrt(3.0))
    assert [b.kind for b in diagram.bifurcations] == ["fold", "fold"]
    np.testing.assert_allclose([b.parameter for b in diagram.bifurcations], [-exact, exact], atol=1e-8)
    assert len(diagram.branches) == 1
    # ½ f'' = −3x at x = ±1/√3.
    np.testing.assert_allclose([b.coefficient for b in diagram.bifurcations], [-np.sqrt(3.0), np.sqrt(3.0)], rtol=1e-6)
    inside = (np.abs(diagram.branches[0].states[:, 0]) < 1 / np.sqrt(3.0) - 1e-6).astype(int)
    np.testing.assert_array_equal(diagram.branches[0].unstable_dimension, inside)


def test_folds_of_the_cubic_meet_in_a_cusp_at_the_origin():
    unfolded = system(cubic, 1, np.float64(1.0))
    fold = follow_equilibria(unfolded, -2.0, 2.0).bifurcations[0]
    curve = follow_fold(unfolded, fold, _replace, 1.0, ((-2.0, 2.0), (-1.0, 2.0)))
    (cusp,) = curve.points
    assert (cusp.kind, cusp.parameter, cusp.second) == ("cusp", pytest.approx(0, abs=1e-8), pytest.approx(0, abs=1e-6))
    np.testing.assert_allclose(27.0 * curve.parameter**2, 4.0 * curve.second**3, atol=1e-8)


def _replace(_, value):
    return value


def test_pitchfork_is_a_branch_point_and_no_fold():
    diagram = follow_equilibria(system(pitchfork, 1), -1.0, 1.3)
    assert {b.kind for b in diagram.bifurcations} == {"branch point"}
    np.testing.assert_allclose([b.parameter for b in diagram.bifurcations], 0.0, atol=1e-7)
    trivial = next(b for b in diagram.branches if (np.abs(b.states) < 1e-9).all())
    assert trivial.parameter.min() == -1.0
    assert trivial.parameter.max() == 1.3


def test_neutral_saddle_is_no_bifurcation():
    diagram = follow_equilibria(system(opposite, 2), -2.0, -0.5, starts=16)
    assert len(diagram.branches) > 0
    assert diagram.bifurcations == ()


def test_fold_at_a_corner_is_called_a_kink():
    diagram = follow_equilibria(system(corner, 1), -0.5, 1.0)
    (kink,) = diagram.bifurcations
    assert kink.kind == "kink"
    assert kink.parameter == pytest.approx(0.0, abs=1e-8)
    assert np.isnan(kink.coefficient)


def test_closed_branch_is_walked_once():
    diagram = follow_equilibria(system(isola, 1), -2.0, 2.0)
    (branch,) = diagram.branches
    assert branch.ends == ("closed", "closed")
    np.testing.assert_allclose(branch.states[:, 0] ** 2 + branch.parameter**2, 1.0, atol=1e-9)
    np.testing.assert_allclose([b.parameter for b in diagram.bifurcations], [-1.0, 1.0], atol=1e-8)


def test_first_lyapunov_coefficient_is_that_of_guckenheimer_and_holmes():
    rng = np.random.default_rng(4)
    signs = set()
    for omega in (0.5, 1.0, 3.0, 7.0):
        f, g = rng.normal(size=(2, 7))
        ours = first_lyapunov_coefficient(system(polynomial, 2, (omega, f, g)), np.zeros(2), 0.0, omega)
        fxx, fxy, fyy, fxxx, _, fxyy, _ = f * [2, 1, 2, 6, 2, 2, 6]
        gxx, gxy, gyy, _, gxxy, _, gyyy = g * [2, 1, 2, 6, 2, 2, 6]
        quadratic = fxy * (fxx + fyy) - gxy * (gxx + gyy) - fxx * gxx + fyy * gyy
        a = (fxxx + fxyy + gxxy + gyyy + quadratic / omega) / 16.0  # their eq. 3.4.11: r' = a r³
        assert ours == pytest.approx(2.0 * a / omega, rel=1e-9)
        signs.add(ours > 0)
    assert signs == {True, False}


def test_subcritical_hopf_gives_unstable_cycles_up_to_their_closed_form_fold():
    oscillator = system(bautin, 2, 2.0)
    (hopf,) = follow_equilibria(oscillator, -1.0, 1.0).bifurcations
    assert hopf.name == "subcritical hopf"
    assert hopf.coefficient == pytest.approx(2.0 / 2.0)
    cycles = follow_cycles(oscillator, hopf, -1.0, 0.5)
    (fold,) = cycles.folds
    assert fold.parameter == pytest.approx(-0.25, abs=1e-8)
    assert fold.high[0] == pytest.approx(np.sqrt(0.5), rel=1e-4)
    radius = np.array([cycle.high[0] for cycle in cycles.cycles])
    np.testing.assert_allclose(cycles.parameter, radius**4 - radius**2, atol=1e-4)
    np.testing.assert_array_equal(cycles.is_stable, radius > np.sqrt(0.5))
    assert cycles.end == "end of the range"


def test_hopfs_of_alike_parts_are_counted_and_different_ones_kept_apart():
    diagram = follow_equilibria(system(two_hopfs, 6), -1.0, 2.0, starts=16, sites=1)
    trivial = [branch for branch in diagram.branches if (np.abs(branch.states) < 1e-9).all()]
    found = [(b.kind, round(b.parameter, 6), b.multiplicity) for b in trivial[0].bifurcations]
    assert found == [("hopf", 0.0, 2), ("hopf", 1.0, 1)]
    assert np.isnan(trivial[0].bifurcations[0].coefficient)


def test_bifurcations_inside_one_large_step_are_still_told_apart():
    diagram = follow_equilibria(
        system(two_hopfs, 6), -1.0, 2.0, starts=16, sites=1, steps=Steps(first=5.0, largest=5.0)
    )
    assert [(b.kind, round(b.parameter, 6)) for b in diagram.bifurcations] == [("hopf", 0.0), ("hopf", 1.0)]


def test_progress_rises_to_one_and_cancelling_stops():
    told: list[float] = []
    follow_equilibria(system(cubic, 1, 1.0), -2.0, 2.0, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) > 20  # also within a branch
    asked = []

    def cancelled():
        asked.append(True)
        return len(asked) > 5

    with pytest.raises(CancelledError):
        follow_equilibria(system(cubic, 1, 1.0), -2.0, 2.0, cancelled=cancelled)
    assert len(asked) == 6


def test_bands_keep_draws_of_another_structure_apart():
    slopes = np.array([-1.0, 0.9, 1.0, 1.1, 1.2])
    folding, plain = diagram_bands([system(cubic, 1, np.float64(c)) for c in slopes], -2.0, 2.0, interval=0.5)
    assert (folding.kinds, folding.share, folding.draws) == (("fold", "fold"), 0.8, (1, 2, 3, 4))
    assert (plain.kinds, plain.draws) == ((), (0,))
    exact = 2.0 * (slopes[1:] / 3.0) ** 1.5
    upper = folding.bands[1]
    np.testing.assert_allclose((upper.low, upper.median, upper.high), np.quantile(exact, [0.25, 0.5, 0.75]), rtol=1e-7)


def test_only_a_hopf_point_bears_cycles_and_only_a_fold_is_followed():
    fold = Bifurcation(kind="fold", parameter=0.0, state=np.zeros(1), eigenvalues=np.zeros(1, dtype=complex))
    with pytest.raises(ValueError, match="born at a Hopf point, got a fold"):
        follow_cycles(system(cubic, 1, 1.0), fold, -1.0, 1.0)
    hopf = Bifurcation(kind="hopf", parameter=0.0, state=np.zeros(2), eigenvalues=np.zeros(2, dtype=complex))
    with pytest.raises(ValueError, match="only a fold"):
        follow_fold(system(bautin, 2, 2.0), hopf, "c", 0.0, ((-1.0, 1.0), (-1.0, 1.0)))


def test_diagram_is_the_same_picture_twice():
    oscillator = System(
        field=bautin, variables=("x", "y"), constants=2.0, parameter=Axis(name="p", symbol="μ", unit="mV")
    )
    diagram = follow_equilibria(oscillator, -1.0, 1.0, starts=16)
    cycles = follow_cycles(oscillator, diagram.bifurcations[0], -1.0, 0.5)
    first = bifurcation_diagram(diagram, [cycles], title="Bautin")
    assert first.startswith(b"\x89PNG")
    assert first == bifurcation_diagram(diagram, [cycles], title="Bautin")
    assert first != bifurcation_diagram(diagram, title="Bautin")


def test_equilibria_stay_within_the_bounds_of_the_state():
    bounded = System(field=cubic, variables=("x",), constants=1.0, lower=np.array([-0.5]))
    np.testing.assert_allclose([e.state[0] for e in equilibria(bounded, 0.0)], [0.0, 1.0], atol=1e-9)
