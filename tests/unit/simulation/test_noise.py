"""Noise is the published generator's, the same for a lane in any company, and normal as far as 4 million draws tell."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from scipy import stats

from vbt.simulation._noise import complex_normals, noise_keys, threefry2x32

# tests/kat_vectors of Random123 1.14: rounds, counter, key, words.
PUBLISHED = """
13 00000000 00000000 00000000 00000000 9d1c5ec6 8bd50731
13 ffffffff ffffffff ffffffff ffffffff fd36d048 2d17272c
13 243f6a88 85a308d3 13198a2e 03707344 ba3e4725 f27d669e
20 00000000 00000000 00000000 00000000 6b200159 99ba4efe
20 ffffffff ffffffff ffffffff ffffffff 1cb996fc bb002be7
20 243f6a88 85a308d3 13198a2e 03707344 c4923a9c 483df7a0
"""


@functools.partial(jax.jit, static_argnames=("pairs", "dtype"))
def drawn(keys: Any, first: Any, pairs: int, dtype: Any) -> Any:
    return complex_normals(keys, first, pairs, dtype)


def steps(seeds: Any, *, first: int = 0, pairs: int, regions: int = 19, dtype: Any = jnp.float32) -> np.ndarray:
    """(step, variable, region, lane): real and imaginary parts as consecutive steps."""
    with jax.enable_x64(dtype == jnp.float64):
        pairs_of_steps = np.asarray(drawn(noise_keys(seeds, (0, 1), regions), first, pairs, dtype))
    return np.stack([pairs_of_steps.real, pairs_of_steps.imag], axis=1).reshape(-1, *pairs_of_steps.shape[1:])


@pytest.mark.parametrize("line", PUBLISHED.split("\n")[1:-1])
def test_words_are_those_published_with_the_generator(line: str) -> None:
    rounds, *words = line.split()
    c0, c1, k0, k1, *expected = [int(word, 16) for word in words]
    key = jnp.array([k0, k1], jnp.uint32)
    found = threefry2x32(key, (jnp.uint32(c0), jnp.uint32(c1)), rounds=int(rounds))
    assert [int(word) for word in found] == expected


def test_words_are_those_of_jax_at_its_number_of_rounds() -> None:
    words = np.random.default_rng(0).integers(0, 2**32, (4, 1000), dtype=np.uint32)
    for k0, k1, c0, c1 in words.T[:20]:
        ours = threefry2x32(jnp.array([k0, k1]), (jnp.asarray(c0), jnp.asarray(c1)), rounds=20)
        assert list(map(int, ours)) == list(map(int, threefry_2x32(jnp.array([k0, k1]), jnp.array([c0, c1]))))


@pytest.mark.parametrize(("dtype", "width"), [(jnp.float32, "256"), (jnp.float32, "512"), (jnp.float64, "512")])
def test_a_lane_draws_the_same_bits_alone_in_company_and_in_any_stretch(dtype: Any, width: str) -> None:
    alone = steps([7], pairs=40, dtype=dtype)
    wide = jax.jit(
        functools.partial(complex_normals, pairs=11, dtype=dtype),
        compiler_options={"xla_cpu_prefer_vector_width": width} if jax.default_backend() == "cpu" else None,
    )
    for company in ([3, 7], list(range(13)), list(range(64, 0, -1))):
        lane = company.index(7)
        assert (steps(company, pairs=40, dtype=dtype)[..., lane] == alone[..., 0]).all()
        with jax.enable_x64(dtype == jnp.float64):
            stretch = np.asarray(wide(noise_keys(company, (0, 1), 19), 5))[..., lane]
        assert (stretch.real == alone[10:32:2, ..., 0]).all()
        assert (stretch.imag == alone[11:32:2, ..., 0]).all()


def test_a_region_and_a_variable_draw_the_same_whatever_else_is_noisy() -> None:
    both = np.asarray(drawn(noise_keys([1], (0, 1), 19), 0, 8, jnp.float32))
    second = np.asarray(drawn(noise_keys([1], (1,), 5), 0, 8, jnp.float32))
    assert (both[:, 1, :5] == second[:, 0]).all()


def test_every_bit_of_a_seed_counts_and_in_both_precisions_alike() -> None:
    seeds = (1, 2**32 + 1, 2**62 + 1)
    single = np.asarray(noise_keys(seeds, (0,), 1))
    with jax.enable_x64(True):
        double = np.asarray(noise_keys(seeds, (0,), 1))
    assert len({tuple(words) for words in single.reshape(2, -1).T}) == len(seeds)
    np.testing.assert_array_equal(single, double)


def test_double_precision_sees_the_noise_of_single_precision() -> None:
    single, double = steps([1, 2], pairs=5000), steps([1, 2], pairs=5000, dtype=jnp.float64)
    apart = np.abs(single - double)
    assert apart.max() < 1e-4  # of a radius near 0, where 1 − u has few digits
    assert 0 < np.sqrt((apart**2).mean()) < 1.5e-7


def test_numbers_are_box_and_mullers_of_the_words() -> None:
    with jax.enable_x64(True):
        keys = noise_keys([4], (0,), 50)
        pair = jnp.arange(400, dtype=jnp.uint32)[:, None]
        found = np.asarray(drawn(keys, 0, 400, jnp.float64))[:, 0, :, 0]
        (u, turn), (u_low, turn_low) = (
            np.array(threefry2x32(keys.reshape(2, 1, -1), (pair, np.uint32(half)))).astype(float) for half in (0, 1)
        )
    unit = u / 2**32 + u_low / 2**64
    quarters = np.mod(turn, 4)
    eighth = turn - quarters - np.where(turn >= 2**31, 2.0**32, 0)
    angle = np.pi / 4 * (eighth / 2**31 + turn_low / 2**63) + np.array([0, 1, 2, 3])[quarters.astype(int)] * np.pi / 2
    np.testing.assert_allclose(found, np.sqrt(-2 * np.log(unit)) * np.exp(1j * angle), rtol=0, atol=3e-15)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_numbers_are_normal_to_the_sixth_moment_and_into_the_tails(dtype: Any) -> None:
    x = steps(range(64), pairs=820, dtype=dtype).ravel().astype(float)
    even = {1: 1.0, 2: 3.0, 3: 15.0, 4: 105.0, 5: 945.0, 6: 10395.0}
    for order in range(1, 7):
        expected = even[order // 2] if order % 2 == 0 else 0.0
        error = np.sqrt((even[order] - expected**2) / x.size)
        assert abs(np.mean(x**order) - expected) < 4 * error, order
    for threshold in (2.0, 3.0, 4.0, 4.5):
        expected = x.size * 2 * stats.norm.sf(threshold)
        assert abs((np.abs(x) > threshold).sum() - expected) < 4 * np.sqrt(expected)
    assert stats.kstest(x[:: x.size // 1_000_000], "norm").pvalue > 1e-3


def test_steps_variables_regions_and_lanes_are_independent() -> None:
    x = steps(range(16), pairs=5000)
    columns = x.reshape(len(x), -1)
    for values in (columns, np.sqrt(0.5) * (columns**2 - 1)):
        for lag in (0, 1, 2, 8):
            z = values[: len(x) - lag].T @ values[lag:] / np.sqrt(len(x) - lag)
            z = z[np.triu_indices(len(z), 1)] if lag == 0 else z.ravel()
            assert np.abs(z).max() < 7.5, lag
            assert abs((z**2).mean() - 1) < 5 * np.sqrt(2 / z.size), lag
            assert abs(z.mean()) < 5 / np.sqrt(z.size), lag
