"""Whether a recording can inform a twin: refused by rule and value, or flagged channel by channel."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import ConvexHull

from vbt.electrophysiology._envelope import require_rate
from vbt.electrophysiology._reading import standard_names
from vbt.electrophysiology._recording import Kind, SensorRecording
from vbt.errors import Rejected

_BANDS: dict[Kind, tuple[float, float]] = {"seeg": (10.0, 110.0), "eeg": (1.0, 45.0), "meg": (1.0, 45.0)}
_SHORTEST: dict[Kind, float] = {"seeg": 30.0, "eeg": 60.0, "meg": 60.0}
_FEWEST: dict[Kind, int] = {"seeg": 8, "eeg": 16, "meg": 16}
_AMPLITUDES: dict[Kind, tuple[float, float]] = {"seeg": (1e-7, 2e-2), "eeg": (1e-7, 2e-3), "meg": (1e-15, 1e-9)}
_STILL = 0.25  # s without any change
_STILL_SHARE = 0.1
_CLIPPED_SHARE = 1e-3
_OUTSIDE = 3.0  # mm: half the spacing of contacts, and about what localising them errs by


@dataclass(frozen=True, kw_only=True)
class ChannelCheck:
    """One quality check with the channels that fail it.

    Parameters
    ----------
    value : how many channels fail
    channels : their names
    """

    code: str
    label: str
    value: float
    limit: str
    passed: bool
    channels: tuple[str, ...]


def require_usable(
    recording: SensorRecording,
    *,
    band: tuple[float, float] | None = None,
    shortest: float | None = None,
    fewest_channels: int | None = None,
    labels: nib.Nifti1Image | None = None,
) -> tuple[ChannelCheck, ...]:
    """Every check with the channels that fail it; `without` leaves those channels out.

    Parameters
    ----------
    band : Hz that the sampling rate must reach; 10 to 110 for SEEG, 1 to 45 for EEG and MEG
    shortest : s; 30 for SEEG, 60 for EEG and MEG
    fewest_channels : that pass every check; 8 for SEEG, 16 for EEG and MEG
    labels : region labels, 0 elsewhere, in the frame of the positions: SEEG contacts must lie within their convex hull

    Raises
    ------
    Rejected
        ``recording-too-short``, ``sampling-rate-too-low``, ``electrodes-outside-brain`` where half of the contacts or
        more are, and where too few channels are left the failure that took most: ``flat-channels``,
        ``clipped-channels``, ``channels-not-finite``, ``channels-marked-bad``, ``amplitudes-implausible``,
        ``channels-without-position``, or else ``too-few-channels``.
    """
    kind = recording.kind
    require_rate(recording.sampling_rate, (band or _BANDS[kind])[1])
    _require_duration(recording, _SHORTEST[kind] if shortest is None else shortest)
    checks = _checks(recording, labels)
    _require_channels(recording, checks, _FEWEST[kind] if fewest_channels is None else fewest_channels)
    return checks


def without(recording: SensorRecording, checks: tuple[ChannelCheck, ...]) -> SensorRecording:
    """The recording with its failing channels left out."""
    failing = {channel for check in checks for channel in check.channels}
    kept = [index for index, label in enumerate(recording.channel_labels) if label not in failing]
    return dataclasses.replace(
        recording,
        signals=recording.signals[:, kept],
        channel_labels=tuple(recording.channel_labels[index] for index in kept),
        positions=recording.positions[kept],
        bad_channels=tuple(new for new, old in enumerate(kept) if old in recording.bad_channels),
        left_out=recording.left_out + len(recording.channel_labels) - len(kept),
    )


def _require_duration(recording: SensorRecording, shortest: float) -> None:
    duration = len(recording.signals) / recording.sampling_rate
    if duration < shortest:
        raise Rejected(
            "recording-too-short",
            rule=f"a recording of {recording.kind.upper()} lasts {shortest:g} s or more",
            got=f"{duration:.3g} s",
            action="attach a longer piece",
        )


def _checks(recording: SensorRecording, labels: nib.Nifti1Image | None) -> tuple[ChannelCheck, ...]:
    finite = np.isfinite(recording.signals).all(axis=0)
    signals = np.where(finite, recording.signals, 0.0)
    flat = finite & _flat(signals, recording.sampling_rate)
    clipped = finite & ~flat & _clipped(signals)
    low, high = _AMPLITUDES[recording.kind]
    spread = signals.std(axis=0)
    marked = np.isin(np.arange(len(finite)), recording.bad_channels)
    found = [
        ("channels-not-finite", "Channels with values that are no numbers", ~finite),
        ("channels-marked-bad", "Channels that the recording marks as bad", marked),
        ("flat-channels", "Channels that do not change", flat),
        ("clipped-channels", "Channels at the end of their range", clipped),
        (
            "amplitudes-implausible",
            "Channels of implausible amplitude",
            finite & ~flat & ((spread < low) | (spread > high)),
        ),
        ("channels-without-position", "Channels whose place is not known", _unplaced(recording)),
    ]
    if labels is not None and recording.kind == "seeg":
        outside = beyond(recording.positions, labels) > _OUTSIDE
        found.append(("electrodes-outside-brain", "Contacts outside the brain", outside))
    return tuple(_check(recording, code, label, failing) for code, label, failing in found)


def _check(recording: SensorRecording, code: str, label: str, failing: Bool[np.ndarray, " channel"]) -> ChannelCheck:
    names = tuple(name for name, fails in zip(recording.channel_labels, failing, strict=True) if fails)
    return ChannelCheck(code=code, label=label, value=float(len(names)), limit="≤ 0", passed=not names, channels=names)


def _require_channels(recording: SensorRecording, checks: tuple[ChannelCheck, ...], fewest: int) -> None:
    total = len(recording.channel_labels)
    failing = {channel for check in checks for channel in check.channels}
    outside = next((check for check in checks if check.code == "electrodes-outside-brain"), None)
    if outside is not None and 2 * len(outside.channels) >= total:
        worst = outside
    elif total - len(failing) >= fewest:
        return
    else:
        worst = max(checks, key=lambda check: len(check.channels))
    listed = "; ".join(f"{check.code}: {', '.join(check.channels[:12])}" for check in checks if check.channels)
    raise Rejected(
        worst.code if total >= fewest and worst.channels else "too-few-channels",
        rule=f"{fewest} channels or more are usable, and less than half of all contacts lie outside the brain",
        got=f"{total - len(failing)} usable of {total}" + (f" ({listed})" if listed else ""),
        action="check the recording and its electrodes, and attach it again",
    )


def _flat(signals: Float[np.ndarray, "time channel"], rate: float) -> Bool[np.ndarray, " channel"]:
    length = max(2, round(_STILL * rate))
    pieces = signals[: len(signals) // length * length].reshape(-1, length, signals.shape[1])
    return np.asarray((np.ptp(pieces, axis=1) == 0.0).mean(axis=0) > _STILL_SHARE)


def _clipped(signals: Float[np.ndarray, "time channel"]) -> Bool[np.ndarray, " channel"]:
    """A range's end is met again in the next sample, which an extreme of a free signal is not."""
    share = np.zeros(signals.shape[1])
    for end in (signals.min(axis=0), signals.max(axis=0)):
        there = signals == end
        share += (there[1:] & there[:-1]).mean(axis=0)
    return np.asarray(share > _CLIPPED_SHARE)


def _unplaced(recording: SensorRecording) -> Bool[np.ndarray, " channel"]:
    unknown = ~np.isfinite(recording.positions).all(axis=1)
    if recording.kind == "meg":
        return np.zeros_like(unknown)
    named = [recording.kind == "eeg" and label in standard_names() for label in recording.channel_labels]
    return np.asarray(unknown & ~np.array(named))


def beyond(positions: Float[np.ndarray, "channel 3"], labels: nib.Nifti1Image) -> Float[np.ndarray, " channel"]:
    """mm from the convex hull of all labelled voxels, negative inside; 0 for positions that are not known."""
    voxels = np.argwhere(np.asanyarray(labels.dataobj) > 0)
    hull = ConvexHull(voxels @ labels.affine[:3, :3].T + labels.affine[:3, 3])
    distances = (np.nan_to_num(positions) @ hull.equations[:, :3].T + hull.equations[:, 3]).max(axis=1)
    return np.where(np.isfinite(positions).all(axis=1), distances, 0.0)
