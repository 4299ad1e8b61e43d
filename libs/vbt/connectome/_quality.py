"""Whether a connectome can be trusted: every check with the value it saw and the limit it was held to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vbt.connectome._anatomy import Anatomy
from vbt.connectome._diffusion import Diffusion
from vbt.connectome._edges import Edges, joins_two_regions
from vbt.connectome._fibres import Fibres
from vbt.connectome._parcellation import Parcellation, region_centres
from vbt.connectome._tracking import Streamlines
from vbt.errors import Unsound

_FEWEST_STREAMLINES = 1000


@dataclass(frozen=True, kw_only=True)
class QualityCheck:
    """One quality check with the value it saw and the limit it was held to."""

    code: str
    label: str
    value: float
    limit: str
    passed: bool


def at_least(code: str, label: str, value: float, limit: float) -> QualityCheck:
    """A check that a value reaches a limit."""
    return QualityCheck(code=code, label=label, value=float(value), limit=f"≥ {limit:g}", passed=bool(value >= limit))


def at_most(code: str, label: str, value: float, limit: float) -> QualityCheck:
    """A check that a value stays within a limit."""
    return QualityCheck(code=code, label=label, value=float(value), limit=f"≤ {limit:g}", passed=bool(value <= limit))


def within(code: str, label: str, value: float, low: float, high: float) -> QualityCheck:
    """A check that a value lies in a range."""
    limit = f"{low:g} to {high:g}"
    return QualityCheck(code=code, label=label, value=float(value), limit=limit, passed=bool(low <= value <= high))


def anatomy_checks(anatomy: Anatomy, parcellation: Parcellation) -> tuple[QualityCheck, ...]:
    """Brain, registration and regions.

    Raises
    ------
    Unsound
        ``brain-implausible`` or ``registration-failed`` where nothing after them could be right.
    """
    if not 500 <= anatomy.brain_volume <= 2800:
        raise Unsound(
            "brain-implausible",
            rule="a brain has a volume between 500 and 2800 mL",
            got=f"{anatomy.brain_volume:.0f} mL",
            action="check that the T1 shows the whole head",
        )
    if anatomy.template_correlation < 0.3 or anatomy.white_matter_overlap < 0.4:
        raise Unsound(
            "registration-failed",
            rule="the template matches the T1 (correlation of 0.3, white matter Dice of 0.4, or more)",
            got=f"correlation {anatomy.template_correlation:.2f}, Dice {anatomy.white_matter_overlap:.2f}",
            action="look at the T1: it may not be T1-weighted, be cut off, or be far from a usual anatomy",
        )
    regions = len(parcellation.region_labels)
    volumes = np.bincount(anatomy.labels.ravel(), minlength=regions + 1)[1:]
    return (
        within("brain-volume", "Brain volume (mL)", anatomy.brain_volume, 900, 2200),
        at_least("template-correlation", "Correlation of template and T1", anatomy.template_correlation, 0.55),
        at_least("white-matter-overlap", "White matter overlap (Dice)", anatomy.white_matter_overlap, 0.65),
        at_most("warp-folding", "Share of the brain that the warp folds", anatomy.folded, 0.01),
        at_least("smallest-region", "Volume of the smallest region (mm³)", volumes.min(), 100),
        at_least("hemispheres", "Share of regions on their own side", _on_own_side(anatomy, parcellation), 1.0),
    )


def diffusion_checks(
    diffusion: Diffusion, fibres: Fibres, anatomy: Anatomy, white: np.ndarray, grey: np.ndarray
) -> tuple[QualityCheck, ...]:
    """Signal, movement and alignment with the T1.

    Parameters
    ----------
    white, grey : voxels that are surely one or the other by the T1

    Raises
    ------
    Unsound
        ``diffusion-not-aligned`` where anisotropy does not tell white matter from grey.
    """
    contrast = _mean(fibres.anisotropy, white) / max(_mean(fibres.anisotropy, grey), 1e-6)
    if contrast < 1.1:
        raise Unsound(
            "diffusion-not-aligned",
            rule="white matter is more anisotropic than grey matter by a factor of 1.1 or more",
            got=f"a factor of {contrast:.2f}",
            action="check the gradient table and that diffusion and T1 are of one session",
        )
    covered = diffusion.mask.sum() * abs(np.linalg.det(diffusion.affine[:3, :3])) / 1000 / anatomy.brain_volume
    moved = float(np.median(diffusion.motion.displacement))
    return (
        at_least("diffusion-snr", "Signal to noise of the b = 0 signal", diffusion.snr, 10),
        at_least("diffusion-directions", "Gradient directions", diffusion.gradients.directions, 15),
        at_most("diffusion-excluded", "Volumes left out for artefacts", diffusion.excluded, 3),
        at_most("diffusion-motion", "Median head displacement (mm)", moved, 4.0),
        at_least("diffusion-coverage", "Share of the brain inside the diffusion volume", covered, 0.95),
        at_least("anisotropy-contrast", "Anisotropy of white over grey matter", contrast, 1.3),
    )


def connection_checks(streamlines: Streamlines, edges: Edges) -> tuple[QualityCheck, ...]:
    """Streamlines and the network they make.

    Raises
    ------
    Unsound
        ``too-few-streamlines`` where fewer than 1000 join two regions.
    """
    joined = joins_two_regions(streamlines)
    if joined.sum() < _FEWEST_STREAMLINES:
        raise Unsound(
            "too-few-streamlines",
            rule=f"at least {_FEWEST_STREAMLINES} streamlines join two regions",
            got=f"{int(joined.sum())} streamlines",
            action="look at the diffusion series: noise, distortion or a wrong gradient table",
        )
    regions = len(edges.counts)
    density = (edges.counts > 0).sum() / (regions * (regions - 1))
    isolated = int((edges.counts.sum(axis=0) == 0).sum())
    return (
        at_least("streamlines", "Streamlines that join two regions", joined.sum(), 10_000),
        at_least("streamlines-assigned", "Share of the streamlines that join two regions", joined.mean(), 0.25),
        within("density", "Share of the region pairs that are connected", density, 0.05, 0.8),
        at_most("isolated-regions", "Regions without any connection", isolated, 2),
        within("tract-length", "Median streamline length (mm)", np.median(streamlines.lengths[joined]), 20, 120),
    )


def _on_own_side(anatomy: Anatomy, parcellation: Parcellation) -> float:
    side = np.array(parcellation.hemispheres)
    centres = region_centres(anatomy.labels, anatomy.affine, len(side))
    left, right = centres[side == "L", 0], centres[side == "R", 0]
    middle = (np.nanmedian(left) + np.nanmedian(right)) / 2
    return float(np.concatenate([left < middle, right > middle]).mean())


def _mean(values: np.ndarray, where: np.ndarray) -> float:
    return float(values[where].mean()) if where.any() else 0.0
