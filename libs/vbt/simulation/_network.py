"""A network of neural masses: who drives whom, how strongly, how late, and what is done to it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from vbt.simulation._bold import BalloonWindkessel
from vbt.simulation._neural_mass import NeuralMass


@dataclass(frozen=True, kw_only=True)
class Stimulus:
    """A current into named regions: constant, or a train of rectangular pulses.

    Parameters
    ----------
    amplitude : one per region, in the units of the neural mass's input current
    onset, offset : s, the first moment with and the first without current
    period, width : ms of a pulse train; ``None`` for a constant current
    """

    amplitude: Float[np.ndarray, " region"]
    onset: float = 0.0
    offset: float = np.inf
    period: float | None = None
    width: float | None = None

    def __post_init__(self) -> None:
        if (self.period is None) != (self.width is None):
            raise ValueError("a pulse train needs both period and width")
        if self.period is not None and self.width is not None and not 0.0 < self.width <= self.period:
            raise ValueError(f"pulse width must be in (0, period], got {self.width} of {self.period} ms")
        if not self.onset < self.offset:
            raise ValueError(f"stimulus must end after it begins, got {self.onset} to {self.offset} s")


@dataclass(frozen=True, kw_only=True)
class Network:
    """Neural masses coupled along tracts.

    Parameters
    ----------
    mass : the neural mass; each parameter a scalar or one value per region
    weights : ``weights[target, source]``, dimensionless
    tract_lengths : ``tract_lengths[target, source]``, mm; zero means no delay
    velocity : conduction velocity, m/s (= mm/ms)
    coupling : global factor on the weights
    sigma : noise amplitude σ of σ dW per state variable, model time; scalar or one per region
    balloon : haemodynamics of every region; an efficacy of 0 where the activity means nothing to blood flow
    initial : state to start from, one row per variable
    stimulus : current from outside
    active : False for regions that were removed; their activity is reported as NaN
    instantaneous_below_step : let a tract whose delay is shorter than a time step act without delay instead of refusing
    """

    mass: NeuralMass
    weights: Float[np.ndarray, "region region"]
    tract_lengths: Float[np.ndarray, "region region"]
    velocity: float
    coupling: float = 1.0
    sigma: tuple[float | Float[np.ndarray, " region"], ...] = ()
    balloon: BalloonWindkessel = field(default_factory=BalloonWindkessel)
    initial: Float[np.ndarray, "variable region"] | None = None
    stimulus: Stimulus | None = None
    active: Bool[np.ndarray, " region"] | None = None
    instantaneous_below_step: bool = False

    def __post_init__(self) -> None:
        n = self.weights.shape[0]
        if self.weights.shape != (n, n) or self.tract_lengths.shape != (n, n):
            raise ValueError(
                f"weights and tract lengths must be square, got {self.weights.shape}, {self.tract_lengths.shape}"
            )
        if not (np.isfinite(self.weights).all() and np.isfinite(self.tract_lengths).all()):
            raise ValueError("weights and tract lengths must be finite")
        if (self.tract_lengths < 0).any() or not self.velocity > 0:
            raise ValueError("tract lengths must not be negative and velocity must be positive")
        if self.sigma and len(self.sigma) != len(self.mass.variables):
            raise ValueError(f"sigma needs one entry per state variable {self.mass.variables}, got {len(self.sigma)}")
        noisy = {i for i, s in enumerate(self.sigma) if np.any(np.asarray(s))}
        if not noisy <= set(self.mass.noise_variables):
            allowed = [self.mass.variables[i] for i in self.mass.noise_variables]
            raise ValueError(f"noise belongs on {allowed}, got it on {[self.mass.variables[i] for i in sorted(noisy)]}")

    @property
    def regions(self) -> int:
        return int(self.weights.shape[0])


def delay_steps(network: Network, dt: float) -> Int[np.ndarray, "region region"]:
    """Conduction delays in time steps of ``dt`` ms, rounded to the nearest step, for every pair of regions.

    Raises
    ------
    ValueError
        where a tract that exists has a delay between zero and one step, unless the network accepts it as instantaneous.
    """
    # Half up, not NumPy's half to even: a delay of 2.5 steps and one of 3.5 must move the same way.
    delays = network.tract_lengths / network.velocity
    steps = np.floor(delays / dt + 0.5).astype(np.int32)
    short = (network.weights != 0) & (delays > 0) & (delays < dt)
    if short.any() and not network.instantaneous_below_step:
        raise ValueError(
            f"shortest delay is {delays[short].min():.3g} ms but the time step is {dt:.3g} ms; take a smaller step or "
            "set instantaneous_below_step"
        )
    return steps


def resect(network: Network, regions: tuple[int, ...]) -> Network:
    """The network without some regions: their connections are cut both ways and they are no longer reported."""
    removed = np.zeros(network.regions, dtype=bool)
    removed[list(regions)] = True
    weights = np.where(removed[:, None] | removed[None, :], 0.0, network.weights)
    active = (np.ones(network.regions, dtype=bool) if network.active is None else network.active) & ~removed
    return dataclasses.replace(network, weights=weights, active=active)


def stimulate(
    network: Network,
    regions: tuple[int, ...],
    amplitude: float,
    *,
    onset: float = 0.0,
    offset: float = np.inf,
    period: float | None = None,
    width: float | None = None,
) -> Network:
    """The network with a current into some regions; the arguments are those of `Stimulus`."""
    if network.stimulus is not None:
        raise ValueError("the network is stimulated already")
    amplitudes = np.zeros(network.regions)
    amplitudes[list(regions)] = amplitude
    return dataclasses.replace(
        network, stimulus=Stimulus(amplitude=amplitudes, onset=onset, offset=offset, period=period, width=width)
    )
