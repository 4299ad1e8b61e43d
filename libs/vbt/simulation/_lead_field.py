"""From regional activity to sensors: EEG and MEG lead fields through MNE-Python, intracranial ones from coordinates."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import mne
import numpy as np
from jaxtyping import Float, Int

from vbt.simulation._electric_field import GREY_MATTER

_MICROVOLT_PER_NANOAMPERE_METRE = 1e-9 / 1e-6  # of a gain in V/(A·m)
_FEMTOTESLA_PER_NANOAMPERE_METRE = 1e-9 / 1e-15  # of a gain in T/(A·m)


@dataclass(frozen=True, kw_only=True)
class SourceSpace:
    """Current dipoles normal to the cortex, each belonging to a region.

    Parameters
    ----------
    positions : mm
    orientations : outward normals; their length does not matter
    areas : mm² of cortex that each dipole stands for
    regions : index of each dipole's region; every region has one at least
    region_labels : names of the regions
    """

    positions: Float[np.ndarray, "dipole 3"]
    orientations: Float[np.ndarray, "dipole 3"]
    areas: Float[np.ndarray, " dipole"]
    regions: Int[np.ndarray, " dipole"]
    region_labels: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.positions)
        shapes = (self.positions.shape, self.orientations.shape, self.areas.shape, self.regions.shape)
        if shapes != ((count, 3), (count, 3), (count,), (count,)):
            raise ValueError(
                f"positions and orientations must be (dipole, 3), areas and regions (dipole,), got {shapes}"
            )
        if not (np.isfinite(self.positions).all() and (self.areas >= 0.0).all()):
            raise ValueError("positions must be finite and areas must not be negative")
        lengths = np.linalg.norm(self.orientations, axis=1)
        if not (lengths > 0.0).all():
            raise ValueError(f"orientations must not vanish, got none for dipole {int(np.argmin(lengths))}")
        empty = sorted(set(range(len(self.region_labels))) - set(self.regions.tolist()))
        if empty or self.regions.min() < 0 or self.regions.max() >= len(self.region_labels):
            raise ValueError(f"every region must have a dipole and every dipole a region, got none for regions {empty}")

    @classmethod
    def of_regions(
        cls,
        centres: Float[np.ndarray, "region 3"],
        orientations: Float[np.ndarray, "region 3"],
        region_labels: tuple[str, ...],
    ) -> SourceSpace:
        """One dipole of unit area at every region's centre."""
        count = len(centres)
        return cls(
            positions=np.asarray(centres, dtype=float),
            orientations=np.asarray(orientations, dtype=float),
            areas=np.ones(count),
            regions=np.arange(count),
            region_labels=region_labels,
        )

    @property
    def normals(self) -> Float[np.ndarray, "dipole 3"]:
        return np.asarray(self.orientations / np.linalg.norm(self.orientations, axis=1, keepdims=True))

    def summed(self, gain: Float[np.ndarray, "sensor dipole"]) -> Float[np.ndarray, "sensor region"]:
        """Dipoles weighted with their areas and summed within their regions."""
        member = np.zeros((len(self.regions), len(self.region_labels)))
        member[np.arange(len(self.regions)), self.regions] = self.areas
        return np.asarray(gain @ member)


