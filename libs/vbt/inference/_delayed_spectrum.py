"""The exact cross-spectrum of damped oscillators that hear one another after a conduction delay.

Linear noise about rest, z_i' = (−a + iω₀) z_i + G Σ_j W_ij (z_j(t − τ_ij) − z_i) + white noise, so with
A(ω) = diag(iω + a − iω₀ + G Σ_j W_ij) − G W∘exp(−iωτ) the spectrum of z is A(ω)⁻¹ A(ω)⁻ᴴ in units of the noise, and
that of the observed Re z is half the sum of it and of the conjugate of its mirror image at −ω. Conjugating A(−ω) only
flips the sign of ω₀: both halves share their delays. For a > 0 and W ≥ 0 every root is stable (the characteristic
matrix is diagonally dominant), whatever the delays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

MEAN_STRENGTH = 0.3


def delayed_spectrum(
    weights: Float[np.ndarray, "region region"],
    tract_lengths: Float[np.ndarray, "region region"],
    *,
    velocity: float,
    coupling: float,
    frequency: float,
    decay: float,
    gamma: float = 0.0,
    lesion_fraction: Float[np.ndarray, "region region"] | None = None,
    frequencies: Float[np.ndarray, " frequency"],
) -> Complex[np.ndarray, "frequency region region"]:
    """Cross-spectral density of the real part of a delayed, noise-driven Stuart-Landau network below its bifurcation.

    Closed form, no simulation. Delays are τ_ij = L_ij / v · (1 + γ ℓ_ij).

    Parameters
    ----------
    weights : ``weights[target, source]`` ≥ 0, used as they are; a calibration's coupling belongs to
        `strength_scaled` weights. Weights that a condition lowers are scaled by the connectome before it.
    tract_lengths : mm
    velocity : m/s
    coupling : G, 1/s
    frequency : ω₀/2π, Hz, of an uncoupled region
    decay : a > 0, 1/s
    gamma : lengthening of the delay of a tract all of whose streamlines cross a lesion
    lesion_fraction : ℓ in 0 to 1, the fraction of a tract's streamlines that cross a lesion
    frequencies : Hz

    Returns
    -------
    two-sided density per Hz for noise of unit σ on the real and on the imaginary part; S_ij belongs to x_i x_j*

    References
    ----------
    Model: Sorrentino et al. (2024), 10.1016/j.isci.2024.110101; lesions: Mazzara et al. (2024).
    """
    network = DelayedNetwork.of(weights, tract_lengths, lesion_fraction)
    point = Point(velocity=velocity, coupling=coupling, frequency=frequency, decay=decay, gamma=gamma)
    if not (velocity > 0 and coupling >= 0 and decay > 0):
        raise ValueError("velocity and decay must be positive, coupling must not be negative")
    return network.responses(point, np.asarray(frequencies, dtype=float)).spectra()


def strength_scaled(weights: Float[np.ndarray, "region region"]) -> Float[np.ndarray, "region region"]:
    """Weights without self-connections whose mean in-strength is 0.3: what the coupling of a calibration multiplies."""
    hollow = np.array(weights, dtype=float)
    np.fill_diagonal(hollow, 0.0)
    return np.asarray(hollow * (MEAN_STRENGTH / hollow.sum(axis=1).mean()))


@dataclass(frozen=True, kw_only=True)
class Point:
    """One set of the network's parameters in the units of `delayed_spectrum`."""

    velocity: float
    coupling: float
    frequency: float
    decay: float
    gamma: float = 0.0


