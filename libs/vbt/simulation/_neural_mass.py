"""What every neural mass states about itself: its equations, its parameters and where noise and coupling enter."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol

import jax
import numpy as np
from jaxtyping import Array, Float

Variable = Float[Array, "region lane"]
Value = Any  # a scalar, a (region,) array, or inside the kernel a (region, lane) array


class NeuralMass(Protocol):
    """A node's equations. Implementations are frozen dataclasses registered as JAX pytrees, parameters their leaves.

    Attributes
    ----------
    variables : names of the state variables
    coupling_variable : index of the variable that travels along tracts
    noise_variables : indices of the variables that may receive additive noise
    lower, upper : bounds a state is held within; infinite where there is none
    milliseconds_per_unit : length of one unit of the model's own time
    """

    variables: ClassVar[tuple[str, ...]]
    coupling_variable: ClassVar[int]
    noise_variables: ClassVar[tuple[int, ...]]
    lower: ClassVar[tuple[float, ...]]
    upper: ClassVar[tuple[float, ...]]

    @property
    def milliseconds_per_unit(self) -> float: ...

    def derivative(
        self, state: tuple[Variable, ...], afferent: Variable, in_strength: Variable, stimulus: Variable
    ) -> tuple[Variable, ...]:
        """Time derivative per unit of model time.

        ``afferent`` is the sum over sources of weight times the delayed coupling variable, ``in_strength`` the sum of
        the weights (for diffusive coupling), ``stimulus`` the current injected from outside.
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


def parameter(default: float, *, symbol: str, meaning: str, unit: str = "1", source: str) -> Any:
    """A dataclass field that carries its own row of the parameter table."""
    described = Parameter(symbol=symbol, meaning=meaning, unit=unit, source=source, default=default)
    return dataclasses.field(default=default, metadata={"parameter": described})


def fixed(default: Any) -> Any:
    """A dataclass field that is compiled in, not traced."""
    return dataclasses.field(default=default, metadata={"static": True})


def parameter_table(mass: Any) -> tuple[Parameter, ...]:
    """The parameters of a neural mass (class or instance): symbol, meaning, unit, source and default."""
    return tuple(f.metadata["parameter"] for f in dataclasses.fields(mass) if "parameter" in f.metadata)


def noise_amplitude(diffusion: float) -> float:
    """The σ of σ dW that belongs to a diffusion coefficient D (The Virtual Brain's ``nsig``): σ = √(2D)."""
    return float(np.sqrt(2.0 * diffusion))


def within_bounds(mass: NeuralMass, state: tuple[Variable, ...]) -> tuple[Variable, ...]:
    """The state held within the bounds of its mass."""
    held = []
    for value, low, high in zip(state, mass.lower, mass.upper, strict=True):
        bounded = value if low == -np.inf else jax.numpy.maximum(value, low)
        held.append(bounded if high == np.inf else jax.numpy.minimum(bounded, high))
    return tuple(held)
