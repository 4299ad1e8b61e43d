"""What a diffusion series must hold before anything is computed from it."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float

from vbt.errors import Rejected

B0_LIMIT = 50.0
_SAME_SHELL = 0.1
FEWEST_DIRECTIONS = 6
_LOWEST_B = 500.0


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """The gradient table of a diffusion series.

    Parameters
    ----------
    bvals : s/mm²
    bvecs : unit vectors in the scanner RAS+ world frame, zero rows where ``bvals`` is at most 50
    """

    bvals: Float[np.ndarray, " volume"]
    bvecs: Float[np.ndarray, "volume 3"]

    @property
    def is_b0(self) -> Bool[np.ndarray, " volume"]:
        return self.bvals <= B0_LIMIT

    @property
    def shell(self) -> float:
        """The highest b-value that six directions or more share, s/mm²."""
        weighted = np.sort(self.bvals[~self.is_b0])[::-1]
        near = [float(b) for b in weighted if (np.abs(weighted - b) <= _SAME_SHELL * b).sum() >= FEWEST_DIRECTIONS]
        return near[0] if near else float(weighted[0])

    @property
    def in_shell(self) -> Bool[np.ndarray, " volume"]:
        return ~self.is_b0 & (np.abs(self.bvals - self.shell) <= _SAME_SHELL * self.shell)

    @property
    def directions(self) -> int:
        """Distinct axes in the shell."""
        return _distinct(self.bvecs[self.in_shell])

    def voxel_frame(self, affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "volume 3"]:
        """The vectors along the axes of a grid, the frame that DIPY wants."""
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        turned = self.bvecs @ np.linalg.inv(axes).T
        lengths = np.linalg.norm(turned, axis=1, keepdims=True)
        return np.asarray(np.divide(turned, lengths, out=np.zeros_like(turned), where=lengths > 0))


def gradients_of(
    diffusion: nib.Nifti1Image, bvals: Float[np.ndarray, " volume"], bvecs: Float[np.ndarray, "volume 3"]
) -> Gradients:
    """The gradient table of a series from which a connectome can be built.

    Raises
    ------
    Rejected
        ``diffusion-gradients-mismatch``, ``diffusion-without-b0``, ``diffusion-too-few-directions`` or
        ``diffusion-weighting-too-low``.
    """
    bvals, bvecs = np.asarray(bvals, dtype=float), np.asarray(bvecs, dtype=float)
    volumes = diffusion.shape[3] if len(diffusion.shape) == 4 else 1
    if bvals.shape != (volumes,) or bvecs.shape != (volumes, 3):
        raise Rejected(
            "diffusion-gradients-mismatch",
            rule="every diffusion volume has one b-value and one direction",
            got=f"{volumes} volumes, {bvals.size} b-values and directions of shape {bvecs.shape}",
            action="send the whole diffusion series",
        )
    lengths = np.linalg.norm(bvecs, axis=1)
    usable = np.isfinite(lengths) & np.isfinite(bvals)
    if not usable.all() or (np.abs(lengths[bvals > B0_LIMIT] - 1) > 0.05).any():
        raise Rejected(
            "diffusion-gradients-mismatch",
            rule="every weighted volume has a unit direction",
            got=f"{int((~usable).sum())} volumes without one, lengths up to {np.nanmax(lengths, initial=0):.2f}",
            action="send a series whose gradient table is complete",
        )
    weighted = bvals > B0_LIMIT
    units = np.where(weighted[:, None], bvecs / np.where(weighted, lengths, 1)[:, None], 0.0)
    table = Gradients(bvals=bvals, bvecs=units)
    _refuse_thin_table(table)
    return table


def _refuse_thin_table(table: Gradients) -> None:
    if not table.is_b0.any():
        raise Rejected(
            "diffusion-without-b0",
            rule="diffusion needs a volume without weighting (b of 50 s/mm² or less)",
            got=f"{table.bvals.size} volumes, all weighted",
            action="send the series with its b0 volume",
        )
    distinct = table.directions if (~table.is_b0).any() else 0
    if distinct < FEWEST_DIRECTIONS:
        raise Rejected(
            "diffusion-too-few-directions",
            rule=f"diffusion needs at least {FEWEST_DIRECTIONS} gradient directions",
            got=f"{distinct} directions",
            action=f"send a diffusion series with {FEWEST_DIRECTIONS} or more directions",
        )
    if table.shell < _LOWEST_B:
        raise Rejected(
            "diffusion-weighting-too-low",
            rule=f"the diffusion weighting is at least {_LOWEST_B:.0f} s/mm²",
            got=f"{table.shell:.0f} s/mm²",
            action="send a diffusion tensor or HARDI series",
        )


def _distinct(axes: Float[np.ndarray, "volume 3"]) -> int:
    kept: list[np.ndarray] = []
    for axis in axes:
        if all(abs(float(axis @ other)) < np.cos(np.deg2rad(2.0)) for other in kept):
            kept.append(axis)
    return len(kept)
