"""A network of neural masses: who drives whom, how strongly, how late, and what is done to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vbt.simulation._bold import BalloonWindkessel
from vbt.simulation._neural_mass import NeuralMass, check_domain, parameter_fields
from vbt.simulation._stimulus import Stimulus


@dataclass(frozen=True, kw_only=True)
class Network:
    """Neural masses coupled along tracts.

    Parameters
    ----------
    mass : the neural mass; each parameter a scalar or one value per region
    weights : ``weights[target, source]``, dimensionless, not negative; one matrix for all channels of the mass or one
        per channel
    tract_lengths : ``tract_lengths[target, source]``, mm; zero means no delay
    velocity : conduction velocity, m/s (= mm/ms), one for all tracts or one per tract
    coupling : global factor on the weights
    sigma : noise amplitude σ of σ dW per state variable, model time; scalar or one per region
    balloon : haemodynamics of every region; an efficacy of 0 where the activity means nothing to blood flow
    initial : state to start from, one row per variable
    stimulus : current from outside
    active : False for regions that were removed; their activity is reported as NaN
    instantaneous_below_step : let a delay shorter than a time step be rounded as all others are, to none below half a
        step, instead of refusing it
    region_labels : names of the regions, each another; their indices where none are given

    Raises
    ------
    ValueError
        naming the argument, the value at fault and the rule it breaks.
    """

    mass: NeuralMass
    weights: Float[np.ndarray, "region region"] | Float[np.ndarray, "channel region region"]
    tract_lengths: Float[np.ndarray, "region region"]
    velocity: float | Float[np.ndarray, "region region"]
    coupling: float = 1.0
    sigma: tuple[float | Float[np.ndarray, " region"], ...] = ()
    balloon: BalloonWindkessel = field(default_factory=BalloonWindkessel)
    initial: Float[np.ndarray, "variable region"] | None = None
    stimulus: Stimulus | None = None
    active: Bool[np.ndarray, " region"] | None = None
    instantaneous_below_step: bool = False
    region_labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        self._check_shapes()
        self._check_start()
        _check_entries("weights", self.weights)
        _check_entries("tract_lengths", self.tract_lengths)
        velocity = np.asarray(self.velocity, dtype=float)
        if not (velocity > 0).all():
            raise ValueError(f"velocity must be positive, got {velocity[~(velocity > 0)].flat[0]:g} m/s")
        if not np.isfinite(self.coupling):
            raise ValueError(f"coupling must be finite, got {self.coupling}")
        if not 0.0 < self.mass.milliseconds_per_unit < np.inf:
            raise ValueError(
                f"milliseconds_per_unit must be positive and finite, got {self.mass.milliseconds_per_unit:g}"
            )
        self._check_sigma()
        self._check_per_region()
        check_domain(self.mass)
        check_domain(self.balloon)

    def _check_shapes(self) -> None:
        n, channels = self.weights.shape[-1], len(self.mass.channels)
        if self.weights.shape not in ((n, n), (channels, n, n)):
            raise ValueError(
                f"weights must be square, one matrix or one for each of {channels} channels, got {self.weights.shape}"
            )
        if self.tract_lengths.shape != (n, n):
            raise ValueError(f"tract_lengths must be {(n, n)} as weights, got {self.tract_lengths.shape}")
        if np.shape(self.velocity) not in ((), (n, n)):
            raise ValueError(f"velocity must be one number or {(n, n)}, got {np.shape(self.velocity)}")
        if self.region_labels is not None and len(self.region_labels) != n:
            raise ValueError(f"region_labels must name {n} regions, got {len(self.region_labels)}")
        if self.region_labels is not None and len(set(self.region_labels)) < n:
            again = next(i for i, label in enumerate(self.region_labels) if label in self.region_labels[:i])
            raise ValueError(f"region_labels must be different from each other, got that of region {again} again")
        if self.initial is not None and np.shape(self.initial) != (len(self.mass.variables), n):
            raise ValueError(f"initial must be {(len(self.mass.variables), n)}, got {np.shape(self.initial)}")
        if self.active is not None and np.shape(self.active) != (n,):
            raise ValueError(f"active must be {(n,)}, got {np.shape(self.active)}")

    def _check_per_region(self) -> None:
        allowed = ((), (self.regions,))
        described = [(model, f.name) for model in (self.mass, self.balloon) for f in parameter_fields(model)]
        shapes = {f"{type(model).__name__}.{name}": np.shape(getattr(model, name)) for model, name in described}
        shapes |= {
            f"sigma of {name}": np.shape(sigma) for name, sigma in zip(self.mass.variables, self.sigma, strict=False)
        }
        for name, shape in shapes.items():
            if shape not in allowed:
                raise ValueError(f"{name} must be one number or {(self.regions,)}, got {shape}")
        if self.stimulus is not None and self.stimulus.amplitude.shape[1] != self.regions:
            raise ValueError(
                f"stimulus must have one amplitude for each of {self.regions} regions, "
                f"got {self.stimulus.amplitude.shape[1]}"
            )

    def _check_start(self) -> None:
        if self.initial is not None and not np.isfinite(self.initial).all():
            variable, region = (int(i) for i in np.argwhere(~np.isfinite(self.initial))[0])
            raise ValueError(
                f"initial must be finite, got {self.initial[variable, region]:g} for {self.mass.variables[variable]} "
                f"in region {region}"
            )
        if self.active is not None and np.asarray(self.active).dtype != bool:
            raise ValueError(f"active must be True or False for every region, got {np.asarray(self.active).dtype}")

    def _check_sigma(self) -> None:
        if self.sigma and len(self.sigma) != len(self.mass.variables):
            raise ValueError(f"sigma needs one entry per state variable {self.mass.variables}, got {len(self.sigma)}")
        for name, sigma in zip(self.mass.variables, self.sigma, strict=False):
            values = np.asarray(sigma, dtype=float)
            if not ((values >= 0) & np.isfinite(values)).all():
                raise ValueError(f"sigma must be finite and not negative, got {values.min():g} on {name}")
        noisy = {i for i, s in enumerate(self.sigma) if np.any(np.asarray(s))}
        if not noisy <= set(self.mass.noise_variables):
            allowed = [self.mass.variables[i] for i in self.mass.noise_variables]
            raise ValueError(f"noise belongs on {allowed}, got it on {[self.mass.variables[i] for i in sorted(noisy)]}")

    @property
    def regions(self) -> int:
        return int(self.weights.shape[-1])

    @property
    def start(self) -> tuple[Any, ...]:
        """The initial state, one entry per variable."""
        return self.mass.initial_state() if self.initial is None else tuple(self.initial)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(str(i) for i in range(self.regions)) if self.region_labels is None else self.region_labels

    @property
    def channel_weights(self) -> Float[np.ndarray, "channel region region"]:
        """Coupling times weights, one matrix per channel of the mass."""
        n = self.regions
        return np.asarray(np.broadcast_to(self.coupling * self.weights, (len(self.mass.channels), n, n)))

    @property
    def is_tract(self) -> Bool[np.ndarray, "region region"]:
        """Whether anything travels from source to target."""
        return np.asarray((self.weights != 0).reshape(-1, self.regions, self.regions).any(axis=0))

    @property
    def delays(self) -> Float[np.ndarray, "region region"]:
        """Conduction delays in ms."""
        return np.asarray(self.tract_lengths / self.velocity)


def _check_entries(name: str, matrix: np.ndarray) -> None:
    wrong = ~(np.isfinite(matrix) & (matrix >= 0))
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name} must be finite and not negative, got {matrix[at]:g} at {list(at)}")


def delay_steps(network: Network, dt: float) -> Int[np.ndarray, "region region"]:
    """Conduction delays in time steps of ``dt`` ms, rounded to the nearest step, for every pair of regions.

    Raises
    ------
    ValueError
        where a tract that exists has a delay between zero and one step, unless the network accepts its rounding.
    """
    # Half up, not NumPy's half to even: a delay of 2.5 steps and one of 3.5 must move the same way.
    delays = network.delays
    steps = np.floor(delays / dt + 0.5).astype(np.int32)
    # A delay of one step is none too short for having been rounded on the way: 0.3 mm at 3 m/s is 0.09999… ms.
    short = network.is_tract & (delays > 0) & (delays < dt * (1.0 - 1e-9))
    if short.any() and not network.instantaneous_below_step:
        raise ValueError(
            f"delays must be none or one time step of {dt:.3g} ms at least (take a smaller step or set "
            f"instantaneous_below_step), got {delays[short].min():.3g} ms"
        )
    return steps
