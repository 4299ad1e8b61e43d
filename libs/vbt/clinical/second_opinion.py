"""What another engine says of the same recording, and how it stands beside what the first one found."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vbt.clinical.findings import Check, Quantity, TwinFindings

Verdict = Literal["agrees", "disagrees", "refused"]


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What the report says of it; a refusal has no number.

    Parameters
    ----------
    conclusion : one sentence that begins with "Second opinion: agrees", "disagrees" or "refused because"
    """

    verdict: Verdict
    conclusion: str
    parameters: tuple[Quantity, ...] = ()
    quality: tuple[Check, ...] = ()
    methods: tuple[str, ...] = ()

    def joined(self, findings: TwinFindings) -> TwinFindings:
        """The findings with this beside them; it changes none of their numbers, nor their verdict."""
        return dataclasses.replace(
            findings,
            conclusion=f"{findings.conclusion} {self.conclusion}",
            parameters=(*findings.parameters, *self.parameters),
            quality=(*findings.quality, *self.quality),
            methods=(*findings.methods, *self.methods),
        )

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Opinion:
        raw: dict[str, Any] = json.loads(text)
        return cls(
            verdict=raw["verdict"],
            conclusion=raw["conclusion"],
            parameters=tuple(Quantity(**quantity) for quantity in raw["parameters"]),
            quality=tuple(Check(**check) for check in raw["quality"]),
            methods=tuple(raw["methods"]),
        )


@dataclass(frozen=True, kw_only=True)
class SecondOpinion:
    """An opinion with what it stands on; where the engine did not begin, on nothing.

    Parameters
    ----------
    posterior : archive of the engine's calibration
    network : archive of the trained network, which a later opinion on the same twin may use again
    card : the network's model card, JSON
    """

    opinion: Opinion
    posterior: bytes | None = None
    network: bytes | None = None
    card: str = ""

    def archives(self) -> Mapping[str, bytes]:
        """What is to be kept, by file name."""
        kept = {
            "second-opinion.json": self.opinion.to_json().encode(),
            "second-opinion.npz": self.posterior,
            "network.npz": self.network,
            "network-card.json": self.card.encode() or None,
        }
        return {name: content for name, content in kept.items() if content is not None}
