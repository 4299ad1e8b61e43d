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
    """What a kernel is compiled for: ``structure`` is the mass's pytree structure, ``lanes`` 1 or a full vector."""

    structure: Any
    dtype: str
    lanes: int
    noisy: tuple[int, ...]
    stimulated: bool

    @property
    def width(self) -> int:
        return vector_width(self.dtype)

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
        mass, dtype = shape.mass, shape.dtype
        variables, channels, leaves = len(mass.variables), len(mass.channels), shape.structure.num_leaves
        self.variables, self.channels, self.leaves = variables, channels, leaves

        def slope(leaves: Any, state: Any, afferents: Any, in_strengths: Any, stimulus: Any) -> Any:
            return _with(shape, leaves).derivative(tuple(state), tuple(afferents), tuple(in_strengths), stimulus)

        def first(*numbers: Any) -> Any:
            p, x, c, s, (u,), k, (dt,) = cut(numbers, leaves, variables, channels, channels, 1, len(shape.noisy), 1)
            slopes = slope(p, x, c, s, u)
            kicks = _kicks(shape, k)
            moved = [a + dt * d for a, d in zip(x, slopes, strict=True)]
            return (*slopes, *within_bounds(mass, _kicked(moved, kicks)))

        def second(*numbers: Any) -> Any:
            p, x, y, d, c, s, (u,), k, (half,) = cut(
                numbers, leaves, variables, variables, variables, channels, channels, 1, len(shape.noisy), 1
            )
            kicks = _kicks(shape, k)
            total = [a + half * (e + f) for a, e, f in zip(x, d, slope(p, y, c, s, u), strict=True)]
            new = within_bounds(mass, _kicked(total, kicks))
            full = _with(shape, p)
            return (*new, *full.sent(new), full.activity(new))

        def sent(*numbers: Any) -> Any:
            p, x = cut(numbers, leaves, variables)
            return _with(shape, p).sent(tuple(x))

        def pair(first_word: Any, second_word: Any, counter: Any, sigma: Any) -> Any:
            both = complex_normal((first_word, second_word), counter, np.dtype(dtype))
            return both.real * sigma, both.imag * sigma

        def types(*counts: int) -> list[Any]:
            return [np.dtype(dtype)] * sum(counts)

        rest = (channels, channels, 1, len(shape.noisy), 1)
        self.first = traced(first, *types(leaves, variables, *rest))
        self.second = traced(second, *types(leaves, 3 * variables, *rest))
        self.sent = traced(sent, *types(leaves, variables))
        words = [np.dtype(np.uint32)] * 3
        self.pair = traced(pair, *words, np.dtype(dtype)) if shape.noisy else None


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
