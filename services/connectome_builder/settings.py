"""What a site chooses for the connectome builder."""

from __future__ import annotations

from pydantic import Field

from vbt.platform.settings import Section, Settings


class ConnectomeSettings(Section):
    """How connectomes are built.

    Parameters
    ----------
    rng_seed : the same images and seed give the same connectome, bit for bit
    """

    rng_seed: int = Field(default=0, ge=0)


class BuilderSettings(Settings):
    connectome: ConnectomeSettings = ConnectomeSettings()
