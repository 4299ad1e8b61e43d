"""What is observed while a simulation runs; a monitor's state is carried along, so memory does not grow with time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vbt.simulation._bold import BalloonWindkessel, Haemodynamics
from vbt.simulation._network import Network
from vbt.simulation._neural_mass import Variable, activity_unit, fixed


class Monitor(Protocol):
    """An observation model. Implementations are frozen dataclasses registered as JAX pytrees.

    Attributes
    ----------
    period : s between samples, compiled in (`fixed`); a whole number of time steps
    resolution : s; the chunks a monitor is shown divide it, and it divides the period
    unit : of the samples, which may depend on the mass that the monitor is bound to
    """

    @property
    def period(self) -> float: ...

    @property
    def resolution(self) -> float: ...

    @property
    def unit(self) -> str: ...

    def labels(self, region_labels: tuple[str, ...]) -> tuple[str, ...]:
        """One per channel."""
        ...

    def bound(self, networks: Sequence[Network]) -> Any:
        """The monitor with what it reads from each run of a batch, lanes last; itself where it reads nothing."""
        ...

    def begin(self, like: Float[Array, "region lane"]) -> Any:
        """The state before anything was seen; ``like`` gives shape and type."""
        ...

    def step(self, carry: Any, activity: Float[Array, "region lane"], seconds: float) -> Any:
        """The state after the mean activity of a chunk of ``seconds`` (a few ms at most)."""
        ...

    def sample(self, carry: Any, state: tuple[Variable, ...]) -> tuple[Any, Float[Array, "channel lane"]]:
        """At the end of each period, and unseen at the end of the transient: the state to go on from, and the values.

        ``state`` is the neural masses' state at this moment.
        """
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TemporalAverage:
    """The mean over each period of the neural mass's observable and in its unit, one channel per region."""

    period: float = fixed(dataclasses.MISSING)
    unit: str = fixed("1")

    @property
    def resolution(self) -> float:
        return self.period

    def labels(self, region_labels: tuple[str, ...]) -> tuple[str, ...]:
        return region_labels

    def bound(self, networks: Sequence[Network]) -> TemporalAverage:
        return dataclasses.replace(self, unit=activity_unit(networks[0].mass))

    def begin(self, like: Float[Array, "region lane"]) -> tuple[Variable, Variable]:
        return jnp.zeros_like(like), jnp.zeros((), like.dtype)

    def step(self, carry: tuple[Variable, Variable], activity: Variable, seconds: float) -> tuple[Variable, Variable]:
        del seconds  # all chunks are of one length
        total, chunks = carry
        return total + activity, chunks + 1.0

    def sample(
        self, carry: tuple[Variable, Variable], state: tuple[Variable, ...]
    ) -> tuple[tuple[Variable, Variable], Variable]:
        del state
        total, chunks = carry
        return (jnp.zeros_like(total), jnp.zeros_like(chunks)), total / chunks


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bold:
    """BOLD change in percent at the end of each period, from every region's haemodynamics (`Network.balloon`)."""

    period: float = fixed(dataclasses.MISSING)
    unit: str = fixed("%")
    balloon: BalloonWindkessel = dataclasses.field(default_factory=BalloonWindkessel)

    @property
    def resolution(self) -> float:
        return self.period

    def labels(self, region_labels: tuple[str, ...]) -> tuple[str, ...]:
        return region_labels

    def bound(self, networks: Sequence[Network]) -> Bold:
        return dataclasses.replace(self, balloon=lanes_last([network.balloon for network in networks], networks))

    def begin(self, like: Float[Array, "region lane"]) -> Haemodynamics:
        return self.balloon.rest(like)

    def step(self, carry: Haemodynamics, activity: Variable, seconds: float) -> Haemodynamics:
        return self.balloon.step(carry, activity, seconds)

    def sample(self, carry: Haemodynamics, state: tuple[Variable, ...]) -> tuple[Haemodynamics, Variable]:
        del state
        return carry, 100.0 * self.balloon.signal(carry)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trajectory:
    """The whole state at the end of each period: one channel per variable and region, variables outermost.

    Every variable is in its own unit, so that the observation names none.
    """

    period: float = fixed(dataclasses.MISSING)
    unit: str = fixed("1")
    variables: tuple[str, ...] = fixed(())

    @property
    def resolution(self) -> float:
        return self.period

    def labels(self, region_labels: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{variable} {region}" for variable in self.variables for region in region_labels)

    def bound(self, networks: Sequence[Network]) -> Trajectory:
        return dataclasses.replace(self, variables=networks[0].mass.variables)

    def begin(self, like: Float[Array, "region lane"]) -> tuple[()]:
        del like
        return ()

    def step(self, carry: tuple[()], activity: Variable, seconds: float) -> tuple[()]:
        del activity, seconds
        return carry

    def sample(self, carry: tuple[()], state: tuple[Variable, ...]) -> tuple[tuple[()], Variable]:
        return carry, jnp.concatenate(state)


def lanes_last(parts: Sequence[Any], networks: Sequence[Network]) -> Any:
    """Pytrees of scalars and ``(region,)`` arrays, one per run, as one pytree of ``(region, lane)`` arrays."""
    regions = networks[0].regions

    def stacked(*leaves: Any) -> jax.Array:
        columns = [np.broadcast_to(np.asarray(leaf, dtype=float), (regions,)) for leaf in leaves]
        return jnp.asarray(np.stack(columns, axis=-1), dtype=float)

    return jax.tree.map(stacked, *parts)
