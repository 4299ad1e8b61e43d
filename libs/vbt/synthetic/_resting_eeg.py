"""Resting EEG of the synthetic patient with lesions: delayed oscillators on the true connectome, seen by electrodes."""

from __future__ import annotations

from dataclasses import dataclass

import mne
import nibabel as nib
import numpy as np
from jaxtyping import Float
from scipy import ndimage, signal

from vbt.connectome import Connectome, desikan_killiany
from vbt.simulation import (
    Network,
    SourceSpace,
    TemporalAverage,
    desikan_killiany_sources,
    lead_field,
    simulate,
    standard_eeg,
)
from vbt.simulation.neural_masses.stuart_landau import StuartLandau
from vbt.synthetic._anatomy import Anatomy, as_image
from vbt.synthetic._bundles import Bundle

SAMPLING_RATE = 250.0
_FINER = 4  # samples of the simulation for one of the recording: averaging over 4 ms would damp 40 Hz
VELOCITY, GAMMA, COUPLING, FREQUENCY, DECAY = 8.0, 2.0, 1000.0, 40.0, 5.0  # m/s, 1, 1/s, Hz, 1/s
_MEAN_STRENGTH = 0.3
_STEP = 0.2  # ms
_TRANSIENT = 5.0
_BALLS, _RADII = 12, (3.0, 6.0)  # lesions and their size, mm
_MICROVOLTS, _NOISE_MICROVOLTS = 10.0, 0.5
_ELECTRODES = [
    "Fp1",
    "Fpz",
    "Fp2",
    "AF7",
    "AF3",
    "AFz",
    "AF4",
    "AF8",
    "F7",
    "F5",
    "F3",
    "F1",
    "Fz",
    "F2",
    "F4",
    "F6",
    "F8",
    "FT7",
    "FC5",
    "FC3",
    "FC1",
    "FCz",
    "FC2",
    "FC4",
    "FC6",
    "FT8",
    "T7",
    "C5",
    "C3",
    "C1",
    "Cz",
    "C2",
    "C4",
    "C6",
    "T8",
    "TP7",
    "CP5",
    "CP3",
    "CP1",
    "CPz",
    "CP2",
    "CP4",
    "CP6",
    "TP8",
    "P7",
    "P5",
    "P3",
    "P1",
    "Pz",
    "P2",
    "P4",
    "P6",
    "P8",
    "PO7",
    "PO3",
    "POz",
    "PO4",
    "PO8",
    "O1",
    "Oz",
    "O2",
]


@dataclass(frozen=True, kw_only=True)
class SyntheticLesions:
    """White-matter lesions and what they do to the true tracts.

    Parameters
    ----------
    mask : 0 or 1, scanner RAS+
    fraction : of each tract's streamlines that cross a lesion
    """

    mask: nib.Nifti1Image
    fraction: Float[np.ndarray, "region region"]


@dataclass(frozen=True, kw_only=True)
class SyntheticEeg:
    """One recording: V, and where its electrodes are in scanner RAS+ mm."""

    channel_labels: tuple[str, ...]
    positions: Float[np.ndarray, "channel 3"]
    signals: Float[np.ndarray, "time channel"]


