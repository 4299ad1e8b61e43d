"""What every neural mass states about itself: its equations, its parameters and where noise and coupling enter."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, ClassVar, Protocol

import jax
import numpy as np
from jaxtyping import Array, Float

Variable = Float[Array, "region lane"]
Value = Any  # a scalar, a (region,) array, or inside the kernel a (region, lane) array


class NeuralMass(Protocol):
    """A node's equations. Implementations are frozen dataclasses registered as JAX pytrees, parameters their leaves.

    Everything is elementwise: a mass works on ``(region, lane)`` arrays, on ``(region,)`` arrays and on scalars.

    Attributes
    ----------
    variables : names of the state variables
    channels : names of the signals that travel along tracts
    noise_variables : indices of the variables that may receive additive noise
    lower, upper : bounds a state is held within; infinite where there is none
    activity_unit : optional; of the observable, dimensionless where it is not given
    periods : optional; per variable the period of a circular one, such as a phase, infinite for the others
    largest_dt : model time; with the default parameters, explicit integration is not to be trusted above it
    milliseconds_per_unit : length of one unit of the model's own time
    """

    variables: ClassVar[tuple[str, ...]]
    channels: ClassVar[tuple[str, ...]]
    noise_variables: ClassVar[tuple[int, ...]]
    lower: ClassVar[tuple[float, ...]]
    upper: ClassVar[tuple[float, ...]]
    largest_dt: ClassVar[float]

    @property
    def milliseconds_per_unit(self) -> float: ...

    def sent(self, state: tuple[Variable, ...]) -> tuple[Variable, ...]:
        """What a region sends along its tracts, one signal per channel; this is what arrives a delay later."""
        ...

    def derivative(
        self,
        state: tuple[Variable, ...],
        afferents: tuple[Variable, ...],
        in_strengths: tuple[Variable, ...],
        stimulus: Variable,
    ) -> tuple[Variable, ...]:
        """Time derivative per unit of model time.

        Per channel, ``afferents`` is the sum over sources of weight times what was sent one delay ago and
        ``in_strengths`` the sum of the weights, so that diffusive coupling is afferent − in-strength · own signal.
        ``stimulus`` is the current injected from outside.
        """
        ...

    def activity(self, state: tuple[Variable, ...]) -> Variable:
        """The quantity that monitors average and that drives the blood flow."""
        ...

    def initial_state(self) -> tuple[Value, ...]:
        """A state to start from where the caller gives none."""
        ...


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One row of a neural mass's parameter table."""

    symbol: str
    meaning: str
    unit: str
    source: str
    default: float
    domain: str


def parameter(
    default: float, *, symbol: str, meaning: str, unit: str = "1", source: str, domain: str = "(-inf, inf)"
) -> Any:
    """A dataclass field that carries its own row of the parameter table.

    ``domain`` is an interval in ordinary notation, a round bracket excluding its end: ``"[0, inf)"``.
    """
    _interval(domain)
    described = Parameter(symbol=symbol, meaning=meaning, unit=unit, source=source, default=default, domain=domain)
    return dataclasses.field(default=default, metadata={"parameter": described})


def fixed(default: Any) -> Any:
    """A dataclass field that is compiled in, not traced."""
    return dataclasses.field(default=default, metadata={"static": True})


def parameter_table(mass: Any) -> tuple[Parameter, ...]:
    """The parameters of a neural mass (class or instance): symbol, meaning, unit, source and default."""
    return tuple(f.metadata["parameter"] for f in parameter_fields(mass))


def parameter_fields(mass: Any) -> tuple[dataclasses.Field[Any], ...]:
    """The fields of a model (class or instance) that carry a row of its parameter table."""
    return tuple(f for f in dataclasses.fields(mass) if "parameter" in f.metadata)


def check_domain(mass: Any) -> None:
    """Refuse a parameter that leaves its domain anywhere.

    Raises
    ------
    ValueError
        naming the parameter, the first value at fault, its region and the domain.
    """
    for described in parameter_fields(mass):
        row = described.metadata["parameter"]
        values = np.atleast_1d(np.asarray(getattr(mass, described.name), dtype=float))
        low, high, with_low, with_high = _interval(row.domain)
        inside = ((values >= low) if with_low else (values > low)) & (
            (values <= high) if with_high else (values < high)
        )
        if not inside.all():
            at = tuple(int(i) for i in np.argwhere(~inside)[0])
            where = f" in region {at[0]}" if values.size > 1 else ""
            raise ValueError(
                f"{type(mass).__name__}.{described.name} must lie in {row.domain}, got {values[at]:g}{where}"
            )


def _interval(domain: str) -> tuple[float, float, bool, bool]:
    match = re.fullmatch(r"([\[(])\s*(\S+)\s*,\s*(\S+)\s*([\])])", domain)
    if match is None:
        raise ValueError(f"a domain is an interval such as '[0, inf)', got {domain!r}")
    opening, low, high, closing = match.groups()
    return float(low), float(high), opening == "[", closing == "]"


def noise_amplitude(diffusion: float) -> float:
    """The σ of σ dW that belongs to a diffusion coefficient D (The Virtual Brain's ``nsig``): σ = √(2D)."""
    return float(np.sqrt(2.0 * diffusion))


def activity_unit(mass: NeuralMass) -> str:
    """Unit of the observable; "1" where it has none."""
    return str(getattr(mass, "activity_unit", "1"))


def within_bounds(mass: NeuralMass, state: tuple[Variable, ...]) -> tuple[Variable, ...]:
    """The state held within the bounds of its mass, and a circular variable within its period."""
    periods = getattr(mass, "periods", (np.inf,) * len(state))
    held = []
    for value, low, high, period in zip(state, mass.lower, mass.upper, periods, strict=True):
        wrapped = value if period == np.inf else jax.numpy.mod(value, period)
        bounded = wrapped if low == -np.inf else jax.numpy.maximum(wrapped, low)
        held.append(bounded if high == np.inf else jax.numpy.minimum(bounded, high))
    return tuple(held)