@dataclass(frozen=True)
class DelayedNetwork:
    """A connectome, its lesions, and how its regions are seen by sensors (``gain`` None: region by region)."""

    weights: Float[np.ndarray, "region region"]
    tract_lengths: Float[np.ndarray, "region region"]
    lesion_fraction: Float[np.ndarray, "region region"]
    gain: Float[np.ndarray, "channel region"] | None = None

    @classmethod
    def of(
        cls,
        weights: np.ndarray,
        tract_lengths: np.ndarray,
        lesion_fraction: np.ndarray | None,
        gain: np.ndarray | None = None,
    ) -> DelayedNetwork:
        """Arrays of one shape, checked."""
        regions = len(weights)
        lesions = np.zeros((regions, regions)) if lesion_fraction is None else np.asarray(lesion_fraction, dtype=float)
        for name, matrix in (("weights", weights), ("tract_lengths", tract_lengths), ("lesion_fraction", lesions)):
            if matrix.shape != (regions, regions):
                raise ValueError(f"{name} must have shape {(regions, regions)}, got {matrix.shape}")
        if gain is not None and (gain.ndim != 2 or gain.shape[1] != regions):
            raise ValueError(f"gain must have one column for each of {regions} regions, got shape {gain.shape}")
        return cls(np.asarray(weights, dtype=float), np.asarray(tract_lengths, dtype=float), lesions, gain)

    def responses(self, point: Point, frequencies: Float[np.ndarray, " frequency"]) -> Responses:
        """Transfer functions from noise to channels."""
        omega = 2.0 * np.pi * frequencies[:, None, None]
        delays = 1e-3 * self.tract_lengths / point.velocity * (1.0 + point.gamma * self.lesion_fraction)
        delayed = self.weights * np.exp(-1j * omega * delays)
        local = 1j * omega[:, :, 0] + point.decay + point.coupling * self.weights.sum(axis=1)
        matrix = -point.coupling * delayed
        diagonal = np.arange(len(self.weights))
        matrix[:, diagonal, diagonal] += local
        halves = []
        for sign in (-1.0, 1.0):
            shifted = matrix.copy()
            shifted[:, diagonal, diagonal] += sign * 2j * np.pi * point.frequency
            response = np.linalg.inv(shifted)
            seen = response if self.gain is None else self.gain @ response
            halves.append(_Half(sign, response, seen, response @ seen.conj().swapaxes(1, 2)))
        return Responses(self, point, omega, delayed, (halves[0], halves[1]))


@dataclass(frozen=True)
class _Half:
    """ω (sign −1) or the conjugate of its mirror image (sign +1): H, gain H and H (gain H)ᴴ."""

    sign: float
    response: Complex[np.ndarray, "frequency region region"]
    seen: Complex[np.ndarray, "frequency channel region"]
    crossed: Complex[np.ndarray, "frequency region channel"]


@dataclass(frozen=True)
class Responses:
    """Both halves of the response at one point, enough for the spectrum and for its derivatives."""

    network: DelayedNetwork
    point: Point
    omega: Float[np.ndarray, "frequency 1 1"]
    delayed: Complex[np.ndarray, "frequency region region"]
    halves: tuple[_Half, _Half]

    def spectra(self) -> Complex[np.ndarray, "frequency channel channel"]:
        """The channels' cross-spectral density, as in `delayed_spectrum`."""
        total = self.halves[0].crossed + self.halves[1].crossed
        density = 0.5 * (total if self.network.gain is None else self.network.gain @ total)
        return np.asarray(0.5 * (density + density.conj().swapaxes(1, 2)))

    def pulled_back(self, cotangent: Complex[np.ndarray, "frequency channel channel"]) -> dict[str, float]:
        """Derivatives of f(S) by log velocity, log coupling, frequency, log decay and gamma, given df = tr(Γ dS).

        With S the sum of ½ Y Yᴴ, Y = gain A⁻¹, the derivative by θ is −Re tr(A⁻¹ Yᴴ Γ Y dA/dθ) over both halves.
        """
        network, point = self.network, self.point
        adjoints = [half.crossed @ (cotangent @ half.seen) for half in self.halves]
        both = (adjoints[0] + adjoints[1]).swapaxes(1, 2)
        trace = np.trace(both, axis1=1, axis2=2).sum()
        by_frequency = sum(
            half.sign * np.trace(adjoint, axis1=1, axis2=2).sum()
            for half, adjoint in zip(self.halves, adjoints, strict=True)
        )
        through_delay = both * self.delayed
        strengths = network.weights.sum(axis=1)
        by_coupling = (np.diagonal(both, axis1=1, axis2=2) * strengths).sum() - through_delay.sum()
        slowed = np.einsum("f,fij->ij", 1j * self.omega[:, 0, 0], through_delay)
        plain = 1e-3 * network.tract_lengths / point.velocity
        delays = plain * (1.0 + point.gamma * network.lesion_fraction)
        return {
            "velocity": float((point.coupling * delays * slowed).sum().real),
            "coupling": -point.coupling * float(by_coupling.real),
            "frequency": -float((2j * np.pi * by_frequency).real),
            "decay": -point.decay * float(trace.real),
            "gamma": -float((point.coupling * plain * network.lesion_fraction * slowed).sum().real),
        }
