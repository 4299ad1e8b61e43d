"""Normal numbers that depend only on a lane's seed and on which step, variable and region they are for.

Every noisy variable of every region of every lane has a key, every pair of time steps a counter. Threefry-2x32 makes
two random words of key and counter, and Box and Muller make a complex normal number of the words: its real part is for
the even step, its imaginary part for the odd one. Nothing is carried from step to step, so any stretch can be drawn
alone, again or elsewhere. All of it is operations that XLA fuses into one vectorised loop, three to seven times faster
than `jax.random.normal`, whose rounds go through memory.

References
----------
Salmon, Moraes, Dror & Shaw (2011), Parallel random numbers: as easy as 1, 2, 3, SC '11 (Threefry).
Box & Muller (1958), Ann. Math. Stat. 29, 610.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float, UInt32

# Random123 publishes 13 and 20 rounds with test vectors; 20 cost 0.4 to 0.6 ns more per number.
ROUNDS = 13
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
# What others draw from a key of the same seed must not meet the noise.
_NOISE = 0x6E6F6973


def noise_keys(seeds: Sequence[int], variables: Sequence[int], regions: int) -> UInt32[Array, "2 variable region lane"]:
    """The two words of every key, from the lane's seed, the variable's index and the region's index alone.

    Seeds are of 64 bits, not negative.
    """
    lanes = [jax.random.fold_in(_key(int(seed)), _NOISE) for seed in seeds]
    variable, region = jnp.meshgrid(
        jnp.array(variables, jnp.uint32), jnp.arange(regions, dtype=jnp.uint32), indexing="ij"
    )
    place = region[..., None], variable[..., None]
    return jnp.stack(threefry2x32(jnp.stack([jax.random.key_data(lane) for lane in lanes], axis=-1), place, rounds=20))


def _key(seed: int) -> Array:
    # `jax.random.key` drops the upper half of a seed in single precision: 1 and 2³² + 1 would draw the same.
    words = jnp.array([seed >> 32, seed & 0xFFFFFFFF], jnp.uint32)
    key: Array = jax.random.wrap_key_data(words, impl="threefry2x32")
    return key


def complex_normals(
    keys: UInt32[Array, "2 variable region lane"], first_pair: Any, pairs: int, dtype: Any
) -> Complex[Array, "pair variable region lane"]:
    """Standard normal numbers of the precision of ``dtype`` for ``pairs`` pairs of steps from ``first_pair`` on.

    Real and imaginary part are independent, each of unit variance. In double precision the words of single precision
    are the upper halves of longer ones: both precisions see the same noise, to their rounding.
    """
    flat = keys.reshape(2, 1, -1)  # one long loop, vectorised whatever the number of lanes
    pair = jnp.asarray(first_pair, jnp.uint32) + jnp.arange(pairs, dtype=jnp.uint32)[:, None]
    return complex_normal(flat, pair, dtype).reshape(pairs, *keys.shape[1:])


def complex_normal(key: Any, pair: UInt32[Array, "*shape"], dtype: Any) -> Complex[Array, "*shape"]:
    """The number of a pair of steps for a key of two words, elementwise."""
    radius_word, turn_word = threefry2x32(key, (pair, np.uint32(0)))
    unit, angle = _unit(radius_word, dtype), _angle(turn_word, dtype)
    if dtype == jnp.float64:
        radius_low, turn_low = threefry2x32(key, (pair, np.uint32(1)))
        unit, angle = unit + radius_low * 2.0**-64, angle + turn_low * 2.0**-63
    return _in_direction(jnp.sqrt(_minus_two_log(unit)), angle, turn_word)


def threefry2x32(
    key: UInt32[Array, "2 *key"], counter: tuple[Any, Any], rounds: int = ROUNDS
) -> tuple[UInt32[Array, "*shape"], UInt32[Array, "*shape"]]:
    """Two random words for a key of two words and a counter of two words."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(_PARITY))
    x, y = counter[0] + schedule[0], counter[1] + schedule[1]
    for done in range(1, rounds + 1):
        left = _ROTATIONS[(done - 1) // 4 % 2][(done - 1) % 4]
        x = x + y
        y = x ^ ((y << np.uint32(left)) | (y >> np.uint32(32 - left)))
        if done % 4 == 0:
            turn = done // 4
            x = x + schedule[turn % 3]
            y = y + (schedule[(turn + 1) % 3] + np.uint32(turn))
    return x, y


def _unit(word: UInt32[Array, "*shape"], dtype: Any) -> Float[Array, "*shape"]:
    """A uniform number in (0, 1], spaced the closer the smaller it is."""
    return word.astype(dtype) * np.asarray(2.0**-32, dtype) + np.asarray(
        2.0**-33 if dtype == jnp.float32 else 2.0**-65, dtype
    )


def _angle(word: UInt32[Array, "*shape"], dtype: Any) -> Float[Array, "*shape"]:
    """A uniform angle in [−1, 1), in units of π/4, of all bits but the last two."""
    signed = lax.bitcast_convert_type(word & np.uint32(0xFFFFFFFC), jnp.int32)
    return signed.astype(dtype) * np.asarray(2.0**-31, dtype)


def _minus_two_log(unit: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """−2 log u with u = m 2^e, m in [√½, √2), and log m = 2 artanh((m − 1) / (m + 1)) by its series."""
    kind, bits, terms = (np.int32, 23, 5) if unit.dtype == jnp.float32 else (np.int64, 52, 11)
    pattern = lax.bitcast_convert_type(unit, kind)
    exponent = (pattern - np.asarray(math.sqrt(0.5), unit.dtype).view(kind)) >> kind(bits)
    mantissa = lax.bitcast_convert_type(pattern - (exponent << kind(bits)), unit.dtype)
    ratio = (mantissa - 1) / (mantissa + 1)
    series = ratio * _polynomial([-4.0 / (2 * k + 1) for k in range(terms)], ratio * ratio)
    return exponent.astype(unit.dtype) * np.asarray(-2.0 * math.log(2.0), unit.dtype) + series


def _in_direction(
    radius: Float[Array, "*shape"], angle: Float[Array, "*shape"], turn: UInt32[Array, "*shape"]
) -> Complex[Array, "*shape"]:
    """The point of the plane at that radius and angle after a turn by as many right angles as the last two bits say."""
    terms = range(5 if angle.dtype == jnp.float32 else 9)
    square, quarter = angle * angle, math.pi / 4
    sine = angle * _polynomial([(-1) ** k * quarter ** (2 * k + 1) / math.factorial(2 * k + 1) for k in terms], square)
    cosine = _polynomial([(-1) ** k * quarter ** (2 * k) / math.factorial(2 * k) for k in terms], square)
    swap = (turn & np.uint32(1)) == 1
    radius = jnp.where((turn & np.uint32(2)) == 2, -radius, radius)
    return lax.complex(radius * jnp.where(swap, -sine, cosine), radius * jnp.where(swap, cosine, sine))


def _polynomial(coefficients: Sequence[float], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + np.asarray(coefficient, x.dtype)
    return total
