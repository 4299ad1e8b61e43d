"""A tract's length and the speed of its signals give its delay."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def conduction_delays(
    tract_lengths: Float[np.ndarray, "region region"], velocity: float | Float[np.ndarray, "region region"]
) -> Float[np.ndarray, "region region"]:
    """Delay of every connection, ms.

    Parameters
    ----------
    tract_lengths : mm
    velocity : conduction velocity, m/s (mm/ms): one number, or one per connection

    Raises
    ------
    ValueError
        where a velocity is not positive.
    """
    if not np.all(np.asarray(velocity) > 0):
        raise ValueError("velocity must be positive")
    return np.asarray(tract_lengths / velocity)
