"""The whole way from a diffusion series and a T1 to a structural connectome, with what it cost and how good it is."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float

from vbt.connectome._anatomy import Anatomy, build_anatomy
from vbt.connectome._connectome import Connectome
from vbt.connectome._diffusion import Diffusion, prepare_diffusion
from vbt.connectome._edges import edges_of, joins_two_regions
from vbt.connectome._fibres import Fibres, estimate_fibres
from vbt.connectome._gradients import gradients_of
from vbt.connectome._parcellation import Parcellation, desikan_killiany, region_centres
from vbt.connectome._pictures import draw_pictures
from vbt.connectome._quality import QualityCheck, anatomy_checks, connection_checks, diffusion_checks
from vbt.connectome._tracking import track
from vbt.connectome._tracts import Tracts, tracts_of
from vbt.errors import Rejected

Progress = Callable[[str, float], None]

# Where each step begins in the whole, measured on the synthetic and the Philips patient.
_STEPS = {
    "anatomy": (0.0, 0.3),
    "diffusion": (0.3, 0.8),
    "fibres": (0.8, 0.9),
    "tracking": (0.9, 0.97),
    "pictures": (0.97, 1.0),
}


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """How to build.

    Parameters
    ----------
    seeds : points drawn in the white matter; about a tenth to a fifth become streamlines that join two regions
    """

    seeds: int = 400_000


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What one step cost: wall and processor time (s) and the highest memory of the process so far (bytes)."""

    name: str
    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int


@dataclass(frozen=True, kw_only=True)
class ConnectomeBuild:
    """A connectome and everything that speaks for or against it.

    Parameters
    ----------
    connectome : weights are sums over streamlines of 100 mm over the length, tract lengths are medians
    counts : streamlines between two regions
    quality : the checks; where one did not pass, a person decides
    methods : what was done, one sentence each
    pictures : PNG by name: ``anatomy``, ``fibres``, ``weights``, ``lengths``
    anatomy : the patient's brain, tissues and regions, which `regional_bold` needs
    tracts : the streamlines behind the weights, which `lesion_fractions` needs
    steps : cost of each step
    """

    connectome: Connectome
    counts: Float[np.ndarray, "region region"]
    quality: tuple[QualityCheck, ...]
    methods: tuple[str, ...]
    pictures: dict[str, bytes]
    anatomy: Anatomy
    tracts: Tracts
    steps: tuple[StepCost, ...]

    @property
    def labels(self) -> nib.Nifti1Image:
        """Regions in the T1's scanner frame, on a 1 mm grid: 1 + the index in the connectome, 0 elsewhere."""
        return self.anatomy.image(self.anatomy.labels.astype(np.uint8))


