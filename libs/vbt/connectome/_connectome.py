"""A structural connectome: who is wired to whom, how strongly, and over what distance."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from vbt.errors import Rejected


@dataclass(frozen=True, kw_only=True)
class Connectome:
    """Weights and tract lengths between the regions of a parcellation.

    Parameters
    ----------
    weights : ``weights[target, source]``, dimensionless, non-negative, zero diagonal; raw streamline counts unless
        ``normalisation`` says otherwise
    tract_lengths : ``tract_lengths[target, source]``, mm; 0 where there is no connection
    region_labels : one per region, unique; left is ``lh.…``, right ``rh.…``
    centres : region centres, scanner RAS+ mm
    is_cortical : True for cortical regions
    parcellation : identifier of the atlas
    normalisation : what ``weights`` are

    Raises
    ------
    Rejected
        where a shape, a sign or a finite value is broken, naming the rule.
    """

    weights: Float[np.ndarray, "region region"]
    tract_lengths: Float[np.ndarray, "region region"]
    region_labels: tuple[str, ...]
    centres: Float[np.ndarray, "region 3"]
    is_cortical: Bool[np.ndarray, " region"]
    parcellation: str
    normalisation: str = "streamline count"

    def __post_init__(self) -> None:
        n = len(self.region_labels)
        if len(set(self.region_labels)) != n:
            raise _refuse("region labels are unique", f"{n - len(set(self.region_labels))} repeated labels")
        for name, matrix in (("weights", self.weights), ("tract_lengths", self.tract_lengths)):
            if matrix.shape != (n, n):
                raise _refuse(f"{name} is square over the {n} labelled regions", f"shape {matrix.shape}")
            if not np.isfinite(matrix).all():
                raise _refuse(f"{name} is finite", f"{int((~np.isfinite(matrix)).sum())} entries that are not")
            if (matrix < 0).any():
                raise _refuse(f"{name} is not negative", f"{int((matrix < 0).sum())} negative entries")
        if np.diag(self.weights).any():
            raise _refuse("a region has no connection with itself", "non-zero diagonal weights")
        if self.centres.shape != (n, 3) or self.is_cortical.shape != (n,):
            raise _refuse("every region has a centre and a tissue", f"{self.centres.shape}, {self.is_cortical.shape}")

    def to_npz(self) -> bytes:
        """The connectome as an ``.npz`` archive without pickles, the same bytes for the same arrays."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            weights=self.weights,
            tract_lengths=self.tract_lengths,
            region_labels=np.array(self.region_labels),
            centres=self.centres,
            is_cortical=self.is_cortical,
            parcellation=np.array(self.parcellation),
            normalisation=np.array(self.normalisation),
        )
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> Connectome:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return cls(
                weights=archive["weights"],
                tract_lengths=archive["tract_lengths"],
                region_labels=tuple(str(label) for label in archive["region_labels"]),
                centres=archive["centres"],
                is_cortical=archive["is_cortical"],
                parcellation=str(archive["parcellation"]),
                normalisation=str(archive["normalisation"]),
            )


def _refuse(rule: str, got: str) -> Rejected:
    return Rejected("connectome-malformed", rule=rule, got=got, action="rebuild the connectome or correct the file")
