"""White-matter lesions on a connectome: which fraction of every tract they cross."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class LesionedTracts:
    """Lesions as the network sees them.

    Parameters
    ----------
    fraction : of a tract's streamlines that cross a lesion, 0 to 1; symmetric, 0 where there is no tract
    region_labels : as in the connectome
    volume_ml : of all lesions within the brain
    lesions : how many separate ones
    """

    fraction: Float[np.ndarray, "region region"]
    region_labels: tuple[str, ...]
    volume_ml: float
    lesions: int

    def to_npz(self) -> bytes:
        """An ``.npz`` archive without pickles, the same bytes for the same lesions."""
        plain = {"region_labels": self.region_labels, "volume_ml": self.volume_ml, "lesions": self.lesions}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, fraction=self.fraction, record=np.array(json.dumps(plain, sort_keys=True)))
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> LesionedTracts:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            plain = json.loads(str(archive["record"]))
            return cls(
                fraction=archive["fraction"],
                region_labels=tuple(plain["region_labels"]),
                volume_ml=plain["volume_ml"],
                lesions=plain["lesions"],
            )