def build_connectome(
    diffusion: nib.Nifti1Image,
    bvals: Float[np.ndarray, " volume"],
    bvecs: Float[np.ndarray, "volume 3"],
    t1: nib.Nifti1Image,
    *,
    rng_seed: int,
    settings: BuildSettings | None = None,
    progress: Progress = lambda _step, _fraction: None,
) -> ConnectomeBuild:
    """The structural connectome of one patient over the 83 Desikan-Killiany regions.

    Parameters
    ----------
    diffusion : 4-D, affine to scanner RAS+ mm
    bvals : s/mm²
    bvecs : unit vectors in the scanner RAS+ world frame; rows of b0 volumes are ignored
    t1 : whole head, 3-D, of the same session
    rng_seed : the same seed gives the same arrays
    progress : called with the step and the fraction of the whole that is done

    Raises
    ------
    Rejected
        where the input cannot be used: ``t1-without-brain``, ``t1-malformed``, ``diffusion-gradients-mismatch``,
        ``diffusion-without-b0``, ``diffusion-too-few-directions``, ``diffusion-weighting-too-low``.
    Unsound
        where the computation did not hold: ``brain-implausible``, ``registration-failed``, ``diffusion-not-aligned``,
        ``diffusion-corrupted``, ``too-few-streamlines``.
    """
    settings = settings or BuildSettings()
    _refuse_malformed(t1)
    table = gradients_of(diffusion, bvals, bvecs)
    parcellation = desikan_killiany()
    log = _Log(progress)
    with log.step("anatomy"):
        anatomy = build_anatomy(t1, parcellation, log.inside("anatomy"))
        quality = anatomy_checks(anatomy, parcellation)
    with log.step("diffusion"):
        series = prepare_diffusion(diffusion, table, anatomy, log.inside("diffusion"))
    with log.step("fibres"):
        places = _Places.of(series, anatomy)
        fibres = estimate_fibres(series, places.white, places.open)
        quality += diffusion_checks(series, fibres, anatomy, places.white, places.grey)
    with log.step("tracking"):
        rng = np.random.default_rng(rng_seed)
        streamlines = track(fibres, series, anatomy, seeds=settings.seeds, rng=rng, done=log.inside("tracking"))
        edges = edges_of(streamlines, len(parcellation.region_labels))
        quality += connection_checks(streamlines, edges)
    connectome = Connectome(
        weights=edges.strengths,
        tract_lengths=edges.tract_lengths,
        region_labels=parcellation.region_labels,
        centres=_centres(anatomy, parcellation),
        is_cortical=parcellation.is_cortical,
        parcellation=parcellation.name,
        normalisation="sum over streamlines of 100 mm over the length",
    )
    with log.step("pictures"):
        shown = streamlines.chosen(joins_two_regions(streamlines))
        tracts = tracts_of(shown, series.to_anatomy @ series.affine, parcellation.region_labels)
        pictures = draw_pictures(anatomy, series, fibres, shown, connectome)
    progress("done", 1.0)
    return ConnectomeBuild(
        connectome=connectome,
        counts=edges.counts,
        quality=quality,
        methods=_methods(series, fibres),
        pictures=pictures,
        anatomy=anatomy,
        tracts=tracts,
        steps=tuple(log.costs),
    )


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Voxels of the diffusion grid by what the T1 says they hold: surely white, surely grey, open to fibres."""

    white: Bool[np.ndarray, "x y z"]
    grey: Bool[np.ndarray, "x y z"]
    open: Bool[np.ndarray, "x y z"]

    @classmethod
    def of(cls, series: Diffusion, anatomy: Anatomy) -> _Places:
        white = series.anatomical(anatomy, anatomy.tissue.white * (anatomy.labels == 0))
        region = series.anatomical(anatomy, anatomy.labels > 0)
        grey = series.anatomical(anatomy, anatomy.tissue.grey * (anatomy.labels > 0))
        return cls(
            white=(white > 0.9) & series.mask,
            grey=(grey > 0.8) & series.mask,
            open=((white > 0.15) | ((region > 0.1) & (white > 0.05))) & series.mask,
        )


@dataclass
class _Log:
    progress: Progress
    costs: list[StepCost] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.progress(name, _STEPS[name][0])
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.costs.append(
            StepCost(
                name=name,
                seconds=time.perf_counter() - wall,
                cpu_seconds=time.process_time() - cpu,
                peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            )
        )

    def inside(self, name: str) -> Callable[[float], None]:
        begin, end = _STEPS[name]
        return lambda part: self.progress(name, begin + (end - begin) * part)


def _centres(anatomy: Anatomy, parcellation: Parcellation) -> Float[np.ndarray, "region 3"]:
    return region_centres(anatomy.labels, anatomy.affine, len(parcellation.region_labels))


def _methods(series: Diffusion, fibres: Fibres) -> tuple[str, ...]:
    shell = f"{series.gradients.directions} directions at b = {series.gradients.shell:.0f} s/mm²"
    orientation = (
        f"constrained spherical deconvolution of order {fibres.order}" if fibres.order else "the diffusion tensor"
    )
    return (
        "Brain extraction with deepbet, N4 bias correction, tissue by a Gaussian mixture in a Markov random field.",
        "Desikan-Killiany labels warped from MNI by an affine and diffeomorphic demons, kept where the tissue agrees.",
        f"Diffusion ({shell}): {'MPPCA denoising, ' if series.denoised else ''}rigid motion correction with turned "
        "b-vectors, rigid alignment with the T1; no correction of susceptibility or eddy-current distortion.",
        f"Fibre orientations from {orientation}; deterministic streamlines seeded in proportion to fibre density.",
        "Connection weights are sums over streamlines of 100 mm over the length; tract lengths are medians.",
    )


def _refuse_malformed(t1: nib.Nifti1Image) -> None:
    if len(t1.shape) != 3 or min(t1.shape) < 32:
        raise Rejected(
            "t1-malformed",
            rule="the T1 is one three-dimensional volume of at least 32 voxels a side",
            got=f"shape {tuple(t1.shape)}",
            action="send a three-dimensional T1-weighted series",
        )
