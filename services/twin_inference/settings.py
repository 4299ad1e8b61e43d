"""What a site chooses for the calibration."""

from __future__ import annotations

from pydantic import Field

from vbt.platform.settings import Section, Settings


class InferenceSection(Section):
    """How twins are calibrated.

    Parameters
    ----------
    rng_seed : the same connectome, recording and seed give the same posterior draws, bit for bit
    second_opinion : train a network on simulations of the patient's twin and let it judge the recording too; minutes
        of every case, so off
    second_opinion_simulations : that the network is trained on
    """

    rng_seed: int = Field(default=0, ge=0)
    second_opinion: bool = False
    second_opinion_simulations: int = Field(default=2400, ge=48)


class InferenceSettings(Settings):
    inference: InferenceSection = InferenceSection()
