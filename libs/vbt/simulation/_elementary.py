"""Elementary functions out of additions, multiplications and bit patterns, the same to the last bit wherever they run.

A machine's own exp or sin differs between libraries and between one number and a vector of them. These are traced as
the neural masses are and become the same instructions for every lane. Accurate to a few units in the last place.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.special
from jax import lax

Number = Any


def exp(x: Number) -> Number:
    """2ᵏ eʳ with |r| ≤ ½ log 2, eʳ by its series."""
    terms, k_limit = (8, 126) if _single(x) else (14, 1021)
    k = _nearest(x * _of(x, 1.0 / math.log(2.0)))
    k = jnp.minimum(jnp.maximum(k, _of(x, -k_limit)), _of(x, k_limit + 1))
    high, low = (0.693359375, -2.12194440e-4) if _single(x) else (6.93145751953125e-1, 1.42860682030941723212e-6)
    r = (x - k * _of(x, high)) - k * _of(x, low)
    r = jnp.minimum(jnp.maximum(r, _of(x, -0.4)), _of(x, 0.4))
    series = _polynomial([1.0 / math.factorial(n) for n in range(terms)], r)
    result = series * _power_of_two(k)
    largest, smallest = (88.72, -87.3) if _single(x) else (709.78, -708.3)
    result = jnp.where(x > _of(x, largest), _of(x, math.inf), jnp.where(x < _of(x, smallest), _of(x, 0.0), result))
    return jnp.where(x != x, x, result)


def expm1(x: Number) -> Number:
    """By its series near zero, where eˣ − 1 would cancel."""
    terms = 9 if _single(x) else 16
    near = x * _polynomial([1.0 / math.factorial(n + 1) for n in range(terms)], x)
    return jnp.where(jnp.abs(x) < _of(x, 0.5), near, exp(x) - _of(x, 1.0))


def log(x: Number) -> Number:
    """k log 2 + 2 artanh((m − 1) / (m + 1)) for x = 2ᵏ m with m between √½ and √2."""
    kind, bits, terms = (np.int32, 23, 6) if _single(x) else (np.int64, 52, 12)
    pattern = lax.bitcast_convert_type(x, kind)
    exponent = (pattern - _of(x, math.sqrt(0.5)).view(kind)) >> kind(bits)
    mantissa = lax.bitcast_convert_type(pattern - (exponent << kind(bits)), _type(x))
    ratio = (mantissa - _of(x, 1.0)) / (mantissa + _of(x, 1.0))
    square = ratio * ratio
    series = ratio * _polynomial([2.0 / (2 * n + 1) for n in range(terms)], square)
    k = exponent.astype(_type(x))
    high, low = (0.693359375, -2.12194440e-4) if _single(x) else (6.93145751953125e-1, 1.42860682030941723212e-6)
    result = k * _of(x, high) + (k * _of(x, low) + series)
    smallest = np.finfo(_type(x)).tiny
    result = jnp.where(x < _of(x, smallest), _of(x, -math.inf), result)
    result = jnp.where(x < _of(x, 0.0), _of(x, math.nan), result)
    return jnp.where((x == _of(x, math.inf)) | (x != x), x, result)


def log1p(x: Number) -> Number:
    """log(1 + x), corrected for what rounding 1 + x lost."""
    whole = _of(x, 1.0) + x
    lost = whole - _of(x, 1.0)
    kept = jnp.where(lost == _of(x, 0.0), _of(x, 1.0), lost)
    return jnp.where(lost == _of(x, 0.0), x, log(whole) * (x / kept))


def tanh(x: Number) -> Number:
    held = jnp.minimum(jnp.maximum(x, _of(x, -20.0)), _of(x, 20.0))
    grown = expm1(held + held)
    return grown / (grown + _of(x, 2.0))


def logistic(x: Number) -> Number:
    return _of(x, 1.0) / (_of(x, 1.0) + exp(-x))


def power(x: Number, y: Number) -> Number:
    """For x ≥ 0."""
    return jnp.where(x == _of(x, 0.0), jnp.where(y == _of(x, 0.0), _of(x, 1.0), _of(x, 0.0)), exp(y * log(x)))


def sin(x: Number) -> Number:
    return _turned(x, 0)


def cos(x: Number) -> Number:
    return _turned(x, 1)


def _turned(x: Number, quarters: int) -> Number:
    """sin(x + quarters π/2): π/2 is taken off in three parts short enough for exact products."""
    parts = (
        (1.5703125, 4.837512969970703125e-4, 7.549789948768648e-8)
        if _single(x)
        else (1.5707963109016418, 1.5893254712295857e-8, 6.123233995736766e-17)
    )
    k = _nearest(x * _of(x, 2.0 / math.pi))
    r = ((x - k * _of(x, parts[0])) - k * _of(x, parts[1])) - k * _of(x, parts[2])
    square = r * r
    terms = 5 if _single(x) else 10
    sine = r * _polynomial([(-1) ** n / math.factorial(2 * n + 1) for n in range(terms)], square)
    cosine = _polynomial([(-1) ** n / math.factorial(2 * n) for n in range(terms + 1)], square)
    quadrant = (k.astype(np.int32) + np.int32(quarters)) & np.int32(3)
    value = jnp.where((quadrant & np.int32(1)) == np.int32(1), cosine, sine)
    return jnp.where(quadrant >= np.int32(2), -value, value)


def erfc(x: Number) -> Number:
    """t exp(−z² + P(t)) for z = |x|, t = 2 / (2 + z), P a Chebyshev interpolant of what is left."""
    z = jnp.minimum(jnp.abs(x), _of(x, 30.0))
    t = _of(x, 2.0) / (_of(x, 2.0) + z)
    u = _of(x, 2.0) * t - _of(x, 1.0)
    later, latest = _of(x, 0.0), _of(x, 0.0)
    coefficients = _scaled_erfc()
    for coefficient in coefficients[:0:-1]:
        later, latest = _of(x, 2.0) * u * later - latest + _of(x, coefficient), later
    tail = t * exp((u * later - latest + _of(x, coefficients[0])) - z * z)
    return jnp.where(x < _of(x, 0.0), _of(x, 2.0) - tail, tail)


def erf(x: Number) -> Number:
    """By its series near zero, where 1 − erfc would cancel."""
    square = x * x
    terms = 9 if _single(x) else 16
    coefficients = [(-1) ** n * 2.0 / math.sqrt(math.pi) / (math.factorial(n) * (2 * n + 1)) for n in range(terms)]
    return jnp.where(jnp.abs(x) < _of(x, 0.8), x * _polynomial(coefficients, square), _of(x, 1.0) - erfc(x))


@functools.cache
def _scaled_erfc() -> tuple[float, ...]:
    """Chebyshev coefficients of log(erfcx(z) / t) in 2 t − 1, t = 2 / (2 + z)."""

    def rest(u: np.ndarray) -> np.ndarray:
        t = (u + 1.0) / 2.0
        return np.asarray(np.log(scipy.special.erfcx(2.0 / t - 2.0) / t))

    return tuple(float(c) for c in np.polynomial.Chebyshev.interpolate(rest, 27).coef)


def _nearest(x: Number) -> Number:
    """The nearest whole number, by adding and subtracting a number that has no bits for less."""
    big = _of(x, 1.5 * 2.0**23 if _single(x) else 1.5 * 2.0**52)
    return (x + big) - big


def _power_of_two(k: Number) -> Number:
    """2ᵏ for a whole k, as two factors where one would overflow."""
    kind, bits, bias = (np.int32, 23, 127) if _single(k) else (np.int64, 52, 1023)
    return lax.bitcast_convert_type((k.astype(kind) + kind(bias - 1)) << kind(bits), _type(k)) * _of(k, 2.0)


def _polynomial(coefficients: list[float], x: Number) -> Number:
    total = _of(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + _of(x, coefficient)
    return total


def _type(x: Number) -> Any:
    return jnp.asarray(x).dtype


def _single(x: Number) -> bool:
    return bool(_type(x) == jnp.float32)


def _of(x: Number, value: float) -> Any:
    return np.asarray(value, _type(x))[()]


BY_PRIMITIVE: dict[str, Callable[..., Number]] = {
    "exp": exp,
    "exp2": lambda x: exp(x * _of(x, math.log(2.0))),
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "tanh": tanh,
    "logistic": logistic,
    "pow": power,
    "sin": sin,
    "cos": cos,
    "erf": erf,
    "erfc": erfc,
}
