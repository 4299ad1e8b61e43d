"""The synthetic patient: every scan, and the truth behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from jaxtyping import Float

from vbt.connectome import Connectome
from vbt.synthetic._acquisition import scan_t1
from vbt.synthetic._activity import simulate_bold
from vbt.synthetic._anatomy import Anatomy, make_anatomy
from vbt.synthetic._bundles import Bundle
from vbt.synthetic._diffusion import DiffusionScan, scan_diffusion
from vbt.synthetic._functional import FunctionalScan, scan_bold
from vbt.synthetic._phantom import cleared
from vbt.synthetic._selection import make_bundles
from vbt.synthetic._settings import PatientSettings

Progress = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class SyntheticPatient:
    """A digital patient and its ground truth.

    Parameters
    ----------
    connectome : true weights (cross-section of the bundle, mm²), true tract lengths (mean arc length of its
        streamlines, mm)
    bundles : the streamlines themselves, in scanner mm
    anatomy : tissues and labels that all scans sampled
    t1 : int16, sagittal
    diffusion, functional : the scans
    regional_bold : percent signal change that was painted into each region
    """

    seed: int
    settings: PatientSettings
    connectome: Connectome
    bundles: tuple[Bundle, ...]
    anatomy: Anatomy
    t1: nib.Nifti1Image
    diffusion: DiffusionScan
    functional: FunctionalScan
    regional_bold: Float[np.ndarray, "volume region"]


def make_patient(
    seed: int,
    settings: PatientSettings | None = None,
    progress: Progress = lambda _message, _fraction: None,
    *,
    regional_bold: Float[np.ndarray, "volume region"] | None = None,
) -> SyntheticPatient:
    """Make the patient that belongs to a seed.

    Parameters
    ----------
    progress : called with what is being made and the fraction of the whole
    regional_bold : activity to paint (percent signal change) instead of that of the twin with ``settings.twin``

    Raises
    ------
    ValueError
        where ``regional_bold`` has not one row per volume and one column per region.
    """
    settings = settings or PatientSettings()
    body, wiring, t1_noise, diffusion_noise, bold_noise = np.random.default_rng(seed).spawn(5)
    progress("head", 0.0)
    intact = make_anatomy(body, settings)
    progress("bundles", 0.12)
    bundles = make_bundles(wiring, intact, settings.bundles)
    anatomy = cleared(intact, bundles)
    connectome = true_connectome(anatomy, bundles)
    progress("anatomical scan", 0.55)
    t1 = scan_t1(t1_noise, anatomy, settings.anatomical)
    progress("diffusion scan", 0.6)
    diffusion = scan_diffusion(diffusion_noise, anatomy, bundles, settings.diffusion)
    progress("resting activity", 0.7)
    if regional_bold is None:
        regional_bold = simulate_bold(connectome, settings.twin, settings.functional, seed)
    expected = (settings.functional.volumes, len(connectome.region_labels))
    if regional_bold.shape != expected:
        raise ValueError(f"regional BOLD must have shape {expected}, got {regional_bold.shape}")
    progress("functional scan", 0.85)
    functional = scan_bold(bold_noise, anatomy, regional_bold, settings.functional)
    progress("done", 1.0)
    return SyntheticPatient(
        seed=seed,
        settings=settings,
        connectome=connectome,
        bundles=tuple(bundles),
        anatomy=anatomy,
        t1=t1,
        diffusion=diffusion,
        functional=functional,
        regional_bold=regional_bold,
    )


def true_connectome(anatomy: Anatomy, bundles: list[Bundle]) -> Connectome:
    """Weights and lengths of the bundles, symmetric because diffusion cannot tell the way a fibre runs."""
    regions = len(anatomy.region_labels)
    weights, lengths = np.zeros((regions, regions)), np.zeros((regions, regions))
    for bundle in bundles:
        i, j = bundle.regions
        weights[i, j] = weights[j, i] = bundle.weight
        lengths[i, j] = lengths[j, i] = bundle.length
    return Connectome(
        weights=weights,
        tract_lengths=lengths,
        region_labels=anatomy.region_labels,
        centres=anatomy.centres(),
        is_cortical=anatomy.is_cortical,
        parcellation=anatomy.parcellation,
        normalisation="bundle cross-section, mm²",
    )