@dataclass(frozen=True, kw_only=True)
class LeadField:
    """What every sensor sees of every region.

    Parameters
    ----------
    gain : in ``unit`` per unit of regional activity
    sensors, region_labels : names of rows and columns
    """

    gain: Float[np.ndarray, "sensor region"]
    sensors: tuple[str, ...]
    region_labels: tuple[str, ...]
    unit: str

    def __post_init__(self) -> None:
        if self.gain.shape != (len(self.sensors), len(self.region_labels)):
            raise ValueError(
                f"gain must be {(len(self.sensors), len(self.region_labels))} for its sensors and regions, "
                f"got {self.gain.shape}"
            )
        if not np.isfinite(self.gain).all():
            raise ValueError("gain must be finite")

    def average_reference(self) -> LeadField:
        """Every sensor against the mean of all sensors."""
        return dataclasses.replace(self, gain=self.gain - self.gain.mean(axis=0))

    def bipolar(self) -> LeadField:
        """Neighbouring contacts of one electrode against each other: A1-A2, A2-A3, from names such as A1, A2, A3."""
        where = {}
        for row, name in enumerate(self.sensors):
            match = re.fullmatch(r"(.*?)(\d+)", name)
            if match is None:
                raise ValueError(f"contacts must be named by electrode and number, such as A1, got {name!r}")
            where[match[1], int(match[2])] = row
        pairs = [(row, where[shaft, n + 1]) for (shaft, n), row in sorted(where.items()) if (shaft, n + 1) in where]
        if not pairs:
            raise ValueError("no electrode has two neighbouring contacts")
        return dataclasses.replace(
            self,
            gain=np.stack([self.gain[a] - self.gain[b] for a, b in pairs]),
            sensors=tuple(f"{self.sensors[a]}-{self.sensors[b]}" for a, b in pairs),
        )


def standard_eeg(montage: str = "colin27_1020") -> tuple[mne.Info, mne.transforms.Transform]:
    """Electrodes of a standard montage on the MNI head, and the way from MNI coordinates to theirs.

    Parameters
    ----------
    montage : one of MNE-Python's montages in MRI coordinates, such as ``"colin27_1020"`` or ``"colin27_1005"``
    """
    electrodes = mne.channels.make_standard_montage(montage)
    info = mne.create_info(electrodes.ch_names, sfreq=1000.0, ch_types="eeg", verbose="ERROR")
    info.set_montage(electrodes, verbose="ERROR")
    return info, mne.channels.compute_native_head_t(electrodes, verbose="ERROR")


def lead_field(
    sensors: mne.Info,
    sources: SourceSpace,
    conductor: mne.bem.ConductorModel,
    *,
    kind: Literal["eeg", "meg"],
    mri_to_head: mne.transforms.Transform | None = None,
    moment_density: float = 1.0,
    least_depth: float | None = None,
) -> LeadField:
    """The lead field of EEG (µV, average reference) or MEG (fT) sensors.

    Parameters
    ----------
    sensors : MNE-Python's description of the channels, read from a recording or made by `standard_eeg`
    sources : positions in MRI coordinates, or in head coordinates where there is no ``mri_to_head``
    conductor : `mne.make_sphere_model` or `mne.make_bem_solution`
    moment_density : nA·m per mm² and unit of activity
    least_depth : mm; in a sphere, dipoles nearer to the skull or beyond it are moved inwards to this depth, since no
        brain is a sphere. None moves nothing

    Raises
    ------
    ValueError
        naming the first region with a dipole outside the conductor's brain, or where no channel is of the kind.
    """
    picked = mne.pick_types(sensors, meg=kind == "meg", eeg=kind == "eeg", exclude=[])
    if not len(picked):
        raise ValueError(f"sensors must have {kind} channels, got none")
    chosen = mne.pick_info(sensors, picked, verbose="ERROR")
    gain = _gain(chosen, sources, conductor, mri_to_head, kind, least_depth)
    scale = _MICROVOLT_PER_NANOAMPERE_METRE if kind == "eeg" else _FEMTOTESLA_PER_NANOAMPERE_METRE
    field = LeadField(
        gain=moment_density * scale * sources.summed(gain),
        sensors=tuple(chosen["ch_names"]),
        region_labels=sources.region_labels,
        unit="µV" if kind == "eeg" else "fT",
    )
    return field.average_reference() if kind == "eeg" else field


