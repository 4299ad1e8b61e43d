"""A simulation's value and gradient in machine code as a function that JAX can compile, differentiate and map."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vbt.simulation._from_host import from_host, shape_of
from vbt.simulation._network import Network
from vbt.simulation._neural_mass import NeuralMass, Variable
from vbt.simulation._reverse import Numbers, Reversible
from vbt.simulation._segments import Activity, is_zero, segment_lengths
from vbt.simulation._simulate import side_by_side
from vbt.simulation._timing import Timing


class Inputs(NamedTuple):
    """What a simulation is differentiated by, lanes last.

    Parameters
    ----------
    mass : the neural mass, each parameter ``(region, lane)``
    weights : coupling included, ``[channel, target, source]``; only tracts that the networks have act
    sigma : noise amplitude of the noisy variables, in their order
    initial : the state to start from, one entry per variable
    """

    mass: NeuralMass
    weights: Float[Array, "channel region region lane"]
    sigma: Float[Array, "noisy region lane"]
    initial: tuple[Variable, ...]


def in_machine_code(
    networks: Sequence[Network],
    seeds: Sequence[int],
    timing: Timing,
    every: int,
    inputs: Inputs,
    traced: Callable[[Inputs], Activity],
) -> Callable[[Inputs], Activity]:
    """The same function as ``traced``, its values and its transposed derivative by `Reversible`.

    Raises
    ------
    CannotLower
        where a derivative uses an operation that has no vector instructions here.
    """
    hosted = _Hosted(networks, seeds, timing, every, inputs)

    @jax.custom_jvp
    def integrate(inputs: Inputs) -> Activity:
        found: Activity = from_host(hosted.run, hosted.activity, inputs)
        return found

    @functools.partial(integrate.defjvp, symbolic_zeros=True)
    def derivative(primals: tuple[Inputs], tangents: tuple[Inputs]) -> tuple[Activity, Activity]:
        (inputs,), (turned,) = primals, tangents
        by_weights = not is_zero(turned.weights)
        leaves, structure = jax.tree.flatten(turned, is_leaf=is_zero)
        moving = [k for k, tangent in enumerate(leaves) if not is_zero(tangent)]
        means, ends, marks = from_host(hosted.run_with_marks, (*hosted.activity, hosted.marks), inputs)

        def ahead(kept: tuple[Inputs, Any], tangents: list[Array]) -> Activity:
            everything = [jnp.zeros_like(leaf) for leaf in jax.tree.leaves(kept[0])]
            for k, tangent in zip(moving, tangents, strict=True):
                everything[k] = tangent
            moved: Activity = jax.jvp(traced, kept[:1], (jax.tree.unflatten(structure, everything),))[1]
            return moved

        def back(kept: tuple[Inputs, Any], turned: Activity) -> list[Array]:
            pull = functools.partial(hosted.pull, by_weights=by_weights)
            found, sent = from_host(pull, hosted.cotangents, *kept, *turned)
            everything = jax.tree.leaves(_with_the_past(kept[0], found, sent))
            return [everything[k] for k in moving]

        moved = jax.custom_derivatives.linear_call(ahead, back, (inputs, marks), [leaves[k] for k in moving])
        return (means, ends), moved

    return integrate


def _with_the_past(inputs: Inputs, found: Numbers, sent: Array) -> Inputs:
    """Cotangents of the inputs; the past is what the initial state sends."""
    _, pull = jax.vjp(lambda mass, state: mass.sent(state), inputs.mass, inputs.initial)
    mass, initial = pull(tuple(sent))
    parameters = jax.tree.unflatten(jax.tree.structure(inputs.mass), list(found.parameters))
    return Inputs(
        mass=jax.tree.map(jnp.add, mass, parameters),
        weights=jnp.asarray(found.weights),
        sigma=jnp.asarray(found.sigma),
        initial=tuple(a + b for a, b in zip(initial, found.initial, strict=True)),
    )


class _Hosted:
    """The NumPy side: runs that go side by side, and the shapes of what they give."""

    def __init__(
        self, networks: Sequence[Network], seeds: Sequence[int], timing: Timing, every: int, inputs: Inputs
    ) -> None:
        self._dtype, self._shape, self._every = inputs.initial[0].dtype, inputs.initial[0].shape, every
        chunks = timing.dropped + timing.kept
        segments = segment_lengths(chunks)
        precision = "double" if self._dtype == jnp.float64 else "single"
        self._groups = side_by_side(networks, timing.dt, "native", precision)
        self._runs = [
            Reversible(
                [networks[i] for i in lanes],
                [seeds[i] for i in lanes],
                timing.dt,
                timing.chunk_steps,
                self._dtype,
                among=networks,
                segments=segments,
            )
            for lanes in self._groups
        ]
        self._order = np.argsort(np.concatenate([np.asarray(lanes) for lanes in self._groups]))
        variables = len(inputs.initial)
        self.activity = self._like(chunks), self._like(chunks // every, variables)
        self.marks = tuple(shape_of((len(segments), one.mark_size), self._dtype) for one in self._runs)
        channels, leaves = len(inputs.weights), len(jax.tree.leaves(inputs.mass))
        numbers = (leaves,), (channels, self._shape[0]), (len(inputs.sigma),), (variables,)
        shapes: list[Any] = [self._like(*before) for before in numbers]
        self.cotangents = Numbers(*shapes), self._like(channels)

    def _like(self, *before: int) -> jax.ShapeDtypeStruct:
        return shape_of((*before, *self._shape), self._dtype)

    def run(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        found = [one.run(self._numbers(inputs, lanes)) for one, lanes in self._each()]
        means, ends = map(self._together, zip(*found, strict=True))
        return means, ends[self._every - 1 :: self._every]

    def run_with_marks(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
        found = [one.run_with_marks(self._numbers(inputs, lanes)) for one, lanes in self._each()]
        means, ends, marks = zip(*found, strict=True)
        return self._together(means), self._together(ends)[self._every - 1 :: self._every], marks

    def pull(
        self, inputs: Inputs, marks: Sequence[np.ndarray], means: np.ndarray, ends: np.ndarray, *, by_weights: bool
    ) -> tuple[Numbers, np.ndarray]:
        everywhere = np.zeros((len(means), *ends.shape[1:]), self._dtype)
        everywhere[self._every - 1 :: self._every] = ends
        pulled = [
            one.pull(
                self._numbers(inputs, lanes), mark, means[..., lanes], everywhere[..., lanes], by_weights=by_weights
            )
            for (one, lanes), mark in zip(self._each(), marks, strict=True)
        ]
        found, sent = zip(*pulled, strict=True)
        return Numbers(*map(self._together, zip(*found, strict=True))), self._together(sent)

    def _each(self) -> list[tuple[Reversible, list[int]]]:
        return list(zip(self._runs, self._groups, strict=True))

    def _together(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts, axis=-1)[..., self._order].astype(self._dtype, copy=False)

    def _numbers(self, inputs: Inputs, lanes: list[int]) -> Numbers:
        parts = jax.tree.leaves(inputs.mass), inputs.weights, inputs.sigma, inputs.initial
        return Numbers(*(self._stacked(part)[..., lanes] for part in parts))

    def _stacked(self, part: Any) -> np.ndarray:
        """Variables below each other, also where there are none."""
        return np.stack([np.asarray(x) for x in part]) if len(part) else np.zeros((0, *self._shape))
