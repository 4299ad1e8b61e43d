"""What a series is for, decided from coded DICOM facts; free-text descriptions are never consulted.

Rules, first match wins: not MR → OTHER; localizer, derived, phase or colour → OTHER; a b-value above zero, a diffusion
contrast code, or many repeats of a single spin echo → DIFFUSION; many repeats of a long-TE gradient echo → FMRI;
one fine 3-D volume with a short-TE gradient echo that is spoiled or inversion-prepared → T1; anything else → OTHER.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from vbt.dicom._instance import MR_CLASSES, Contrast, Frame, Instance


class Role(StrEnum):
    DIFFUSION = "diffusion"
    T1 = "t1"
    FMRI = "fmri"
    OTHER = "other"


_LOCALIZER = {"LOCALIZER", "SCOUT", "PROJECTION IMAGE"}
_MAPS = {"ADC", "FA", "COLFA", "TRACE", "TRACEW", "TENSOR", "TENSOR_B0", "MPR", "MIP", "MNIP", "ISOTROPIC", "EADC",
         "EXP", "RA", "VR", "LINEAR", "FIELD_MAP", "FIELDMAP", "B0 MAP", "MEAN", "TTEST", "SUBTRACTION"}  # fmt: skip
_NOT_MAGNITUDE = {"PHASE", "P", "PHASE MAP", "REAL", "R", "IMAGINARY", "I", "VELOCITY MAP"}

MINIMUM_FUNCTIONAL_VOLUMES = 10
_MINIMUM_DIFFUSION_REPEATS = 7
_BOLD_MINIMUM_ECHO_TIME = 15.0  # ms
_T1_MAXIMUM_ECHO_TIME = 10.0  # ms
_T1_SPOILED_MAXIMUM_REPETITION_TIME = 50.0  # ms
_T1_MAXIMUM_VOXEL = 2.5  # mm
_T1_MINIMUM_SLICES = 60


def is_derived(image_type: tuple[str, ...] | frozenset[str]) -> bool:
    """A map or a reconstruction, not an acquired image."""
    return "DERIVED" in image_type or bool(_MAPS & set(image_type))


def role_of(instances: tuple[Instance, ...]) -> tuple[Role, str]:
    """The role of one acquisition (same geometry, echo and component) and the fact that decided it."""
    first = instances[0]
    frames = [frame for instance in instances for frame in instance.frames]
    refused = _cannot_be_used(first, frames)
    if refused:
        return Role.OTHER, refused
    repeats = _repeats(instances, frames)
    contrast = first.contrast
    if any(frame.gradient.b_value for frame in frames):
        return Role.DIFFUSION, "has b-values above zero"
    if contrast.acquisition_contrast == "DIFFUSION" or "DIFFUSION" in contrast.image_type:
        return Role.DIFFUSION, "states a diffusion contrast"
    if _spin_echo(contrast) and not contrast.three_dimensional and repeats >= _MINIMUM_DIFFUSION_REPEATS:
        return Role.DIFFUSION, "repeats one spin echo"
    if repeats >= MINIMUM_FUNCTIONAL_VOLUMES:
        return _repeated_gradient_echo(contrast)
    return _single_volume(contrast, frames)


def _cannot_be_used(first: Instance, frames: list[Frame]) -> str | None:
    image_type = first.contrast.image_type
    reasons = (
        (first.modality != "MR" or first.sop_class_uid not in MR_CLASSES, "not an MR image"),
        (first.samples_per_pixel != 1, "colour image"),
        (bool(_LOCALIZER & image_type), "localizer"),
        (is_derived(image_type) or (bool(frames) and all(is_derived(f.image_type) for f in frames)), "derived image"),
        (bool(_NOT_MAGNITUDE & image_type), "not a magnitude image"),
        (not frames or any(_without_geometry(frame) for frame in frames), "no patient geometry"),
    )
    return next((reason for applies, reason in reasons if applies), None)


def _without_geometry(frame: Frame) -> bool:
    return len(frame.position) != 3 or len(frame.orientation) != 6 or len(frame.pixel_spacing) != 2


def _repeats(instances: tuple[Instance, ...], frames: list[Frame]) -> int:
    """How often the most repeated slice position was imaged: the number of volumes."""
    if instances[0].mosaic is not None:
        return len(instances)
    return Counter(tuple(round(v, 1) for v in frame.position) for frame in frames).most_common(1)[0][1]


def _spin_echo(contrast: Contrast) -> bool:
    return "SE" in contrast.scanning_sequence


def _repeated_gradient_echo(contrast: Contrast) -> tuple[Role, str]:
    if contrast.contrast_agent or contrast.acquisition_contrast == "PERFUSION":
        return Role.OTHER, "perfusion series"
    if contrast.echo_time < _BOLD_MINIMUM_ECHO_TIME:
        return Role.OTHER, "repeated volumes with an echo time too short for BOLD"
    return Role.FMRI, "repeats a long-echo gradient echo"


def _single_volume(contrast: Contrast, frames: list[Frame]) -> tuple[Role, str]:
    gradient_echo = bool({"GR", "IR"} & contrast.scanning_sequence) and not _spin_echo(contrast)
    if not (contrast.three_dimensional and gradient_echo) or contrast.echo_planar:
        return Role.OTHER, "neither diffusion, functional nor a 3-D gradient echo"
    if contrast.time_of_flight or "TOF" in contrast.sequence_variant:
        return Role.OTHER, "angiogram"
    prepared = contrast.inversion_time > 0 or "MP" in contrast.sequence_variant or "IR" in contrast.scanning_sequence
    spoiled = 0 < contrast.repetition_time <= _T1_SPOILED_MAXIMUM_REPETITION_TIME
    if contrast.echo_time >= _T1_MAXIMUM_ECHO_TIME or not (prepared or spoiled):
        return Role.OTHER, "3-D gradient echo that is not T1-weighted"
    voxel = max(*frames[0].pixel_spacing, frames[0].slice_spacing)
    if voxel > _T1_MAXIMUM_VOXEL or len(frames) < _T1_MINIMUM_SLICES:
        return Role.OTHER, "3-D gradient echo too coarse for anatomy"
    return Role.T1, "fine 3-D T1-weighted gradient echo"
