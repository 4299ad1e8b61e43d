"""A functional run becomes one BOLD time series per region of the patient's own parcellation."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage, sparse

from vbt.connectome._anatomy import Anatomy
from vbt.connectome._images import affine_of, array_of, canonical, image_of
from vbt.connectome._motion import Motion, estimate_motion
from vbt.connectome._quality import QualityCheck, at_least, at_most
from vbt.connectome._registration import pull_rigidly, rigid_registration
from vbt.errors import Rejected, Unsound

Progress = Callable[[str, float], None]

_FEWEST_VOLUMES = 40
_FEWEST_VOXELS = 3
_MOVED_MM = 0.5
# Below, the six motion parameters hold more of the activity, which sways the registration, than of the motion that it
# left: regressing them out took .02 off the coupling of digital patients, and .04 off r with the true signals.
# Power et al. (2014), NeuroImage 84, 320 call a run still below this mean framewise displacement.
_STILL_MM = 0.2
_RIM_MM = 6
# Gradient-echo signal of the tissues at 3 T and an echo time of about 30 ms, relative.
_BRIGHTNESS = {"fluid": 1.0, "grey": 0.75, "white": 0.6}
_HIGHEST_SHARE_OF_REGRESSORS = 0.5


@dataclass(frozen=True, kw_only=True)
class RegionalBold:
    """Regional BOLD of one run.

    Parameters
    ----------
    time_series : percent signal change around the region's mean, nuisance removed; zero where a region has
        fewer than three voxels
    repetition_time : s
    region_labels : as in the connectome
    framewise_displacement : movement from the volume before, mm (Power 2012)
    tsnr : mean over standard deviation of each region's series after nuisance removal
    voxels : effective number of functional voxels behind each region
    quality : checks
    methods : what was done, one sentence each
    """

    time_series: Float[np.ndarray, "time region"]
    repetition_time: float
    region_labels: tuple[str, ...]
    framewise_displacement: Float[np.ndarray, " time"]
    tsnr: Float[np.ndarray, " region"]
    voxels: Float[np.ndarray, " region"]
    quality: tuple[QualityCheck, ...] = ()
    methods: tuple[str, ...] = ()

    def to_npz(self) -> bytes:
        """The series as an ``.npz`` archive without pickles; checks and methods travel apart from it."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            time_series=self.time_series,
            repetition_time=np.array(self.repetition_time),
            region_labels=np.array(self.region_labels),
            framewise_displacement=self.framewise_displacement,
            tsnr=self.tsnr,
            voxels=self.voxels,
        )
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> RegionalBold:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return cls(
                time_series=archive["time_series"],
                repetition_time=float(archive["repetition_time"]),
                region_labels=tuple(str(label) for label in archive["region_labels"]),
                framewise_displacement=archive["framewise_displacement"],
                tsnr=archive["tsnr"],
                voxels=archive["voxels"],
            )


