"""Small networks that share their shapes, so that few kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vbt.simulation import Linear, Network

_NONE = ((0, 0), (0, 0))


@pytest.fixture
def pair() -> Callable[..., Network]:
    """Two nodes; weights [target, source] and delays in ms, none by default."""

    def build(
        mass: Any = None, weights: Any = ((0, 0), (0, 0)), delays: Any = ((0, 0), (0, 0)), **rest: Any
    ) -> Network:
        return Network(
            mass=Linear() if mass is None else mass,
            weights=np.array(weights, dtype=float),
            tract_lengths=np.array(delays, dtype=float),
            velocity=1.0,
            **rest,
        )

    return build
