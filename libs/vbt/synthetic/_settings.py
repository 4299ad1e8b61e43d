"""What kind of synthetic patient to make: anatomy, bundles, protocol and noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Encoding = Literal["classic", "enhanced"]


@dataclass(frozen=True, kw_only=True)
class DiffusionProtocol:
    """A single-shell spin-echo EPI protocol.

    Parameters
    ----------
    voxel_mm : isotropic voxel size, mm
    shape : columns, rows, slices
    b0_volumes, directions : volumes without and with diffusion weighting
    b_value : s/mm²
    snr : white matter signal at b = 0 over the Rician noise's sigma
    motion_mm, motion_degrees : standard deviation of the head's position between volumes, per axis
    encoding : one file per slice, or one multi-frame file for the series
    """

    voxel_mm: float = 2.5
    shape: tuple[int, int, int] = (70, 84, 60)
    b0_volumes: int = 5
    directions: int = 45
    b_value: float = 3000.0
    snr: float = 30.0
    motion_mm: float = 0.3
    motion_degrees: float = 0.3
    encoding: Encoding = "classic"


@dataclass(frozen=True, kw_only=True)
class AnatomicalProtocol:
    """A sagittal T1-weighted gradient echo: `slice_mm` from left to right, `in_plane_mm` in the slice.

    `snr` is the white matter signal over the noise's sigma; `bias` the relative amplitude of the coil's shading.
    """

    slice_mm: float = 1.0
    in_plane_mm: float = 1.0
    snr: float = 40.0
    bias: float = 0.2


@dataclass(frozen=True, kw_only=True)
class FunctionalProtocol:
    """A resting-state gradient-echo EPI run.

    Parameters
    ----------
    voxel_mm, shape, volumes : isotropic voxel size (mm), matrix, length of the run
    repetition_time : s
    signal_percent : standard deviation of the regional BOLD, percent signal change
    tsnr : mean over temporal standard deviation of the thermal noise, in grey matter
    drift_percent : amplitude of the slow scanner drift
    motion_mm, motion_degrees : standard deviation of the head's slow wander, per axis
    encoding : one file per slice, or one multi-frame file for the run
    """

    voxel_mm: float = 4.0
    shape: tuple[int, int, int] = (48, 56, 38)
    volumes: int = 200
    repetition_time: float = 2.0
    signal_percent: float = 1.0
    tsnr: float = 80.0
    drift_percent: float = 1.0
    motion_mm: float = 0.15
    motion_degrees: float = 0.15
    encoding: Encoding = "enhanced"


@dataclass(frozen=True, kw_only=True)
class TwinParameters:
    """The parameters that drive the patient's resting activity; what calibration should recover.

    Parameters
    ----------
    g : global coupling, 0 … 1; the linear network is stable below 1
    sc_exponent : p in W = SC^p
    homotopic : h, weight added between mirrored regions after SC^p is scaled to a mean strength of 1
    """

    g: float = 0.8
    sc_exponent: float = 0.4
    homotopic: float = 0.5


@dataclass(frozen=True, kw_only=True)
class PatientSettings:
    """Everything that shapes a synthetic patient besides the seed.

    Parameters
    ----------
    anatomy_mm : resolution of the anatomy that all scans sample, mm
    bundles : how many bundles are asked for
    scaling, rotation_degrees, warp_mm : largest departure from MNI space: per-axis scaling about 1, rotation about
        each axis, smooth displacement; all zero leaves the template where it is
    """

    anatomy_mm: float = 1.0
    bundles: int = 72
    scaling: float = 0.05
    rotation_degrees: float = 4.0
    warp_mm: float = 4.0
    diffusion: DiffusionProtocol = field(default_factory=DiffusionProtocol)
    anatomical: AnatomicalProtocol = field(default_factory=AnatomicalProtocol)
    functional: FunctionalProtocol = field(default_factory=FunctionalProtocol)
    twin: TwinParameters = field(default_factory=TwinParameters)

    @classmethod
    def small(cls) -> PatientSettings:
        """A poor but complete study for fast tests: coarse voxels, twelve directions, a short functional run."""
        return cls(
            anatomy_mm=2.0,
            bundles=40,
            diffusion=DiffusionProtocol(
                voxel_mm=5.0, shape=(36, 42, 30), b0_volumes=2, directions=12, b_value=2000.0, snr=60.0
            ),
            anatomical=AnatomicalProtocol(slice_mm=2.5, in_plane_mm=2.0),
            functional=FunctionalProtocol(voxel_mm=6.0, shape=(32, 38, 26), volumes=80),
        )
