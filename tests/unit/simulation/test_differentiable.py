"""A simulation has the derivatives that its differences say, at a price that grows slowly."""

from __future__ import annotations

import dataclasses
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vbt.simulation import Bold, TemporalAverage, differentiable, simulate

NUMPY = np.lib.tracemalloc_domain  # where its arrays are


@pytest.fixture
def noisy(oscillating):
    return dataclasses.replace(oscillating, sigma=(0.02, 0.05))


def _loss(run):
    return lambda inputs: sum(jnp.mean(samples**2) for samples in run(inputs))


def test_it_gives_the_samples_of_the_simulation(noisy):
    arguments = {"duration": 0.02, "transient": 0.005, "monitors": [TemporalAverage(0.001), Bold(0.005)], "dt": 0.05}
    with jax.enable_x64(True):
        run, inputs = differentiable([noisy], [3], precision="double", **arguments)
        samples = jax.jit(run)(inputs)
    expected = simulate([noisy], [3], precision="double", engine="xla", **arguments)
    for found, observation in zip(samples, expected.observations, strict=True):
        np.testing.assert_allclose(np.asarray(found)[..., 0], observation.values[0], atol=1e-9)


def test_gradients_agree_with_differences_and_with_forward_mode(noisy):
    """By every kind of input: a parameter of a region, the weights, the noise and the initial state."""
    with jax.enable_x64(True):
        run, inputs = differentiable(
            [noisy], [3], duration=0.01, monitors=[TemporalAverage(0.001)], dt=0.05, precision="double"
        )
        loss = jax.jit(_loss(run))
        gradient = jax.jit(jax.grad(loss))(inputs)
        rng = np.random.default_rng(0)
        direction = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), inputs)
        direction = direction._replace(weights=jnp.where(inputs.weights != 0, direction.weights, 0.0))
        slopes = []
        for name in inputs._fields:
            one_kind = jax.tree.map(jnp.zeros_like, inputs)._replace(**{name: getattr(direction, name)})
            ahead, behind = (jax.tree.map(lambda x, d, by=by: x + by * d, inputs, one_kind) for by in (1e-5, -1e-5))
            pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(one_kind), strict=True)
            slopes.append(sum(float((g * d).sum()) for g, d in pairs))
            assert abs(slopes[-1]) > 1e-6
            assert slopes[-1] == pytest.approx(float(loss(ahead) - loss(behind)) / 2e-5, rel=1e-5)
        forward = jax.jvp(loss, (inputs,), (direction,))[1]
        assert sum(slopes) == pytest.approx(float(forward), rel=1e-9)


def test_memory_of_the_gradient_grows_with_the_square_root_of_time(noisy):
    """Sixteen times the time in four times the memory, and a little for what grows with the samples.

    XLA's memory, and NumPy's that the machine code works on.
    """

    def bytes_needed(duration):
        tracemalloc.start()
        run, inputs = differentiable([noisy], [3], duration=duration, monitors=[TemporalAverage(0.1)], dt=0.05)
        arrays = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, NUMPY)])
        tracemalloc.stop()
        compiled = jax.jit(jax.grad(_loss(run))).lower(inputs).compile()
        jax.block_until_ready(compiled(inputs))
        tracemalloc.start()
        jax.block_until_ready(compiled(inputs))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        kept = sum(statistic.size for statistic in arrays.statistics("lineno"))
        return compiled.memory_analysis().temp_size_in_bytes + kept + peak

    assert bytes_needed(6.4) < 4.6 * bytes_needed(0.4)


def test_double_precision_is_asked_for_by_the_caller(noisy):
    with pytest.raises(ValueError, match="jax_enable_x64"):
        differentiable([noisy], [3], duration=0.01, monitors=[TemporalAverage(0.01)], dt=0.05, precision="double")
