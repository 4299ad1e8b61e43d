"""What a site chooses for the calibration."""

from __future__ import annotations

from pydantic import Field

from vbt.platform.settings import Section, Settings


class InferenceSection(Section):
    """How twins are calibrated.

    Parameters
    ----------
    rng_seed : the same connectome, recording and seed give the same posterior draws, bit for bit
    """

    rng_seed: int = Field(default=0, ge=0)


class InferenceSettings(Settings):
    inference: InferenceSection = InferenceSection()
