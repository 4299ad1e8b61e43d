"""Resting activity of a twin with known parameters, one BOLD time series per region."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vbt.connectome import Connectome
from vbt.simulation import Bold, RestingTwin, effective_weights, simulate
from vbt.synthetic._settings import FunctionalProtocol, TwinParameters

_TRANSIENT_SECONDS = 30.0
_TIME_STEP = 0.5  # ms


def simulate_bold(
    connectome: Connectome, twin: TwinParameters, protocol: FunctionalProtocol, seed: int
) -> Float[np.ndarray, "volume region"]:
    """BOLD (percent signal change, zero mean) of the lifted resting twin on a connectome.

    Homotopic connections that have no tract get the straight distance between the regions, so that they have a delay.
    """
    weights = effective_weights(connectome.weights, connectome.region_labels, twin.sc_exponent, twin.homotopic)
    centres = connectome.centres
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    lengths = np.where((weights > 0) & (connectome.tract_lengths == 0), distance, connectome.tract_lengths)
    network = RestingTwin().lift(weights, lengths, twin.g)
    run = simulate(
        [network],
        [seed],
        duration=protocol.volumes * protocol.repetition_time,
        monitors=[Bold(protocol.repetition_time)],
        dt=_TIME_STEP,
        transient=_TRANSIENT_SECONDS,
    )
    bold = np.asarray(run.observations[0].values[0], np.float64)
    bold -= bold.mean(axis=0)
    return np.asarray(bold * (protocol.signal_percent / np.median(bold.std(axis=0))))
