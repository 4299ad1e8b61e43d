"""An autonomous vector field with one parameter left free: a neural mass alone, a network, or a normal form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vbt.simulation._network import Network
from vbt.simulation._neural_mass import NeuralMass, activity_unit, parameter_fields
from vbt.simulation.bifurcation._delays import NetworkSpectrum

Field = Callable[[Any, Any, Any], Any]  # (state, parameter, constants) -> time derivative; hashable


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A quantity as it is written on an axis."""

    name: str
    symbol: str
    unit: str = "1"

    @property
    def label(self) -> str:
        return self.symbol if self.unit in ("", "1") else f"{self.symbol} ({self.unit})"


class Linearisation(NamedTuple):
    """The field, its Jacobian and its derivative by the parameter, at one state."""

    derivative: Float[np.ndarray, " state"]
    jacobian: Float[np.ndarray, "state state"]
    by_parameter: Float[np.ndarray, " state"]


@dataclass(frozen=True, kw_only=True, eq=False)
class System:
    """x' = field(x, p, constants), everything in double precision.

    Parameters
    ----------
    field : written in `jax.numpy`; compiled once for each (hashable) function and shape of the constants
    constants : what the field needs besides state and parameter, a pytree
    variables : a name for each entry of the state
    parameter : the parameter that is left free
    value : its value in the model this system was made from
    start : a state to search around
    lower, upper : bounds outside of which a state means nothing
    observable : (state) -> the number or, for a network, the numbers that are drawn
    observed : what the observable is
    milliseconds_per_unit : length of one unit of the system's time; None where time has no unit
    spectrum : (state, parameter) -> characteristic roots, where they are not the eigenvalues of the Jacobian (delays)
    region_size : number of regions of a network, whose state is ordered variable by variable; 1 otherwise
    """

    field: Field
    variables: tuple[str, ...]
    constants: Any = ()
    parameter: Axis = dataclasses.field(default_factory=lambda: Axis(name="p", symbol="p"))
    value: float = 0.0
    start: Float[np.ndarray, " state"] | None = None
    lower: Float[np.ndarray, " state"] | None = None
    upper: Float[np.ndarray, " state"] | None = None
    observable: Callable[[Any], Any] = lambda state: state[0]
    observed: Axis = dataclasses.field(default_factory=lambda: Axis(name="x", symbol="x"))
    milliseconds_per_unit: float | None = None
    spectrum: Callable[[np.ndarray, float], np.ndarray] | None = None
    region_size: int = 1

    @property
    def size(self) -> int:
        return len(self.variables)

    @property
    def bounds(self) -> tuple[Float[np.ndarray, " state"], Float[np.ndarray, " state"]]:
        low = np.full(self.size, -np.inf) if self.lower is None else np.asarray(self.lower, float)
        high = np.full(self.size, np.inf) if self.upper is None else np.asarray(self.upper, float)
        return low, high

    @property
    def centre(self) -> Float[np.ndarray, " state"]:
        return np.zeros(self.size) if self.start is None else np.asarray(self.start, float)

    @property
    def scale(self) -> Float[np.ndarray, " state"]:
        """What counts as one step of each variable: its size at the start state, per variable the same in all regions.

        A variable whose start is smaller than a tenth of the largest is given that tenth.
        """
        size = np.abs(self.centre).reshape(-1, self.region_size).max(axis=1)
        floor = 0.1 * size.max() if size.max() > 0 else 1.0
        return np.repeat(np.maximum(size, floor), self.region_size)

    def derivative(self, state: Float[np.ndarray, " state"], parameter: float) -> Float[np.ndarray, " state"]:
        with jax.enable_x64(True):
            return np.asarray(_derivative(self.field, np.asarray(state, float), float(parameter), self.constants))

    def linearised(self, state: Float[np.ndarray, " state"], parameter: float) -> Linearisation:
        with jax.enable_x64(True):
            parts = _linearised(self.field, np.asarray(state, float), float(parameter), self.constants)
            return Linearisation(*(np.asarray(part) for part in parts))

    def eigenvalues(self, state: Float[np.ndarray, " state"], parameter: float) -> np.ndarray:
        """Eigenvalues of the linearisation (characteristic roots where there are delays), largest real part first."""
        if self.spectrum is not None:
            return in_order(self.spectrum(state, parameter))
        return in_order(np.linalg.eigvals(self.linearised(state, parameter).jacobian))

    def second(self, state: np.ndarray, parameter: float, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """D²f[u, v] for real or complex directions."""
        with jax.enable_x64(True):

            def real(a: np.ndarray, b: np.ndarray) -> np.ndarray:
                return np.asarray(_second(self.field, np.asarray(state, float), float(parameter), self.constants, a, b))

            u, v = np.asarray(u), np.asarray(v)
            if not (np.iscomplexobj(u) or np.iscomplexobj(v)):
                return real(u, v)
            # Bilinear, not sesquilinear: nothing is conjugated.
            real_part = real(u.real, v.real) - real(u.imag, v.imag)
            return np.asarray(real_part + 1j * (real(u.real, v.imag) + real(u.imag, v.real)))

    def third(self, state: np.ndarray, parameter: float, u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
        """D³f[u, v, w] for real directions."""
        with jax.enable_x64(True):
            return np.asarray(_third(self.field, np.asarray(state, float), float(parameter), self.constants, u, v, w))

    def observe(self, state: Float[np.ndarray, " state"]) -> float:
        """The observable, averaged over the regions of a network."""
        with jax.enable_x64(True):
            return float(np.mean(np.asarray(self.observable(jnp.asarray(state, float)))))


def in_order(eigenvalues: np.ndarray) -> np.ndarray:
    """Largest real part first; of a conjugate pair the positive imaginary part first."""
    order = np.lexsort((-eigenvalues.imag, np.round(-eigenvalues.real, 12)))
    return np.asarray(eigenvalues[order])


def node(
    mass: NeuralMass,
    parameter: str,
    *,
    stimulus: float = 0.0,
    afferents: tuple[float, ...] | None = None,
    in_strengths: tuple[float, ...] | None = None,
) -> System:
    """One neural mass by itself, or driven by constant afferents.

    Parameters
    ----------
    parameter : a parameter of the mass, or ``"stimulus"``
    stimulus : constant current, in the units of the mass's input
    afferents, in_strengths : what arrives per channel, and the sum of the weights it arrives with; zero by default

    Raises
    ------
    ValueError
        where the mass has no such parameter, or one that differs from region to region.
    """
    _check_parameter(mass, parameter, ("stimulus",))
    for name, value in _parameters(mass).items():
        if np.ndim(value):
            raise ValueError(f"a node has one {name}, got {np.shape(value)}; use network() or one region's parameters")
    zeros = tuple(0.0 for _ in mass.channels)
    constants = (mass, zeros if afferents is None else afferents, zeros if in_strengths is None else in_strengths)
    return System(
        field=_NodeField(parameter),
        constants=as_doubles((*constants, stimulus)),
        variables=mass.variables,
        parameter=_axis(mass, parameter),
        value=float(stimulus if parameter == "stimulus" else getattr(mass, parameter)),
        start=np.array([float(value) for value in mass.initial_state()]),
        lower=np.asarray(mass.lower, float),
        upper=np.asarray(mass.upper, float),
        observable=_Observable(_Hashed(mass)),
        observed=Axis(name="activity", symbol="activity", unit=activity_unit(mass)),
        milliseconds_per_unit=float(mass.milliseconds_per_unit),
    )


def network(
    net: Network,
    parameter: str,
    *,
    region: int | None = None,
    offset: bool = False,
    delayed: bool = False,
    stimulus: float | Float[np.ndarray, " region"] = 0.0,
    roots: int = 12,
) -> System:
    """The coupled regions of a network; removed regions are left out.

    Parameters
    ----------
    parameter : a parameter of the mass, ``"coupling"``, ``"stimulus"``, or where delayed ``"velocity"``
    region : index of the only region that it is changed in; all by default
    offset : the free parameter is added to what each region has, instead of taking its place
    delayed : judge stability by the characteristic roots of the delayed equations. Equilibria and folds do not depend
        on delays, Hopf bifurcations do; without it every tract acts at once
    stimulus : constant current into each region
    roots : how many rightmost characteristic roots are kept

    Raises
    ------
    ValueError
        where there is no such parameter or region, or the network carries a stimulus that changes in time.
    """
    mass = net.mass
    _check_parameter(mass, parameter, ("stimulus", "coupling", "velocity"))
    _check_velocity(net, parameter, delayed)
    if net.stimulus is not None:
        raise ValueError("equilibria need a constant input: remove the network's stimulus and give it as stimulus=")
    if region is not None and (parameter in ("coupling", "velocity") or not 0 <= region < net.regions):
        raise ValueError(f"region must be in [0, {net.regions}) and belongs to a regional parameter, got {region}")
    kept = np.ones(net.regions, dtype=bool) if net.active is None else np.asarray(net.active)
    if region is not None and not kept[region]:
        raise ValueError(f"region {region} was removed")
    n, channels = int(kept.sum()), len(mass.channels)
    mass = dataclasses.replace(  # type: ignore[type-var]
        mass, **{name: np.asarray(value)[kept] for name, value in _parameters(mass).items() if np.ndim(value)}
    )
    weights = np.broadcast_to(net.weights, (channels, net.regions, net.regions))[:, kept][:, :, kept]
    drive = np.broadcast_to(np.asarray(stimulus, float), (net.regions,))[kept]
    labels = [label for label, keep in zip(net.labels, kept, strict=True) if keep]
    here = None if region is None else int(kept[:region].sum())
    axis = _axis(mass, parameter)
    if here is not None:
        axis = dataclasses.replace(axis, symbol=f"{axis.symbol} of {labels[here]}")
    if offset:
        axis = dataclasses.replace(axis, symbol=f"Δ{axis.symbol}")
    current = {"stimulus": drive, "coupling": net.coupling, "velocity": net.velocity}.get(
        parameter, getattr(mass, parameter, 0.0)
    )
    value = 0.0 if offset else float(np.mean(current if here is None else np.broadcast_to(current, (n,))[here]))
    initial = [np.broadcast_to(np.asarray(part, float), (n,)) for part in mass.initial_state()]
    changed = np.ones(n) if here is None else (np.arange(n) == here).astype(float)
    field_ = NetworkField(parameter, offset, n)
    constants = as_doubles((mass, weights, float(net.coupling), drive, changed))
    observable = _Observable(_Hashed(mass), n)
    system = System(
        field=field_,
        constants=constants,
        variables=tuple(f"{name}[{label}]" for name in mass.variables for label in labels),
        parameter=axis,
        value=value,
        start=np.concatenate(initial),
        lower=np.repeat(np.asarray(mass.lower, float), n),
        upper=np.repeat(np.asarray(mass.upper, float), n),
        observable=observable,
        observed=Axis(name="activity", symbol="mean activity", unit=activity_unit(mass)),
        milliseconds_per_unit=float(mass.milliseconds_per_unit),
        region_size=n,
    )
    if not delayed:
        return system
    delays = net.delays[kept][:, kept] / float(mass.milliseconds_per_unit)
    velocity = float(np.mean(net.velocity)) if parameter == "velocity" else None
    return dataclasses.replace(system, spectrum=NetworkSpectrum(field_, constants, delays, roots, velocity, offset))


@dataclass(frozen=True)
class _NodeField:
    parameter: str

    def __call__(self, state: Array, parameter: Array, constants: Any) -> Array:
        mass, afferents, in_strengths, stimulus = constants
        if self.parameter == "stimulus":
            stimulus = parameter
        else:
            mass = dataclasses.replace(mass, **{self.parameter: parameter})
        rates = mass.derivative(tuple(state), afferents, in_strengths, stimulus)
        return jnp.stack([jnp.broadcast_to(rate, ()) for rate in rates])


@dataclass(frozen=True)
class NetworkField:
    """The coupled equations; the constants are mass, weights, coupling, stimulus and a mask of changed regions."""

    parameter: str
    offset: bool
    regions: int

    def at(self, parameter: Any, constants: Any) -> tuple[Any, Any, Any, Any]:
        """Mass, weights, coupling and stimulus with the free parameter put in."""
        mass, weights, coupling, stimulus, changed = constants
        if self.parameter == "velocity":  # acts on the delays alone
            return mass, weights, coupling, stimulus
        if self.parameter == "coupling":
            return mass, weights, coupling + parameter if self.offset else parameter, stimulus
        if self.parameter == "stimulus":
            return mass, weights, coupling, self._put(stimulus, parameter, changed)
        value = self._put(getattr(mass, self.parameter), parameter, changed)
        return dataclasses.replace(mass, **{self.parameter: value}), weights, coupling, stimulus

    def _put(self, value: Any, parameter: Any, changed: Any) -> Any:
        everywhere = jnp.broadcast_to(value, (self.regions,))
        # A mask that is traced, so that another region is no other function and nothing is compiled again.
        return jnp.where(changed > 0, everywhere + parameter if self.offset else parameter, everywhere)

    def __call__(self, state: Array, parameter: Any, constants: Any) -> Array:
        mass, weights, coupling, stimulus = self.at(parameter, constants)
        variables = tuple(state.reshape(-1, self.regions))
        afferents = tuple(coupling * w @ s for w, s in zip(weights, mass.sent(variables), strict=True))
        in_strengths = tuple(coupling * w.sum(axis=1) for w in weights)
        rates = mass.derivative(variables, afferents, in_strengths, stimulus)
        return jnp.concatenate([jnp.broadcast_to(rate, (self.regions,)) for rate in rates])


@dataclass(frozen=True)
class _Hashed:
    """A mass compared by identity, so that it may hold arrays."""

    mass: Any

    def __hash__(self) -> int:
        return id(self.mass)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and other.mass is self.mass


@dataclass(frozen=True)
class _Observable:
    of: _Hashed
    regions: int = 1

    def __call__(self, state: Array) -> Array:
        return jnp.asarray(self.of.mass.activity(tuple(state.reshape(-1, self.regions))))


def _parameters(mass: Any) -> dict[str, Any]:
    return {f.name: getattr(mass, f.name) for f in parameter_fields(mass)}


def _check_parameter(mass: Any, parameter: str, more: tuple[str, ...]) -> None:
    known = (*_parameters(mass), *more)
    if parameter not in known:
        raise ValueError(f"{type(mass).__name__} can be continued in {', '.join(known)}, got {parameter!r}")


def _check_velocity(net: Network, parameter: str, delayed: bool) -> None:
    if parameter == "velocity" and (not delayed or np.ndim(net.velocity)):
        raise ValueError("velocity can be continued where delayed=True and it is one number for all tracts")


def _axis(mass: Any, parameter: str) -> Axis:
    for described in dataclasses.fields(mass):
        if described.name == parameter:
            row = described.metadata["parameter"]
            return Axis(name=parameter, symbol=row.symbol, unit=row.unit)
    symbols = {"coupling": ("G", "1"), "velocity": ("v", "m/s"), "stimulus": ("stimulus", "1")}
    return Axis(name=parameter, symbol=symbols[parameter][0], unit=symbols[parameter][1])


def as_doubles(constants: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype=np.float64), constants)


@partial(jax.jit, static_argnums=0)
def _derivative(field: Field, state: Array, parameter: Array, constants: Any) -> Array:
    return jnp.asarray(field(state, parameter, constants))


@partial(jax.jit, static_argnums=0)
def _linearised(field: Field, state: Array, parameter: Array, constants: Any) -> tuple[Array, Array, Array]:
    jacobian, by_parameter = jax.jacfwd(field, argnums=(0, 1))(state, parameter, constants)
    return field(state, parameter, constants), jacobian, by_parameter


def directional(function: Callable[[Any], Any], direction: Any) -> Callable[[Any], Any]:
    """The derivative of a function along a fixed direction, itself a function of the state."""
    return lambda state: jax.jvp(function, (state,), (direction,))[1]


@partial(jax.jit, static_argnums=0)
def _second(field: Field, state: Array, parameter: Array, constants: Any, u: Array, v: Array) -> Array:
    first = directional(lambda x: field(x, parameter, constants), u)
    return jnp.asarray(directional(first, v)(state))


@partial(jax.jit, static_argnums=0)
def _third(field: Field, state: Array, parameter: Array, constants: Any, u: Array, v: Array, w: Array) -> Array:
    first = directional(lambda x: field(x, parameter, constants), u)
    return jnp.asarray(directional(directional(first, v), w)(state))
