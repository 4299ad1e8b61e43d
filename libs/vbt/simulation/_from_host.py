"""Machine code that is not XLA's, called from within a compiled JAX function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def from_host(function: Callable[..., Any], like: Any, *arguments: Any) -> Any:
    """What a NumPy function gives for these arguments, arrays shaped as ``like``; none is a scalar.

    Numbers of double precision go there and back as words: in the thread that calls, JAX may be switched to single.
    """

    def called(*words: Any) -> Any:
        numbers = jax.tree.map(lambda x, w: np.asarray(w).view(x.dtype).reshape(x.shape), kinds, words)
        return jax.tree.map(lambda x: np.ascontiguousarray(x).view(np.uint32), function(*numbers))

    def as_words(x: Any) -> Any:
        return jax.lax.bitcast_convert_type(x, jnp.uint32).reshape(*x.shape[:-1], -1)

    def words_like(x: Any) -> jax.ShapeDtypeStruct:
        return shape_of((*x.shape[:-1], x.shape[-1] * x.dtype.itemsize // 4), jnp.uint32)

    kinds = jax.tree.map(lambda x: shape_of(x.shape, x.dtype), arguments)
    words = jax.pure_callback(
        called, jax.tree.map(words_like, like), *jax.tree.map(as_words, arguments), vmap_method="sequential"
    )

    def as_numbers(x: Any, w: Array) -> Array:
        pairs = w if x.dtype.itemsize == 4 else w.reshape(*x.shape, -1)
        return jax.lax.bitcast_convert_type(pairs, x.dtype)

    return jax.tree.map(as_numbers, like, words)


def shape_of(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """A shape and dtype to compile for."""
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]