def _gain(
    sensors: mne.Info,
    sources: SourceSpace,
    conductor: mne.bem.ConductorModel,
    mri_to_head: mne.transforms.Transform | None,
    kind: str,
    least_depth: float | None,
) -> Float[np.ndarray, "sensor dipole"]:
    """V or T per A·m of every dipole along its normal."""
    positions, normals = sources.positions / 1000.0, sources.normals
    if mri_to_head is not None and conductor["is_sphere"]:
        # MNE 1.13 asks whether MRI coordinates lie in a sphere given in head coordinates, so go to the head first.
        positions = mne.transforms.apply_trans(mri_to_head, positions)
        normals = mne.transforms.apply_trans(mri_to_head, normals, move=False)
        mri_to_head = None
    if least_depth is not None:
        positions = _moved_inwards(positions, conductor, least_depth / 1000.0)
    space = mne.setup_volume_source_space(pos={"rr": positions, "nn": normals}, mindist=0.0, verbose="ERROR")
    forward = mne.make_forward_solution(
        sensors, mri_to_head, space, conductor, meg=kind == "meg", eeg=kind == "eeg", mindist=0.0, verbose="ERROR"
    )
    if forward["nsource"] != len(positions):
        inside = np.zeros(len(positions), dtype=bool)
        inside[forward["src"][0]["vertno"]] = True
        region = sources.region_labels[int(sources.regions[np.argmin(inside)])]
        raise ValueError(
            f"every dipole must lie within the conductor's brain, got {int((~inside).sum())} outside, "
            f"the first in region {region}"
        )
    free = forward["sol"]["data"].reshape(len(sensors["ch_names"]), len(positions), 3)
    turned = normals if mri_to_head is None else mne.transforms.apply_trans(mri_to_head, normals, move=False)
    return np.asarray(np.einsum("sdx,dx->sd", free, turned))


def _moved_inwards(
    positions: Float[np.ndarray, "dipole 3"], conductor: mne.bem.ConductorModel, least_depth: float
) -> Float[np.ndarray, "dipole 3"]:
    if not conductor["is_sphere"]:
        raise ValueError("least_depth is for spheres; a boundary element model has the brain's own shape")
    offsets = positions - conductor["r0"]
    distances = np.linalg.norm(offsets, axis=1, keepdims=True)
    limit = conductor["layers"][0]["rad"] - least_depth
    return np.asarray(conductor["r0"] + offsets * np.minimum(1.0, limit / np.maximum(distances, 1e-12)))


def intracranial_lead_field(
    contacts: Mapping[str, tuple[float, float, float]],
    sources: SourceSpace,
    *,
    model: Literal["inverse-square", "dipole"],
    conductivity: float = GREY_MATTER,
    nearest: float = 1.0,
    moment_density: float = 1.0,
) -> LeadField:
    """The lead field of SEEG contacts in a homogeneous brain.

    ``"inverse-square"`` is the Virtual Epileptic Patient's Σ area / distance², without a unit and without a sign.
    ``"dipole"`` is the potential of the dipoles, µV: Σ q · (r − r₀) / (4πσ |r − r₀|³).

    Parameters
    ----------
    contacts : name and position (mm, in the coordinates of the sources) of every contact
    conductivity : S/m
    nearest : mm; a nearer dipole counts as being this far away, where a point no longer stands for its patch
    moment_density : nA·m per mm² and unit of activity, for the dipoles
    """
    where = np.array(list(contacts.values()), dtype=float).reshape(-1, 3)
    if not (len(where) and np.isfinite(where).all()):
        raise ValueError("contacts must have finite coordinates, and there must be one")
    if not (nearest > 0.0 and conductivity > 0.0):
        raise ValueError("nearest distance and conductivity must be positive")
    offsets = where[:, None, :] - sources.positions[None, :, :]
    distances = np.maximum(np.linalg.norm(offsets, axis=-1), nearest)
    if model == "inverse-square":
        gain, unit = 1.0 / distances**2, "1"
    else:
        along = np.einsum("sdx,dx->sd", offsets, sources.normals)
        # nA·m over S/m and mm²: 10⁻⁹/10⁻⁶ V, so 10³ µV
        gain, unit = 1e3 * moment_density * along / (4.0 * math.pi * conductivity * distances**3), "µV"
    return LeadField(gain=sources.summed(gain), sensors=tuple(contacts), region_labels=sources.region_labels, unit=unit)
