"""How near a network is to losing its working point, and what would show it coming."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Complex, Float
from scipy.linalg import expm, solve_continuous_lyapunov

from vbt.errors import Unsound
from vbt.simulation._network import Network
from vbt.simulation._neural_mass import NeuralMass, parameter_fields
from vbt.simulation.bifurcation._branch import Bifurcation, follow, steady
from vbt.simulation.bifurcation._curve import Curve, Lost, Steps
from vbt.simulation.bifurcation._delays import NetworkSpectrum, collocation_nodes
from vbt.simulation.bifurcation._equilibria import Equilibrium, equilibria, equilibrium
from vbt.simulation.bifurcation._system import System, network, node
from vbt.simulation.bifurcation._watch import Watch

_STEPS = Steps(first=0.05, largest=0.1, count=400)


@dataclass(frozen=True, kw_only=True)
class CouplingSweep:
    """A working point followed over the global coupling.

    Parameters
    ----------
    coupling : of each point, rising along the branch until it turns around
    leading : eigenvalue (or characteristic root) with the largest real part, per unit of model time
    observed : mean activity of the regions
    is_stable : whether all real parts are negative
    bifurcations : on the way
    threshold : the first of them that ends stability as the coupling grows; None where none does
    """

    coupling: Float[np.ndarray, " point"]
    leading: Complex[np.ndarray, " point"]
    observed: Float[np.ndarray, " point"]
    is_stable: Bool[np.ndarray, " point"]
    bifurcations: tuple[Bifurcation, ...]
    threshold: Bifurcation | None


@dataclass(frozen=True, kw_only=True)
class ThresholdDistances:
    """How far one parameter of one region at a time may move before the working point is lost.

    Parameters
    ----------
    region_labels : of the regions that were not removed
    upward, downward : distance in the parameter's unit, positive; infinite where nothing happens within the reach
    upward_kind, downward_kind : the bifurcation met there, or why the branch ended
    sensitivity : change of the leading real part by the parameter of each region, at the working point
    """

    region_labels: tuple[str, ...]
    upward: Float[np.ndarray, " region"]
    downward: Float[np.ndarray, " region"]
    upward_kind: tuple[str, ...]
    downward_kind: tuple[str, ...]
    sensitivity: Float[np.ndarray, " region"]

    @property
    def nearest(self) -> str:
        """The region whose parameter needs to move least."""
        return self.region_labels[int(np.minimum(self.upward, self.downward).argmin())]


@dataclass(frozen=True, kw_only=True)
class EarlyWarning:
    """What noise shows of the distance to a bifurcation, from the linearised network in closed form.

    Parameters
    ----------
    variance : of each region's activity
    autocorrelation : of each region's activity at the lag
    relaxation_time : ms, −1/Re of the leading eigenvalue: grows without bound at the threshold (critical slowing)
    leading : eigenvalue (or characteristic root) with the largest real part, per unit of model time
    """

    variance: Float[np.ndarray, " region"]
    autocorrelation: Float[np.ndarray, " region"]
    relaxation_time: float
    leading: complex


def resting_point(
    net: Network, *, delayed: bool = False, stimulus: float | Float[np.ndarray, " region"] = 0.0
) -> Equilibrium:
    """The stable equilibrium of a network that is nearest to its initial state.

    Found from the initial state, the equilibria of the uncoupled mass and a few Sobol starts.

    Raises
    ------
    Unsound
        ``no-stable-equilibrium`` where none of those starts leads to one.
    """
    system = network(net, "coupling", delayed=delayed, stimulus=stimulus)
    begin = system.centre if net.initial is None else _initial(net)
    alone = node(_mean_mass(net), "stimulus", stimulus=float(np.mean(stimulus)))
    alike = [np.repeat(found.state, system.region_size) for found in equilibria(alone, starts=64)]
    found = [point for point in equilibria(system, starts=16, also=[begin, *alike]) if point.is_stable]
    if not found:
        raise Unsound(
            "no-stable-equilibrium",
            rule="a working point is a stable equilibrium of the network",
            got=f"none at coupling {net.coupling:g}",
            action="lower the coupling, or study the rhythm that takes its place",
        )
    return min(found, key=lambda point: float((((point.state - begin) / system.scale) ** 2).sum()))


def sweep_coupling(
    net: Network,
    low: float,
    high: float,
    *,
    start: Equilibrium | None = None,
    delayed: bool = False,
    stimulus: float | Float[np.ndarray, " region"] = 0.0,
    steps: Steps | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CouplingSweep:
    """The leading eigenvalue over the global coupling, from the resting point at the lowest.

    Parameters
    ----------
    start : an equilibrium at coupling `low`; the resting point by default

    Raises
    ------
    Unsound
        ``no-stable-equilibrium`` at the lowest coupling.
    """
    watch = Watch(progress, cancelled)
    at_low = dataclasses.replace(net, coupling=low)
    begin = start or resting_point(at_low, delayed=delayed, stimulus=stimulus)
    system = network(net, "coupling", delayed=delayed, stimulus=stimulus)
    branch = follow(system, begin, low, high, steps=steps or _STEPS, watch=watch)
    lost = [b for b in branch.bifurcations if b.eigenvalues[0].real <= 1e-6 * np.abs(b.eigenvalues).max()]
    watch.told(1.0)
    return CouplingSweep(
        coupling=branch.parameter,
        leading=branch.eigenvalues[:, 0],
        observed=branch.observed,
        is_stable=branch.is_stable,
        bifurcations=branch.bifurcations,
        threshold=lost[0] if lost else None,
    )


def distance_to_threshold(
    net: Network,
    parameter: str,
    reach: float,
    *,
    start: Equilibrium | None = None,
    delayed: bool = False,
    stimulus: float | Float[np.ndarray, " region"] = 0.0,
    steps: Steps | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ThresholdDistances:
    """For each region, how far its parameter may move, all else unchanged, before the network's rest is lost.

    Parameters
    ----------
    parameter : of the mass, or ``"stimulus"``
    reach : how far to look on either side
    start : the working point; the resting point by default

    Raises
    ------
    Unsound
        ``no-stable-equilibrium`` where there is no working point.
    """
    watch = Watch(progress, cancelled)
    begin = start or resting_point(net, delayed=delayed, stimulus=stimulus)
    kept = [i for i in range(net.regions) if net.active is None or net.active[i]]
    rows = []
    for number, region in enumerate(kept):
        system = network(net, parameter, region=region, offset=True, delayed=delayed, stimulus=stimulus)
        portion = number / len(kept), (number + 1) / len(kept)
        here = Equilibrium(state=begin.state, parameter=0.0, eigenvalues=begin.eigenvalues)
        branch = follow(
            system, here, -reach, reach, steps=steps or _STEPS, while_stable=True, watch=watch, portion=portion
        )
        backward, forward = branch.bifurcations[:1], branch.bifurcations[-1:]
        down = backward[0] if backward and branch.ends[0] == "stability lost" else None
        up = forward[0] if forward and branch.ends[1] == "stability lost" else None
        rows.append((up, down, branch.ends, _sensitivity(system, begin, 1e-4 * reach)))
        watch.told(portion[1])
    return ThresholdDistances(
        region_labels=tuple(net.labels[i] for i in kept),
        upward=np.array([np.inf if up is None else abs(up.parameter) for up, _, _, _ in rows]),
        downward=np.array([np.inf if down is None else abs(down.parameter) for _, down, _, _ in rows]),
        upward_kind=tuple(ends[1] if up is None else up.kind for up, _, ends, _ in rows),
        downward_kind=tuple(ends[0] if down is None else down.kind for _, down, ends, _ in rows),
        sensitivity=np.array([slope for _, _, _, slope in rows]),
    )


def early_warning(
    net: Network,
    lag: float,
    *,
    start: Equilibrium | None = None,
    delayed: bool = False,
    stimulus: float | Float[np.ndarray, " region"] = 0.0,
) -> EarlyWarning:
    """Variance, autocorrelation and relaxation time of small fluctuations around the working point.

    x' = A x + noise has the covariance P with A P + P Aᵀ + σσᵀ = 0 and the lagged covariance e^{A t} P. With delays, A
    is the collocation matrix of the delay equation.

    Parameters
    ----------
    lag : ms, of the autocorrelation
    start : the working point; the resting point by default

    Raises
    ------
    ValueError
        where the network carries no noise.
    Unsound
        ``no-stable-equilibrium`` where there is no working point.
    """
    begin = start or resting_point(net, delayed=delayed, stimulus=stimulus)
    system = network(net, "coupling", delayed=delayed, stimulus=stimulus)
    noise = _noise(net)
    if not noise.any():
        raise ValueError("fluctuations need noise, got sigma = 0 everywhere")
    matrix = _generator(system, begin)
    n = system.size
    intensity = np.zeros_like(matrix)
    intensity[:n, :n] = np.diag(noise**2)
    covariance = solve_continuous_lyapunov(matrix, -intensity)
    unit = float(net.mass.milliseconds_per_unit)
    lagged = (expm(matrix * lag / unit) @ covariance)[:n, :n]
    with jax.enable_x64(True):
        seen = np.asarray(jax.jacfwd(system.observable)(jnp.asarray(begin.state))).reshape(-1, n)
    variance = np.einsum("ri,ij,rj->r", seen, covariance[:n, :n], seen)
    return EarlyWarning(
        variance=variance,
        autocorrelation=np.einsum("ri,ij,rj->r", seen, lagged, seen) / variance,
        relaxation_time=-unit / float(begin.eigenvalues[0].real),
        leading=complex(begin.eigenvalues[0]),
    )


def _generator(system: System, at: Equilibrium) -> np.ndarray:
    if isinstance(system.spectrum, NetworkSpectrum):
        linear = system.spectrum.linearised(at.state, system.value)
        if len(linear.delays):
            return linear.generator(collocation_nodes(linear))
    return system.linearised(at.state, system.value).jacobian


def _sensitivity(system: System, begin: Equilibrium, move: float) -> float:
    curve = Curve(steady(system), np.append(np.maximum(system.scale, np.abs(begin.state)), 1.0))
    row = np.zeros(system.size + 1)
    row[-1] = 1.0
    values = []
    for parameter in (move, -move):
        guess = np.append(begin.state, parameter)
        try:
            y, _ = curve.corrected(guess, row, parameter, guess)
        except Lost:
            return np.nan
        values.append(float(equilibrium(system, y[:-1], parameter).eigenvalues[0].real))
    return (values[0] - values[1]) / (2.0 * move)


def _kept(net: Network) -> Bool[np.ndarray, " region"]:
    return np.ones(net.regions, dtype=bool) if net.active is None else np.asarray(net.active)


def _initial(net: Network) -> np.ndarray:
    return np.asarray(net.initial, float)[:, _kept(net)].ravel()


def _noise(net: Network) -> Float[np.ndarray, " state"]:
    sigma = net.sigma or (0.0,) * len(net.mass.variables)
    return np.concatenate([np.broadcast_to(np.asarray(s, float), (net.regions,))[_kept(net)] for s in sigma])


def _mean_mass(net: Network) -> NeuralMass:
    """The mass with each parameter averaged over the regions: only a place to start from."""
    mass = net.mass
    means = {f.name: float(np.mean(getattr(mass, f.name))) for f in parameter_fields(mass)}
    return dataclasses.replace(mass, **means)  # type: ignore[type-var]