def make_lesions(rng: np.random.Generator, anatomy: Anatomy, bundles: tuple[Bundle, ...]) -> SyntheticLesions:
    """Balls on the way of bundles, larger bundles more often."""
    share = np.array([bundle.weight for bundle in bundles])
    mask = np.zeros(anatomy.labels.shape, dtype=bool)
    for chosen in rng.choice(len(bundles), size=_BALLS, p=share / share.sum()):
        line = bundles[chosen].streamlines[int(rng.integers(len(bundles[chosen].streamlines)))]
        centre = line[int(rng.integers(len(line) // 4, max(3 * len(line) // 4, len(line) // 4 + 1)))]
        _ball(mask, anatomy, centre, float(rng.uniform(*_RADII)))
    mask &= anatomy.white > 0.5
    regions = len(anatomy.region_labels)
    fraction = np.zeros((regions, regions))
    for bundle in bundles:
        i, j = bundle.regions
        crossed = [_crosses(mask, anatomy, line) for line in bundle.streamlines]
        fraction[i, j] = fraction[j, i] = np.mean(crossed)
    return SyntheticLesions(mask=as_image(mask.astype(np.uint8), anatomy.affine), fraction=fraction)


def make_resting_eeg(
    rng: np.random.Generator,
    connectome: Connectome,
    lesions: SyntheticLesions,
    seconds: float,
) -> SyntheticEeg:
    """Damped oscillators at 40 Hz, slowed to alpha by their delays, through a lead field with sensor noise."""
    weights = connectome.weights * (_MEAN_STRENGTH / connectome.weights.sum(axis=1).mean())
    network = Network(
        mass=StuartLandau(a=-DECAY, omega=2.0 * np.pi * FREQUENCY),
        weights=weights,
        tract_lengths=connectome.tract_lengths * (1.0 + GAMMA * lesions.fraction),
        velocity=VELOCITY,
        coupling=COUPLING,
        sigma=(1e-4, 1e-4),
    )
    run = simulate(
        [network],
        [int(rng.integers(2**31))],
        duration=seconds,
        monitors=[TemporalAverage(1.0 / (_FINER * SAMPLING_RATE))],
        dt=_STEP,
        transient=_TRANSIENT,
    )
    activity = signal.decimate(np.asarray(run.observations[0].values[0], dtype=float), _FINER, ftype="fir", axis=0)
    # A region without a tract would ring at its own 40 Hz, louder than all that have one.
    activity[:, weights.sum(axis=1) == 0.0] = 0.0
    positions, gain = _electrodes(connectome)
    signals = activity @ gain.T
    signals *= _MICROVOLTS / np.median(signals.std(axis=0))
    signals += rng.normal(scale=_NOISE_MICROVOLTS, size=signals.shape)
    return SyntheticEeg(channel_labels=tuple(_ELECTRODES), positions=positions, signals=1e-6 * signals)


def _electrodes(connectome: Connectome) -> tuple[Float[np.ndarray, "channel 3"], Float[np.ndarray, "channel region"]]:
    """Places on the patient's own head, the template's moved as its regions are; the lead field of the template's."""
    atlas = desikan_killiany()
    from_atlas = np.linalg.lstsq(np.column_stack([atlas.centres, np.ones(len(atlas.centres))]), connectome.centres)[0]
    info, to_head = standard_eeg("colin27_1005")
    picked = mne.pick_info(info, [info["ch_names"].index(name) for name in _ELECTRODES], verbose="ERROR")
    head = mne.make_sphere_model("auto", "auto", picked, verbose="ERROR")
    sources: SourceSpace = desikan_killiany_sources(atlas)
    field = lead_field(picked, sources, head, kind="eeg", mri_to_head=to_head, least_depth=2.0)
    in_head = np.array([channel["loc"][:3] for channel in picked["chs"]])
    in_atlas = 1000.0 * mne.transforms.apply_trans(mne.transforms.invert_transform(to_head), in_head)
    return np.round(in_atlas @ from_atlas[:3] + from_atlas[3], 2), field.gain


def _ball(mask: np.ndarray, anatomy: Anatomy, centre: Float[np.ndarray, "3"], radius: float) -> None:
    middle = np.round(anatomy.voxels(centre)).astype(int)
    reach = int(np.ceil(radius / anatomy.voxel_mm))
    box = np.mgrid[-reach : reach + 1, -reach : reach + 1, -reach : reach + 1].reshape(3, -1).T
    inside = box[(anatomy.voxel_mm * np.linalg.norm(box, axis=1)) <= radius] + middle
    inside = inside[((inside >= 0) & (inside < mask.shape)).all(axis=1)]
    mask[tuple(inside.T)] = True


def _crosses(mask: np.ndarray, anatomy: Anatomy, line: Float[np.ndarray, "point 3"]) -> bool:
    return bool(ndimage.map_coordinates(mask, anatomy.voxels(line).T, order=0, mode="constant").any())
