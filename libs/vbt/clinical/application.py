"""What every application of the twin is: recordings in, a calibration, scenarios, findings and pictures out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

import nibabel as nib

from vbt.clinical.findings import Check, TwinFindings
from vbt.clinical.second_opinion import SecondOpinion
from vbt.connectome import Connectome, LesionedTracts, RegionalBold
from vbt.electrophysiology import SensorRecording
from vbt.inference import Calibration, Checkpoint
from vbt.simulation import ReplayManifest

Progress = Callable[[str, float], None]
Section = Literal["findings", "fit", "input", "scenarios"]
Kind = Literal["bold", "seeg", "eeg", "meg", "lesions"]


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """What came for a patient besides the connectome; None where it did not come.

    Parameters
    ----------
    labels : region labels, 1 + index in the connectome, 0 elsewhere, in the T1's scanner RAS+ frame; electrode
        positions are in the same frame
    resection : labels of the regions that the clinician thinks of removing; none where no plan came
    """

    bold: RegionalBold | None = None
    seeg: SensorRecording | None = None
    eeg: SensorRecording | None = None
    meg: SensorRecording | None = None
    lesions: LesionedTracts | None = None
    labels: nib.Nifti1Image | None = None
    resection: tuple[str, ...] = ()

    @classmethod
    def of(cls, contents: Mapping[str, bytes]) -> Self:
        """From archives by the names of the fields; what is not there is None."""
        labels = contents.get("labels")
        return cls(
            **{name: read(contents[name]) for name, read in _READERS.items() if name in contents},
            labels=None if labels is None else nib.Nifti1Image.from_bytes(_plain(labels)),
        )


_READERS: Mapping[str, Callable[[bytes], Any]] = {
    "bold": RegionalBold.from_npz,
    "seeg": SensorRecording.from_npz,
    "eeg": SensorRecording.from_npz,
    "meg": SensorRecording.from_npz,
    "lesions": LesionedTracts.from_npz,
    "resection": lambda content: tuple(json.loads(content)),
}


def _plain(content: bytes) -> bytes:
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


class Scenarios(Protocol):
    """Interventions tried on a twin, over posterior draws."""

    @property
    def manifest(self) -> ReplayManifest: ...

    def to_npz(self) -> bytes: ...

    @classmethod
    def from_npz(cls, content: bytes) -> Self: ...


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture by name, and its place in the report."""

    name: str
    png: bytes
    section: Section
    caption: str


C = TypeVar("C", bound=Calibration)
S = TypeVar("S", bound=Scenarios)
C_co = TypeVar("C_co", bound=Calibration, covariant=True)
C_contra = TypeVar("C_contra", bound=Calibration, contravariant=True)
S_co = TypeVar("S_co", bound=Scenarios, covariant=True)


class Calibrate(Protocol[C_co]):
    """Recordings and a connectome become a posterior, sound or not.

    Raises ``Rejected`` where the recordings cannot inform the model, by rule and value.
    """

    def __call__(
        self,
        connectome: Connectome,
        recordings: Recordings,
        /,
        *,
        rng_seed: int,
        progress: Progress,
        checkpoint: Checkpoint | None,
    ) -> C_co: ...


class RunScenarios(Protocol[C_contra, S_co]):
    """A sound posterior is tried under interventions."""

    def __call__(
        self,
        connectome: Connectome,
        recordings: Recordings,
        calibration: C_contra,
        /,
        *,
        rng_seed: int,
        duration: float,
        progress: Progress,
    ) -> S_co: ...


class AskAgain(Protocol[C_contra]):
    """Another engine looks at what the first one was calibrated to: minutes, so only where it is asked for.

    Parameters
    ----------
    simulations : that a network is trained on
    networks : archives of such as were trained before; one that fits is used as it is
    """

    def __call__(
        self,
        connectome: Connectome,
        recordings: Recordings,
        calibration: C_contra,
        /,
        *,
        rng_seed: int,
        simulations: int,
        networks: Iterable[bytes],
        progress: Progress,
        checkpoint: Checkpoint | None,
    ) -> SecondOpinion: ...


@dataclass(frozen=True, kw_only=True)
class Application(Generic[C, S]):
    """One use of the twin.

    Parameters
    ----------
    name : as the protocol of a case names it, e.g. ``"epilepsy"``
    title : what a clinician reads
    needs : one sentence: which recordings it needs
    requires : each of these must be there; of several kinds together one suffices
    credibility : its entry in ``vbt.clinical.credibility``
    calibration, scenarios : the types that ``calibrate`` and ``run_scenarios`` give, with ``from_npz``
    findings : quality of the input, calibration and scenarios (None where there are none) become the report's content
    pictures : drawn from what the other steps left; nothing but the input of an unsound twin
    second_opinion : another engine for the same recording, where there is one
    """

    name: str
    title: str
    needs: str
    credibility: str
    calibration: type[C]
    scenarios: type[S]
    calibrate: Calibrate[C]
    run_scenarios: RunScenarios[C, S]
    findings: Callable[[tuple[Check, ...], C, S | None], TwinFindings]
    pictures: Callable[[Connectome, Recordings, C, S | None, TwinFindings], Iterator[Picture]]
    requires: tuple[tuple[Kind, ...], ...] = ()
    second_opinion: AskAgain[C] | None = None
