"""What a site chooses for the scenarios."""

from __future__ import annotations

from pydantic import Field

from vbt.platform.settings import Section, Settings


class SimulationSection(Section):
    """How interventions are tried.

    Parameters
    ----------
    rng_seed : the same twin and seed give the same endpoints, bit for bit
    duration_seconds : simulated time per posterior draw and intervention
    """

    rng_seed: int = Field(default=0, ge=0)
    duration_seconds: float = Field(default=300.0, ge=60, le=3600)


class SimulatorSettings(Settings):
    simulation: SimulationSection = SimulationSection()