def regional_bold(
    fmri: nib.Nifti1Image,
    repetition_time: float,
    anatomy: Anatomy,
    region_labels: tuple[str, ...],
    *,
    progress: Progress = lambda _step, _fraction: None,
) -> RegionalBold:
    """Regional BOLD in percent signal change.

    Volumes are aligned rigidly with the run's middle one and that with the T1. A region's series is the mean over its
    grey matter, each voxel weighted by how much of it the region fills. An intercept, linear and quadratic drift, the
    means of white matter and fluid and, where the head moved by 0.2 mm a volume or more, the six motion parameters are
    regressed out. There is no temporal filter, no slice-timing correction, no censoring and no global signal
    regression.

    Parameters
    ----------
    fmri : 4-D, affine to scanner RAS+ mm
    repetition_time : s
    anatomy : of the same patient, from `build_connectome` or `build_anatomy`
    region_labels : names of the labels of ``anatomy``, in their order

    Raises
    ------
    Rejected
        ``fmri-too-short``, ``fmri-without-repetition-time``
    Unsound
        ``fmri-not-aligned``, ``registration-failed``
    """
    _refuse_malformed(fmri, repetition_time)
    upright = canonical(fmri)
    volumes, affine = array_of(upright), affine_of(upright)
    reference = image_of(volumes[..., volumes.shape[3] // 2], affine)
    progress("alignment", 0.02)
    to_run = _alignment(anatomy, reference)
    brain = pull_rigidly(anatomy.image(anatomy.mask), reference, np.linalg.inv(to_run), labels=True) > 0
    regions = _shares(anatomy, to_run, reference, len(region_labels))
    _refuse_misaligned(reference, brain)
    motion = _motion(volumes, affine, brain, progress)
    aligned = _aligned(volumes, affine, reference, motion, progress)
    raw, voxels = _means(aligned, regions)
    nuisance = _nuisance(aligned, anatomy, to_run, reference, motion)
    clean = raw - nuisance @ np.linalg.lstsq(nuisance, raw, rcond=None)[0]
    mean = raw.mean(axis=0)
    covered = (voxels >= _FEWEST_VOXELS) & (mean > 0)
    series = np.divide(100 * clean, mean, out=np.zeros_like(clean), where=covered)
    deviation = series.std(axis=0)
    tsnr = np.divide(100, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    progress("done", 1.0)
    return RegionalBold(
        time_series=series,
        repetition_time=float(repetition_time),
        region_labels=region_labels,
        framewise_displacement=motion.framewise_displacement,
        tsnr=tsnr,
        voxels=voxels,
        quality=_checks(motion, tsnr, voxels, nuisance),
        methods=(
            "Rigid motion correction to the middle volume; rigid alignment with the tissues in the run's contrast.",
            "Regional means over grey matter, weighted by the share of the voxel.",
            f"Regressed out: {nuisance.shape[1]} signals (intercept, linear and quadratic drift, mean of white matter "
            f"and of fluid{', six motion parameters' if _moved(motion) else ''}).",
            "No temporal filter, slice-timing correction, censoring or global signal regression.",
        ),
    )


def _alignment(anatomy: Anatomy, reference: nib.Nifti1Image) -> Float[np.ndarray, "4 4"]:
    """From the T1's world to the run's, by the contrast that the run would show of these tissues.

    Fluid, the darkest on a T1, is the brightest here: by the mutual information with the T1 itself the brain of the
    real Philips patient slid 3 mm beyond where its b0 and diffusion volumes put it.
    """
    tissue = anatomy.tissue
    expected = (
        _BRIGHTNESS["fluid"] * tissue.fluid + _BRIGHTNESS["grey"] * tissue.grey + _BRIGHTNESS["white"] * tissue.white
    )
    around = ndimage.binary_dilation(anatomy.mask, iterations=_RIM_MM)
    return rigid_registration(
        anatomy.image(expected), reference, mask=anatomy.image(around), levels_mm=(8.0, 4.0, 2.0), same_contrast=True
    )


def _motion(volumes: np.ndarray, affine: np.ndarray, brain: np.ndarray, progress: Progress) -> Motion:
    images = [image_of(volumes[..., v], affine) for v in range(volumes.shape[3])]
    return estimate_motion(
        images[len(images) // 2],
        images,
        mask=image_of(brain, affine),
        centre=(affine @ np.array([*np.argwhere(brain).mean(axis=0), 1.0]))[:3],
        done=lambda part: progress("motion", 0.1 + 0.7 * part),
    )


def _aligned(
    volumes: np.ndarray, affine: np.ndarray, reference: nib.Nifti1Image, motion: Motion, progress: Progress
) -> Float[np.ndarray, "time voxel"]:
    aligned = np.empty((volumes.shape[3], int(np.prod(volumes.shape[:3]))), dtype=np.float32)
    for number, transform in enumerate(motion.transforms):
        aligned[number] = pull_rigidly(image_of(volumes[..., number], affine), reference, transform, cubic=True).ravel()
        progress("resampling", 0.8 + 0.15 * (number + 1) / len(aligned))
    return aligned


def _shares(
    anatomy: Anatomy, to_run: Float[np.ndarray, "4 4"], reference: nib.Nifti1Image, regions: int
) -> sparse.csr_array:
    """How much of each functional voxel (column) a region's (row) grey matter fills, mm³."""
    where = np.nonzero(anatomy.labels)
    flat, inside = _voxels(np.stack(where, axis=1), anatomy, to_run, reference)
    labels: Int[np.ndarray, " point"] = anatomy.labels[where][inside] - 1
    size = (regions, int(np.prod(reference.shape[:3])))
    return sparse.csr_array(sparse.coo_array((np.ones(len(flat)), (labels, flat)), shape=size))


def _voxels(
    points: Int[np.ndarray, "point 3"], anatomy: Anatomy, to_run: np.ndarray, reference: nib.Nifti1Image
) -> tuple[Int[np.ndarray, " inside"], np.ndarray]:
    to_voxel = np.linalg.inv(affine_of(reference)) @ to_run @ anatomy.affine
    voxel = np.rint(points @ to_voxel[:3, :3].T + to_voxel[:3, 3]).astype(np.intp)
    inside = ((voxel >= 0) & (voxel < np.array(reference.shape[:3]))).all(axis=1)
    return np.ravel_multi_index(tuple(voxel[inside].T), reference.shape[:3]), inside


def _means(
    aligned: Float[np.ndarray, "time voxel"], regions: sparse.csr_array
) -> tuple[Float[np.ndarray, "time region"], Float[np.ndarray, " region"]]:
    # The square makes a voxel that the region fills half count a quarter, for the other half is its neighbours'.
    weights = regions.multiply(regions).tocsr()
    total = np.asarray(weights.sum(axis=1)).ravel()
    square = np.asarray(weights.multiply(weights).sum(axis=1)).ravel()
    means = (weights @ aligned.T.astype(np.float64)).T / np.maximum(total, 1e-12)
    return np.asarray(means), np.divide(total**2, square, out=np.zeros_like(total), where=square > 0)


def _nuisance(
    aligned: np.ndarray, anatomy: Anatomy, to_run: np.ndarray, reference: nib.Nifti1Image, motion: Motion
) -> Float[np.ndarray, "time regressor"]:
    time = np.linspace(-1, 1, len(aligned))
    columns = [np.ones_like(time), time, time**2 - 1 / 3]
    if _moved(motion):
        columns += list(motion.parameters.T)
    for tissue in (anatomy.tissue.white * (anatomy.labels == 0), anatomy.tissue.fluid):
        pure = pull_rigidly(anatomy.image(_averaged(tissue, reference)), reference, np.linalg.inv(to_run)).ravel()
        purest = np.argsort(pure, kind="stable")[::-1][: max(20, int((pure > 0.95).sum()))]
        columns.append(aligned[:, purest].mean(axis=1))
    table = np.stack(columns, axis=1)
    table[:, 3:] -= table[:, 3:].mean(axis=0)
    return np.asarray(table / np.maximum(np.linalg.norm(table, axis=0), 1e-12))


def _moved(motion: Motion) -> bool:
    return bool(motion.framewise_displacement.mean() >= _STILL_MM)


def _averaged(tissue: np.ndarray, reference: nib.Nifti1Image) -> np.ndarray:
    spacing = float(np.linalg.norm(affine_of(reference)[:3, :3], axis=0).mean())
    return np.asarray(ndimage.gaussian_filter(tissue.astype(np.float32), spacing / 2.355))


def _checks(motion: Motion, tsnr: np.ndarray, voxels: np.ndarray, nuisance: np.ndarray) -> tuple[QualityCheck, ...]:
    displaced = motion.framewise_displacement
    share = nuisance.shape[1] / len(nuisance)
    return (
        at_most("fmri-displacement", "Mean framewise displacement (mm)", displaced.mean(), 0.5),
        at_most("fmri-moved", "Share of volumes that moved more than 0.5 mm", (displaced > _MOVED_MM).mean(), 0.3),
        at_least("fmri-tsnr", "Median temporal signal to noise of the regions", np.median(tsnr), 50),
        at_most("fmri-regions-missing", "Regions with fewer than 3 voxels", (voxels < _FEWEST_VOXELS).sum(), 4),
        at_most("fmri-regressors", "Nuisance signals per volume", share, _HIGHEST_SHARE_OF_REGRESSORS),
    )


def _refuse_malformed(fmri: nib.Nifti1Image, repetition_time: float) -> None:
    volumes = fmri.shape[3] if len(fmri.shape) == 4 else 1
    if volumes < _FEWEST_VOLUMES:
        raise Rejected(
            "fmri-too-short",
            rule=f"a functional run has at least {_FEWEST_VOLUMES} volumes",
            got=f"{volumes} volumes",
            action="send a longer run",
        )
    if not 0.1 <= repetition_time <= 20:
        raise Rejected(
            "fmri-without-repetition-time",
            rule="the repetition time lies between 0.1 and 20 s",
            got=f"{repetition_time:g} s",
            action="send the run with its repetition time",
        )


def _refuse_misaligned(reference: nib.Nifti1Image, brain: np.ndarray) -> None:
    values = array_of(reference)
    inside = float(np.median(values[brain])) if brain.any() else 0.0
    outside = float(np.median(values[~brain]))
    if not brain.any() or inside <= 2 * outside:
        raise Unsound(
            "fmri-not-aligned",
            rule="the functional run shows the brain of the T1",
            got=f"a signal of {inside / max(outside, 1e-6):.1f} times the background where the brain should be",
            action="check that the run and the T1 are of one session",
        )
