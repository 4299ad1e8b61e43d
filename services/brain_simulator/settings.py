"""What a site chooses for the scenarios."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from vbt.platform.settings import Section, Settings


class SimulationSection(Section):
    """How interventions are tried.

    Parameters
    ----------
    rng_seed : the same twin and seed give the same endpoints, bit for bit
    duration_seconds : simulated time per posterior draw and intervention
    concurrent_runs : simulations on demand at once; each keeps one of the workers of the gRPC server
    """

    rng_seed: int = Field(default=0, ge=0)
    duration_seconds: float = Field(default=300.0, ge=60, le=3600)
    concurrent_runs: int = Field(default=2, ge=1, le=64)


class SimulatorSettings(Settings):
    simulation: SimulationSection = SimulationSection()

    @model_validator(mode="after")
    def _runs_leave_workers(self) -> Self:
        if self.simulation.concurrent_runs >= self.grpc.workers:
            raise ValueError("simulation.concurrent_runs is below grpc.workers, so that other calls are answered too")
        return self
