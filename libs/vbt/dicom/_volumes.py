"""Slices, tiles and frames become volumes with an exact affine to scanner RAS+ millimetres.

Voxel axes are (column, row, slice) as DICOM states them, slices ascending along row x column, so det(affine) > 0.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from jaxtyping import Float

from vbt.dicom._gradients import Gradient
from vbt.dicom._instance import Frame, Instance, unreadable_transfer_syntax
from vbt.dicom._mosaic import Mosaic
from vbt.dicom._pixels import can_decode, read_frames
from vbt.dicom._roles import Role, is_derived
from vbt.errors import Rejected

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_SAME_SLICE = 0.05  # mm
_SPACING_TOLERANCE = 0.05  # of the slice spacing
_SAME_DIRECTION = 0.01  # distance of unit vectors: 0.6 degrees
MINIMUM_DIRECTIONS = 6


@dataclass(frozen=True, slots=True)
class FrameOf:
    """Frame `number` of an instance."""

    instance: Instance
    number: int

    @property
    def frame(self) -> Frame:
        return self.instance.frames[self.number]


@dataclass(frozen=True)
class VolumePlan:
    """Which frame fills which slice of which volume, decided from headers alone: frames[volume][slice]."""

    frames: tuple[tuple[FrameOf, ...], ...]
    affine: Float[np.ndarray, "4 4"]
    shape: tuple[int, int, int]
    dropped_volumes: int = 0

    @property
    def volumes(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class DiffusionVolumes:
    """4-D diffusion image; b-values in s/mm²; unit gradient directions in scanner RAS+ (zero rows for b = 0)."""

    image: nib.Nifti1Image
    bvals: Float[np.ndarray, " volume"]
    bvecs: Float[np.ndarray, "volume 3"]


@dataclass(frozen=True)
class FunctionalVolumes:
    """4-D functional image and the time between its volumes in seconds."""

    image: nib.Nifti1Image
    repetition_time: float


def plan_volumes(instances: tuple[Instance, ...], role: Role) -> VolumePlan:
    """Lay out the volumes of one series.

    Raises
    ------
    Rejected : `missing-slices`, `missing-volumes`, `irregular-slices`, `mosaic-without-normal`,
        `unreadable-transfer-syntax`; for diffusion also `diffusion-without-gradients`,
        `diffusion-too-few-directions`, `diffusion-volumes-mixed`
    """
    if not all(can_decode(instance) for instance in instances):
        raise unreadable_transfer_syntax()
    if role is Role.DIFFUSION:
        _require_gradients(instances)
    plan = _plan_mosaics(instances) if instances[0].mosaic else _plan_slices(instances, role)
    _require_every_volume(instances, plan, role)
    if role is Role.DIFFUSION:
        plan = _without_trace(plan)
        _require_directions(plan)
    return plan


def load(plan: VolumePlan) -> Float[np.ndarray, "column row slice volume"]:
    """Read the pixels of a plan, each file once, rescaled to real values (float32)."""
    columns, rows, slices = plan.shape
    # Fortran order: every DICOM frame (rows x columns, C order) is then one contiguous run of memory.
    voxels = np.empty((columns, rows, slices, plan.volumes), dtype=np.float32, order="F")
    places: dict[int, list[tuple[FrameOf, int, int]]] = defaultdict(list)
    for v, volume in enumerate(plan.frames):
        for s, source in enumerate(volume):
            places[id(source.instance)].append((source, s, v))
    for wanted in places.values():
        instance = wanted[0][0].instance
        pixels = read_frames(instance)
        for source, s, v in wanted:
            scale = source.frame
            if instance.mosaic is None:
                voxels[:, :, s, v] = pixels[source.number].T
            else:
                tiles = _untile(pixels[0], plan.shape, instance.mosaic.tiles_per_row)
                voxels[:, :, :, v] = tiles[:, :, ::-1] if _tiles_descend(instance.mosaic, scale) else tiles
            target = voxels[:, :, s, v] if instance.mosaic is None else voxels[:, :, :, v]
            if scale.slope != 1.0 or scale.intercept != 0.0:
                target *= np.float32(scale.slope)
                target += np.float32(scale.intercept)
    return voxels


def gradient_table(plan: VolumePlan) -> tuple[Float[np.ndarray, " volume"], Float[np.ndarray, "volume 3"]]:
    """b-values (s/mm²) and unit directions in scanner RAS+ of the planned volumes."""
    gradients = [volume[0].frame.gradient for volume in plan.frames]
    bvals = np.array([gradient.b_value or 0.0 for gradient in gradients])
    directions = [g.direction if g.b_value and g.direction else (0.0, 0.0, 0.0) for g in gradients]
    bvecs = np.array(directions).reshape(-1, 3) @ _LPS_TO_RAS
    return bvals, bvecs + 0.0


def image_of(plan: VolumePlan, voxels: Float[np.ndarray, "..."], repetition_time: float = 0.0) -> nib.Nifti1Image:
    """Wrap voxels with the plan's affine; `repetition_time` (s) goes into a 4-D image's header."""
    header = nib.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_shape(voxels.shape)  # type: ignore[no-untyped-call]
    header.set_data_dtype(voxels.dtype)  # type: ignore[no-untyped-call]
    header.set_qform(plan.affine, code=1)  # type: ignore[no-untyped-call]
    header.set_sform(plan.affine, code=1)  # type: ignore[no-untyped-call]
    header.set_xyzt_units("mm", "sec")  # type: ignore[no-untyped-call]
    if voxels.ndim == 4 and repetition_time:
        header["pixdim"][4] = repetition_time
    return nib.Nifti1Image(voxels, plan.affine, header)  # type: ignore[no-untyped-call]


def _plan_slices(instances: tuple[Instance, ...], role: Role) -> VolumePlan:
    sources = [FrameOf(instance, n) for instance in instances for n in range(len(instance.frames))]
    if role is Role.DIFFUSION:
        sources = [source for source in sources if not is_derived(source.frame.image_type)]
    locations = _slice_locations(sources)
    counts = [len(location) for location in locations]
    if min(counts) != max(counts):
        raise _missing_slices(sum(counts), max(counts) * len(counts))
    for location in locations:
        location.sort(key=lambda source: source.frame.order)
    volumes = tuple(zip(*locations, strict=True))
    if role is Role.DIFFUSION:
        volumes = _by_gradient(volumes)
    first, last = locations[0][0].frame, locations[-1][0].frame
    return VolumePlan(
        frames=volumes,
        affine=_affine(first, np.array(first.position), np.array(last.position), len(locations)),
        shape=(instances[0].columns, instances[0].rows, len(locations)),
    )


def _slice_locations(sources: list[FrameOf]) -> list[list[FrameOf]]:
    """Frames grouped by distance along the slice normal, ascending; every gap between groups must be equal."""
    normal = _normal(sources[0].frame)
    distances = np.array([source.frame.position for source in sources]) @ normal
    order = np.argsort(distances, kind="stable")
    locations: list[list[FrameOf]] = []
    starts: list[float] = []
    for index in order:
        if not starts or distances[index] - starts[-1] > _SAME_SLICE:
            starts.append(float(distances[index]))
            locations.append([])
        locations[-1].append(sources[index])
    gaps = np.diff(starts)
    if len(gaps) and np.ptp(gaps) > max(_SAME_SLICE, _SPACING_TOLERANCE * float(np.median(gaps))):
        steps = np.rint(gaps / np.median(gaps))
        if np.allclose(gaps, steps * np.median(gaps), rtol=_SPACING_TOLERANCE) and steps.max() > 1:
            raise _missing_slices(len(starts), len(starts) + int((steps - 1).sum()))
        raise Rejected(
            "irregular-slices",
            rule="the slices of a volume must be evenly spaced",
            got="uneven spacing",
            action="send the series as it was acquired",
        )
    return locations


def _by_gradient(volumes: tuple[tuple[FrameOf, ...], ...]) -> tuple[tuple[FrameOf, ...], ...]:
    """Volumes whose slices all carry one gradient: as ordered, or regrouped by gradient where the order mixes them."""
    if all(_same_gradient(volume[0].frame.gradient, s.frame.gradient) for volume in volumes for s in volume):
        return volumes
    rest = [list(location) for location in zip(*volumes, strict=True)]
    grouped: list[tuple[FrameOf, ...]] = []
    for reference in list(rest[0]):
        volume = []
        for location in rest:
            same = (s for s in location if _same_gradient(reference.frame.gradient, s.frame.gradient))
            source = next(same, None)
            if source is None:
                raise Rejected(
                    "diffusion-volumes-mixed",
                    rule="every slice must be measured with every gradient",
                    got="slices whose gradients do not match",
                    action="send the whole series again",
                )
            location.remove(source)
            volume.append(source)
        grouped.append(tuple(volume))
    return tuple(grouped)


def _same_gradient(one: Gradient, other: Gradient) -> bool:
    """Equal up to the digits scanners print, which differ from slice to slice."""
    if abs((one.b_value or 0.0) - (other.b_value or 0.0)) > 1.0 or one.is_trace != other.is_trace:
        return False
    if not one.b_value or one.direction is None or other.direction is None:
        return True
    return math.dist(one.direction, other.direction) < _SAME_DIRECTION


def _plan_mosaics(instances: tuple[Instance, ...]) -> VolumePlan:
    first = instances[0]
    mosaic, frame = first.mosaic, first.frames[0]
    if mosaic is None or mosaic.slice_normal is None or not mosaic.slices:
        raise Rejected(
            "mosaic-without-normal",
            rule="a mosaic must state the direction of its slices",
            got="none, so left and right cannot be told apart",
            action="send the series with its Siemens private header",
        )
    columns, rows = first.columns // mosaic.tiles_per_row, first.rows // mosaic.tiles_per_row
    row_axis, column_axis = np.array(frame.orientation[:3]), np.array(frame.orientation[3:])
    # The stated position is the corner of the whole mosaic laid out in the plane of one slice, about its centre.
    corner = np.array(frame.position)
    corner = corner + row_axis * frame.pixel_spacing[1] * (first.columns - columns) / 2
    corner = corner + column_axis * frame.pixel_spacing[0] * (first.rows - rows) / 2
    last = corner + np.array(mosaic.slice_normal) * frame.slice_spacing * (mosaic.slices - 1)
    ends = (last, corner) if _tiles_descend(mosaic, frame) else (corner, last)
    affine = _affine(frame, ends[0], ends[1], mosaic.slices)
    ordered = sorted(instances, key=lambda instance: instance.frames[0].order)
    return VolumePlan(
        frames=tuple((FrameOf(instance, 0),) for instance in ordered),
        affine=affine,
        shape=(columns, rows, mosaic.slices),
    )


def _tiles_descend(mosaic: Mosaic, frame: Frame) -> bool:
    """Whether tile order runs against row x column, the direction our slices ascend in."""
    return mosaic.slice_normal is not None and float(np.dot(_normal(frame), mosaic.slice_normal)) < 0


def _untile(
    mosaic: Float[np.ndarray, "mosaic_rows mosaic_columns"], shape: tuple[int, int, int], tiles_per_row: int
) -> Float[np.ndarray, "column row slice"]:
    columns, rows, slices = shape
    tiles = mosaic.reshape(tiles_per_row, rows, tiles_per_row, columns).transpose(0, 2, 1, 3)
    return tiles.reshape(-1, rows, columns)[:slices].transpose(2, 1, 0)


def _normal(frame: Frame) -> Float[np.ndarray, " 3"]:
    return np.cross(frame.orientation[:3], frame.orientation[3:])


def _affine(
    frame: Frame, first: Float[np.ndarray, " 3"], last: Float[np.ndarray, " 3"], slices: int
) -> Float[np.ndarray, "4 4"]:
    affine = np.eye(4)
    affine[:3, 0] = np.array(frame.orientation[:3]) * frame.pixel_spacing[1]
    affine[:3, 1] = np.array(frame.orientation[3:]) * frame.pixel_spacing[0]
    # First to last, not spacing times normal: it keeps a sheared stack where the scanner put it.
    affine[:3, 2] = (last - first) / (slices - 1) if slices > 1 else _normal(frame) * frame.slice_spacing
    affine[:3, 3] = first
    affine[:3] = _LPS_TO_RAS @ affine[:3]
    return affine + 0.0


def _require_gradients(instances: tuple[Instance, ...]) -> None:
    frames = [frame for instance in instances for frame in instance.frames]
    if not any(frame.gradient.b_value and frame.gradient.direction for frame in frames):
        raise Rejected(
            "diffusion-without-gradients",
            rule="diffusion images must state their b-values and gradient directions",
            got="none that can be read",
            action="send the original series, with its private attributes",
        )


def _without_trace(plan: VolumePlan) -> VolumePlan:
    kept = tuple(volume for volume in plan.frames if not volume[0].frame.gradient.is_trace)
    return VolumePlan(kept, plan.affine, plan.shape, plan.volumes - len(kept))


def _require_directions(plan: VolumePlan) -> None:
    _, bvecs = gradient_table(plan)
    axes = {tuple(np.round(v if (v[2], v[1], v[0]) > (0, 0, 0) else -v, 2) + 0.0) for v in bvecs if v.any()}
    if len(axes) < MINIMUM_DIRECTIONS:
        raise Rejected(
            "diffusion-too-few-directions",
            rule=f"diffusion needs at least {MINIMUM_DIRECTIONS} gradient directions",
            got=f"{len(axes)} direction{'s' if len(axes) != 1 else ''}",
            action=f"send a diffusion series with {MINIMUM_DIRECTIONS} or more directions",
        )


def _require_every_volume(instances: tuple[Instance, ...], plan: VolumePlan, role: Role) -> None:
    declared = instances[0].declared
    if declared.slices is not None and not instances[0].mosaic and plan.shape[2] < declared.slices:
        raise _missing_slices(plan.shape[2], declared.slices)
    if role is Role.T1:
        return
    expected = max(declared.temporal_positions or 0, plan.volumes + _skipped_volumes(instances, plan))
    if plan.volumes < expected:
        raise Rejected(
            "missing-volumes",
            rule="a series must hold every volume it was acquired with",
            got=f"{plan.volumes} of {expected} volumes",
            action="send the whole series again",
        )


def _skipped_volumes(instances: tuple[Instance, ...], plan: VolumePlan) -> int:
    """Volumes that a gap in the instance numbers tells of.

    Only gaps that are whole volumes long count, in a series numbered volume by volume: vendors that number slice by
    slice leave gaps for images they never exported.
    """
    files_per_volume = len(instances) / plan.volumes
    numbers = np.array(sorted({instance.instance_number for instance in instances}))
    if len(numbers) != len(instances):
        return 0
    gaps = np.diff(numbers) - 1
    gaps = gaps[gaps > 0]
    if not len(gaps) or files_per_volume < 1 or (gaps % files_per_volume).any():
        return 0
    return int(gaps.sum() / files_per_volume)


def _missing_slices(received: int, expected: int) -> Rejected:
    return Rejected(
        "missing-slices",
        rule="every volume must hold all its slices",
        got=f"{received} of {expected} images",
        action="send the whole series again",
    )
