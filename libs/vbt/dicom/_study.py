"""A study: its series by role, why a series cannot be used, and the set a twin is built from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib

from vbt.dicom._instance import Instance, Unreadable, read_instance
from vbt.dicom._roles import Role, role_of
from vbt.dicom._volumes import (
    DiffusionVolumes,
    FunctionalVolumes,
    VolumePlan,
    gradient_table,
    image_of,
    load,
    plan_volumes,
)
from vbt.errors import Rejected

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Series:
    """One acquisition: images of one SOP series that share geometry, echo time and complex component.

    `basis` says which fact decided the role; `refusal` says why a DIFFUSION, T1 or FMRI series cannot be used.
    """

    number: int
    role: Role
    basis: str
    instances: tuple[Instance, ...] = field(repr=False)
    plan: VolumePlan | None = field(repr=False)
    refusal: Rejected | None
    duplicates: int = 0

    @property
    def usable(self) -> bool:
        return self.plan is not None


@dataclass(frozen=True)
class InventoryEntry:
    """What the events and the ledger say about a series: nothing in it can identify the patient."""

    series: int
    role: str
    instances: int
    volumes: int
    duplicates: int
    usable: bool
    reason: str


@dataclass(frozen=True)
class Study:
    """All series found in a set of files, and the files that could not be read."""

    series: tuple[Series, ...]
    unreadable: tuple[Unreadable, ...] = field(repr=False)
    studies: int
    patients: int

    def inventory(self) -> tuple[InventoryEntry, ...]:
        """One entry per series, then one per reason for which files could not be read."""
        entries = [
            InventoryEntry(
                series=series.number,
                role=series.role.value,
                instances=len(series.instances),
                volumes=series.plan.volumes if series.plan else 0,
                duplicates=series.duplicates,
                usable=series.usable,
                reason=series.refusal.code if series.refusal else series.basis,
            )
            for series in self.series
        ]
        codes: dict[str, int] = defaultdict(int)
        for file in self.unreadable:
            codes[file.reason.code] += 1
        entries += [InventoryEntry(0, "unreadable", n, 0, 0, False, code) for code, n in sorted(codes.items())]
        return tuple(entries)

    def usable(self, role: Role) -> tuple[Series, ...]:
        return tuple(series for series in self.series if series.role is role and series.usable)


@dataclass(frozen=True)
class ProtocolSet:
    """The series a twin is built from; `fmri` is None where the study has none that can be used."""

    diffusion: Series
    t1: Series
    fmri: Series | None

    @property
    def name(self) -> str:
        return "diffusion+t1" if self.fmri is None else "diffusion+t1+fmri"


def read_study(paths: Iterable[Path | str], progress: Progress | None = None) -> Study:
    """Read files and folders into a study.

    Only headers are read, each file once; pixel values are read when volumes are asked for. What a file holds never
    makes this raise: unreadable files and unusable series carry their reason.

    Parameters
    ----------
    paths : files, or folders that are searched to any depth
    progress : called with a short text and the fraction read

    Raises
    ------
    NotYet : ``image-unreachable`` where the system cannot read a file now
    """
    files = _files(paths)
    instances: list[Instance] = []
    unreadable: list[Unreadable] = []
    for index, path in enumerate(files):
        found = read_instance(path)
        if isinstance(found, Unreadable):
            unreadable.append(found)
        else:
            instances.append(found)
        if progress and index % 200 == 0:
            progress("reading headers", index / len(files))
    if progress:
        progress("reading headers", 1.0)
    return Study(
        series=_series(instances),
        unreadable=tuple(unreadable),
        studies=len({instance.study_instance_uid for instance in instances}),
        patients=len({instance.patient for instance in instances}),
    )


def require_protocol(study: Study) -> ProtocolSet:
    """The diffusion, T1 and (if any) functional series to use.

    Among several usable series of a role: most volumes for diffusion and fMRI, finest voxels for T1, then acquisition
    order.

    Raises
    ------
    Rejected : `not-dicom` or another file's code where no file could be read, `several-studies`, `several-patients`,
        `no-diffusion`, `no-t1`, or the refusal of the only candidate series (see `plan_volumes`)
    """
    _require_one_patient(study)
    diffusion = _best(study, Role.DIFFUSION, lambda series: -_volumes(series))
    t1 = _best(study, Role.T1, _voxel_volume)
    fmri = sorted(study.usable(Role.FMRI), key=lambda series: (-_volumes(series), series.number))
    return ProtocolSet(diffusion, t1, fmri[0] if fmri else None)


def diffusion_volumes(series: Series) -> DiffusionVolumes:
    """Read a diffusion series: 4-D image, b-values (s/mm²), unit directions in scanner RAS+ (zero for b = 0)."""
    plan = _planned(series, Role.DIFFUSION)
    bvals, bvecs = gradient_table(plan)
    return DiffusionVolumes(image_of(plan, load(plan)), bvals, bvecs)


def anatomical_volume(series: Series) -> nib.Nifti1Image:
    """Read a T1 series as a 3-D image."""
    plan = _planned(series, Role.T1)
    return image_of(plan, load(plan)[..., 0])


def functional_volumes(series: Series) -> FunctionalVolumes:
    """Read a functional series as a 4-D image with its repetition time in seconds."""
    plan = _planned(series, Role.FMRI)
    repetition_time = series.instances[0].contrast.repetition_time / 1000.0
    return FunctionalVolumes(image_of(plan, load(plan), repetition_time), repetition_time)


def _files(paths: Iterable[Path | str]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        files.extend(sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path])
    return files


def _series(instances: list[Instance]) -> tuple[Series, ...]:
    groups: dict[tuple[object, ...], list[Instance]] = defaultdict(list)
    seen: set[str] = set()
    duplicates: dict[str, int] = defaultdict(int)
    for instance in instances:
        if instance.sop_instance_uid in seen:
            duplicates[instance.series_instance_uid] += 1
            continue
        seen.add(instance.sop_instance_uid)
        groups[_acquisition(instance)].append(instance)
    # By what the images say of themselves, so that file names and arrival order change nothing.
    for group in groups.values():
        group.sort(key=lambda instance: (instance.instance_number, instance.sop_instance_uid))
    ordered = sorted(groups.values(), key=lambda group: (group[0].series_number, group[0].instance_number))
    return tuple(
        _one_series(number, tuple(group), duplicates.pop(group[0].series_instance_uid, 0))
        for number, group in enumerate(ordered, start=1)
    )


def _acquisition(instance: Instance) -> tuple[object, ...]:
    """What all images of one acquisition share; several acquisitions may hide in one SOP series."""
    frame = instance.frames[0] if instance.frames else None
    geometry = (
        tuple(round(v, 3) + 0.0 for v in frame.orientation),
        tuple(round(v, 3) for v in frame.pixel_spacing),
        round(frame.echo_time, 2),
    ) if frame else ()  # fmt: skip
    return (
        instance.series_instance_uid,
        instance.sop_class_uid,
        instance.rows,
        instance.columns,
        geometry,
        instance.contrast.image_type & {"P", "PHASE", "PHASE MAP", "REAL", "R", "IMAGINARY", "I", "DERIVED"},
        instance.mosaic is not None,
    )


def _one_series(number: int, instances: tuple[Instance, ...], duplicates: int) -> Series:
    role, basis = role_of(instances)
    if role is Role.OTHER:
        return Series(number, role, basis, instances, None, None, duplicates)
    try:
        return Series(number, role, basis, instances, plan_volumes(instances, role), None, duplicates)
    except Rejected as refusal:
        return Series(number, role, basis, instances, None, refusal, duplicates)


def _planned(series: Series, role: Role) -> VolumePlan:
    if series.role is not role:
        raise ValueError(f"a {role} series is needed, got {series.role}")
    if series.refusal is not None:
        raise series.refusal
    if series.plan is None:
        raise ValueError("the series has no volumes")
    return series.plan


def _volumes(series: Series) -> int:
    return series.plan.volumes if series.plan else 0


def _voxel_volume(series: Series) -> float:
    frame = series.instances[0].frames[0]
    return round(frame.pixel_spacing[0] * frame.pixel_spacing[1] * frame.slice_spacing, 2)


def _best(study: Study, role: Role, rank: Callable[[Series], float]) -> Series:
    usable = study.usable(role)
    if usable:
        return min(usable, key=lambda series: (rank(series), series.number))
    for series in study.series:
        if series.role is role and series.refusal is not None:
            raise series.refusal
    _raise_unreadable(study)
    name = {Role.DIFFUSION: "diffusion", Role.T1: "T1-weighted"}[role]
    raise Rejected(
        f"no-{role.value}",
        rule=f"a twin needs a {name} series",
        got=f"{len(study.series)} other series",
        action=f"send the study with its {name} series",
    )


def _raise_unreadable(study: Study) -> None:
    """Where nothing at all could be read, the files' own reason is the answer."""
    if not study.series and study.unreadable:
        raise study.unreadable[0].reason


def _require_one_patient(study: Study) -> None:
    for count, code, thing in (
        (study.patients, "several-patients", "patient"),
        (study.studies, "several-studies", "study"),
    ):
        if count > 1:
            raise Rejected(
                code,
                rule=f"a case is one {thing}",
                got=f"images of {count}",
                action="send each study of each patient by itself",
            )
