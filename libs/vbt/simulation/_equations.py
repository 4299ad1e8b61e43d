"""The equations of one time step, traced for machine code: functions of scalars made from a neural mass."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from vbt.simulation._lowering import traced
from vbt.simulation._neural_mass import NeuralMass, within_bounds
from vbt.simulation._noise import complex_normal

BYTES = 64  # of the vectors that are computed with; narrower machines take them in parts


@dataclass(frozen=True)
class Shape:
    """What a kernel is compiled for.

    ``structure`` is the mass's pytree structure, ``lanes`` 1 or a full vector; ``recorded`` keeps what a derivative
    needs.
    """

    structure: Any
    dtype: str
    lanes: int
    noisy: tuple[int, ...]
    stimulated: bool
    recorded: bool = False

    @property
    def width(self) -> int:
        return vector_width(self.dtype)

    @property
    def record_rows(self) -> int:
        """Numbers recorded of a region's step: state, input at both ends, normal numbers, stimulus."""
        mass = self.mass
        return len(mass.variables) + 2 * len(mass.channels) + len(self.noisy) + self.stimulated

    @property
    def mass(self) -> NeuralMass:
        mass: NeuralMass = jax.tree.unflatten(self.structure, [0.0] * self.structure.num_leaves)
        return mass


def vector_width(dtype: Any) -> int:
    """Numbers of a type that are computed side by side."""
    return int(BYTES // np.dtype(dtype).itemsize)


class Equations:
    """The traced functions of scalars that the loops are filled with."""

    def __init__(self, shape: Shape) -> None:
        mass = shape.mass
        variables, channels, leaves = len(mass.variables), len(mass.channels), shape.structure.num_leaves
        self.variables, self.channels, self.leaves = variables, channels, leaves

        def first(*numbers: Any) -> Any:
            return _first(shape, *cut(numbers, leaves, variables, channels, channels, 1, len(shape.noisy), 1))

        def second(*numbers: Any) -> Any:
            return _second(
                shape,
                *cut(numbers, leaves, variables, variables, variables, channels, channels, 1, len(shape.noisy), 1),
            )

        def sent(*numbers: Any) -> Any:
            p, x = cut(numbers, leaves, variables)
            return _with(shape, p).sent(tuple(x))

        def pair(first_word: Any, second_word: Any, counter: Any) -> Any:
            both = complex_normal((first_word, second_word), counter, np.dtype(shape.dtype))
            return both.real, both.imag

        rest = (channels, channels, 1, len(shape.noisy), 1)
        self.first = traced(first, *_types(shape, leaves, variables, *rest))
        self.second = traced(second, *_types(shape, leaves, 3 * variables, *rest))
        self.sent = traced(sent, *_types(shape, leaves, variables))
        self.pair = traced(pair, *[np.dtype(np.uint32)] * 3) if shape.noisy else None


class AdjointEquations:
    """The transposed derivatives of both stages of a step, traced.

    Each is a function of parameters, the step's record, strengths, noise amplitudes, the time step and its half, and of
    the cotangents of what the stage gave. ``sums`` is the number of its first results: the cotangents of parameters,
    strengths and noise amplitudes.
    """

    def __init__(self, shape: Shape) -> None:
        mass = shape.mass
        variables, channels, leaves = len(mass.variables), len(mass.channels), shape.structure.num_leaves
        noisy = len(shape.noisy)
        self.sums = leaves + channels + noisy
        seen = (leaves, variables, channels, channels, noisy, 1, channels, noisy, 1, 1)

        def kicks(normals: Any, sigma: Any) -> list[Any]:
            return [z * s for z, s in zip(normals, sigma, strict=True)]

        def second(*numbers: Any) -> Any:
            """By state, predicted state, slopes and the input at the end; and the predicted state's signals."""
            p, x, a, b, z, u, s, sigma, dt, half, turned = cut(numbers, *seen, variables + channels + 1)
            found = _first(shape, p, x, a, s, u, kicks(z, sigma), dt)
            slopes, predicted = found[:variables], found[variables:]

            def stage(p: Any, s: Any, sigma: Any, x: Any, y: Any, d: Any, b: Any) -> Any:
                return _second(shape, p, x, y, d, b, s, u, kicks(z, sigma), half)

            _, pull = jax.vjp(stage, *map(tuple, (p, s, sigma, x, predicted, slopes, b)))
            return (*itertools.chain(*pull(tuple(turned))), *_with(shape, p).sent(tuple(predicted)))

        def first(*numbers: Any) -> Any:
            """By the state and the input at the beginning; and the state's signals."""
            p, x, a, _, z, u, s, sigma, dt, _, turned = cut(numbers, *seen, 2 * variables + channels)

            def stage(p: Any, s: Any, sigma: Any, x: Any, a: Any) -> Any:
                found = _first(shape, p, x, a, s, u, kicks(z, sigma), dt)
                return (*found, *_with(shape, p).sent(found[variables:]))

            _, pull = jax.vjp(stage, *map(tuple, (p, s, sigma, x, a)))
            return (*itertools.chain(*pull(tuple(turned))), *_with(shape, p).sent(tuple(x)))

        self.second = traced(second, *_types(shape, *seen, variables + channels + 1))
        self.first = traced(first, *_types(shape, *seen, 2 * variables + channels))


def _first(shape: Shape, p: Any, x: Any, c: Any, s: Any, u: Any, k: Any, dt: Any) -> tuple[Any, ...]:
    """Slopes and predicted state, of parameters, state, input, strengths, stimulus, kicks and time step."""
    slopes = _slope(shape, p, x, c, s, u)
    moved = [a + dt[0] * d for a, d in zip(x, slopes, strict=True)]
    return (*slopes, *within_bounds(shape.mass, _kicked(moved, _kicks(shape, k))))


def _second(shape: Shape, p: Any, x: Any, y: Any, d: Any, c: Any, s: Any, u: Any, k: Any, half: Any) -> tuple[Any, ...]:
    """New state, its signals and its activity; ``y`` is the predicted state and ``d`` the slopes before."""
    total = [a + half[0] * (e + f) for a, e, f in zip(x, d, _slope(shape, p, y, c, s, u), strict=True)]
    new = within_bounds(shape.mass, _kicked(total, _kicks(shape, k)))
    full = _with(shape, p)
    return (*new, *full.sent(new), full.activity(new))


def _slope(shape: Shape, p: Any, state: Any, afferents: Any, in_strengths: Any, stimulus: Any) -> tuple[Any, ...]:
    return _with(shape, p).derivative(tuple(state), tuple(afferents), tuple(in_strengths), stimulus[0])


def _types(shape: Shape, *counts: int) -> list[Any]:
    return [np.dtype(shape.dtype)] * sum(counts)


def _with(shape: Shape, leaves: Sequence[Any]) -> NeuralMass:
    mass: NeuralMass = jax.tree.unflatten(shape.structure, leaves)
    return mass


def cut(numbers: Sequence[Any], *counts: int) -> list[Sequence[Any]]:
    ends = np.cumsum((0, *counts))
    return [numbers[a:b] for a, b in itertools.pairwise(ends)]


def _kicked(state: Sequence[Any], kicks: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(x if kick is None else x + kick for x, kick in zip(state, kicks, strict=True))


def _kicks(shape: Shape, noise: Sequence[Any]) -> list[Any]:
    kicks: list[Any] = [None] * len(shape.mass.variables)
    for position, variable in enumerate(shape.noisy):
        kicks[variable] = noise[position]
    return kicks
