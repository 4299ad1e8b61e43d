"""How EEG and MEG sensors see the regions of one patient: a spherical head, the atlas's cortex moved to the patient.

Sensors are few directions wide: the spectra are taken of the projections on the lead field's strongest left singular
vectors, which keep white sensor noise white, leave the average reference out, and leave out the directions that an
error of the lead field would fill.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import mne
import numpy as np
from jaxtyping import Float, Int

from vbt.connectome import Connectome, desikan_killiany
from vbt.electrophysiology import SensorRecording
from vbt.errors import Rejected
from vbt.simulation import SourceSpace, desikan_killiany_sources, lead_field, standard_eeg

FEWEST_CHANNELS = 8
MOST_COMPONENTS = 32
_WEAKEST = 0.1  # of the largest singular value: an error of the gain by 4 % drowns what a weaker direction holds
_LEAST_DEPTH = 2.0  # mm below the inner skull, which a sphere does not follow
_HEAD_RADII = (65.0, 130.0)  # mm, from an infant's to beyond an adult's
_FARTHEST_CENTRE = 40.0  # mm between the sphere's centre and the brain's
_BEYOND_BRAIN = 15.0  # mm: no magnetometer is nearer to the outermost cortex's mean distance


@dataclass(frozen=True, kw_only=True)
class SensorView:
    """A recording as its lead field's directions see it.

    Parameters
    ----------
    signals : projections of the channels, in the recording's unit
    gain : what one unit of a region's activity does to each projection, scaled to a mean square of 1
    basis : the projections' directions over the channels used
    channels : indices in the recording of the channels used
    located : ``"measured"`` positions in the T1's frame, or a ``"standard"`` montage on the template's head
    """

    signals: Float[np.ndarray, "time component"]
    gain: Float[np.ndarray, "component region"]
    basis: Float[np.ndarray, "channel component"]
    channels: Int[np.ndarray, " channel"]
    located: Literal["measured", "standard"]


def sensor_view(
    recording: SensorRecording, connectome: Connectome, unmodelled: Int[np.ndarray, " region"] | None = None
) -> SensorView:
    """Project a recording on what its sensors can see of the connectome's regions.

    Parameters
    ----------
    unmodelled : regions of whose activity nothing is known; the directions in which they send are left out

    Raises
    ------
    Rejected
        ``too-few-channels`` where fewer than 8 channels have a place; ``sensors-not-around-head``;
        ``parcellation-without-cortex`` for MEG of a parcellation whose cortical sheet is not known
    """
    good = np.setdiff1d(np.arange(len(recording.channel_labels)), recording.bad_channels).astype(np.int64)
    measured = good[np.isfinite(recording.positions[good]).all(axis=1)]
    located: Literal["measured", "standard"] = "measured"
    if recording.kind == "meg":
        channels = _enough(measured)
        gain = _radial_magnetometers(recording.positions[channels], _sources(connectome, "meg"))
    elif recording.kind == "eeg" and len(measured) >= FEWEST_CHANNELS:
        channels = measured
        gain = _electrodes(recording.positions[channels], _sources(connectome, "eeg"))
    elif recording.kind == "eeg":
        located = "standard"
        names = _standard_names(recording.channel_labels)
        channels = _enough(np.array(sorted({names[c]: c for c in good[::-1] if names[c]}.values()), dtype=np.int64))
        gain = _standard_electrodes([names[c] for c in channels], connectome)
    else:
        raise ValueError("conduction is inferred from EEG or MEG")
    if unmodelled is not None and len(unmodelled):
        theirs = np.linalg.qr(gain[:, unmodelled])[0]
        gain = gain - theirs @ (theirs.T @ gain)
    vectors, sizes, _ = np.linalg.svd(gain, full_matrices=False)
    basis = vectors[:, : min(MOST_COMPONENTS, int((sizes > _WEAKEST * sizes[0]).sum()))]
    seen = basis.T @ gain
    return SensorView(
        signals=recording.signals[:, channels] @ basis,
        gain=seen / np.sqrt((seen**2).mean()),
        basis=basis,
        channels=channels,
        located=located,
    )


def _sources(connectome: Connectome, kind: str) -> SourceSpace:
    """The atlas's folded cortex brought to the patient by the affine that best moves its centres onto the patient's."""
    atlas = desikan_killiany()
    if connectome.region_labels != atlas.region_labels:
        if kind == "meg":
            raise Rejected(
                "parcellation-without-cortex",
                rule="MEG needs the direction of the cortex, which is known for the Desikan-Killiany atlas",
                got=f"{len(connectome.region_labels)} regions of another parcellation",
                action="build the connectome from the patient's images, or send EEG",
            )
        outward = connectome.centres - connectome.centres.mean(axis=0)
        return SourceSpace.of_regions(connectome.centres, outward, connectome.region_labels)
    cortex = desikan_killiany_sources(atlas)
    known = np.isfinite(connectome.centres).all(axis=1)
    homogeneous = np.column_stack([atlas.centres[known], np.ones(known.sum())])
    move = np.linalg.lstsq(homogeneous, connectome.centres[known], rcond=None)[0]
    return SourceSpace(
        positions=cortex.positions @ move[:3] + move[3],
        orientations=cortex.orientations @ np.linalg.inv(move[:3]).T,  # normals turn with the inverse transpose
        areas=cortex.areas,
        regions=cortex.regions,
        region_labels=cortex.region_labels,
    )


def _electrodes(positions: Float[np.ndarray, "channel 3"], sources: SourceSpace) -> Float[np.ndarray, "channel region"]:
    """Average-referenced EEG in the sphere through the electrodes."""
    centre, radius = _sphere(positions)
    _refuse_misplaced(centre, radius, sources)
    names = [str(i) for i in range(len(positions))]
    info = mne.create_info(names, sfreq=1000.0, ch_types="eeg", verbose="ERROR")
    placed = {name: place / 1000.0 for name, place in zip(names, positions - centre, strict=True)}
    info.set_montage(mne.channels.make_dig_montage(placed, coord_frame="head"), verbose="ERROR")
    head = mne.make_sphere_model((0.0, 0.0, 0.0), radius / 1000.0, verbose="ERROR")
    there = SourceSpace(
        positions=sources.positions - centre,
        orientations=sources.orientations,
        areas=sources.areas,
        regions=sources.regions,
        region_labels=sources.region_labels,
    )
    return lead_field(info, there, head, kind="eeg", least_depth=_LEAST_DEPTH).gain


def _standard_electrodes(names: list[str], connectome: Connectome) -> Float[np.ndarray, "channel region"]:
    atlas = desikan_killiany()
    if connectome.region_labels != atlas.region_labels:
        raise Rejected(
            "sensors-not-around-head",
            rule="electrodes of a standard montage lie on the template's head, whose regions are Desikan-Killiany",
            got=f"{len(connectome.region_labels)} regions of another parcellation",
            action="send the electrodes' positions",
        )
    info, to_head = standard_eeg("colin27_1005")
    head = mne.make_sphere_model("auto", "auto", info, verbose="ERROR")
    picked = mne.pick_info(info, [info["ch_names"].index(name) for name in names], verbose="ERROR")
    field = lead_field(
        picked, desikan_killiany_sources(atlas), head, kind="eeg", mri_to_head=to_head, least_depth=_LEAST_DEPTH
    )
    return field.gain


def _radial_magnetometers(
    positions: Float[np.ndarray, "channel 3"], sources: SourceSpace
) -> Float[np.ndarray, "channel region"]:
    """fT per nA·m/mm² of magnetometers that look at the head's centre.

    In a sphere no volume current has a radial field, so it is that of the dipole alone: μ₀/4π (q × d) · r̂ / |d|³, d
    from the dipole to the sensor. The coils of a helmet look at the centre to within some degrees; a recording holds
    their places, not their directions.

    References
    ----------
    Sarvas (1987), Phys. Med. Biol. 32, 11.
    """
    centre, radius = _sphere(sources.positions)
    out = positions - centre
    distance = np.linalg.norm(out, axis=1, keepdims=True)
    if float(np.median(distance)) < radius + _BEYOND_BRAIN:
        raise _misplaced(f"sensors {float(np.median(distance)):.0f} mm from the centre of a brain of {radius:.0f} mm")
    gain = np.empty((len(positions), len(sources.positions)))
    for row, (place, towards) in enumerate(zip(positions, out / distance, strict=True)):
        away = place - sources.positions
        field = np.cross(sources.normals, away) @ towards
        gain[row] = 1e5 * field / np.linalg.norm(away, axis=1) ** 3  # 10⁻⁷ · 10⁻⁹ A·m / (10⁻³ m)² in 10⁻¹⁵ T
    return sources.summed(gain)


def _sphere(points: Float[np.ndarray, "point 3"]) -> tuple[Float[np.ndarray, " 3"], float]:
    """Centre and radius of the sphere that lies best through the points: |p|² = 2 p·c + (r² − |c|²)."""
    middle = points.mean(axis=0)
    near = points - middle
    system = np.column_stack([2.0 * near, np.ones(len(near))])
    solution = np.linalg.lstsq(system, (near**2).sum(axis=1), rcond=None)[0]
    return solution[:3] + middle, float(np.sqrt(max(solution[3] + solution[:3] @ solution[:3], 0.0)))


def _refuse_misplaced(centre: Float[np.ndarray, " 3"], radius: float, sources: SourceSpace) -> None:
    low, high = _HEAD_RADII
    if not low <= radius <= high:
        raise _misplaced(f"electrodes on a sphere of {radius:.0f} mm, limits {low:.0f} to {high:.0f} mm")
    away = float(np.linalg.norm(centre - sources.positions.mean(axis=0)))
    if away > _FARTHEST_CENTRE:
        raise _misplaced(f"their sphere's centre {away:.0f} mm from the brain's, limit {_FARTHEST_CENTRE:.0f} mm")


def _misplaced(got: str) -> Rejected:
    return Rejected(
        "sensors-not-around-head",
        rule="sensors lie around the head of the T1, in its scanner's coordinates",
        got=got,
        action="bring the positions into the frame of the T1",
    )


def _enough(channels: Int[np.ndarray, " channel"]) -> Int[np.ndarray, " channel"]:
    if len(channels) < FEWEST_CHANNELS:
        raise Rejected(
            "too-few-channels",
            rule=f"at least {FEWEST_CHANNELS} good channels have a position, or a name of the 10-5 system",
            got=f"{len(channels)}",
            action="send the positions of the sensors, or a recording of more channels",
        )
    return channels


def _standard_names(labels: tuple[str, ...]) -> list[str]:
    """Each channel's name in the 10-5 system, empty where it is none."""
    known = {name.upper(): name for name in mne.channels.make_standard_montage("colin27_1005").ch_names}
    bare = [re.sub(r"^EEG[ _-]*|[ _-]*(REF|LE|AVG|AVE)$", "", label.strip().upper()) for label in labels]
    return [known.get(name, "") for name in bare]
