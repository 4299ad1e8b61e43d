"""A calibrated linear network lifted to spiking populations whose slow fluctuations obey it.

The linear model says x ∝ (I − gW)⁻¹ ξ at the slow frequencies that fMRI sees. Montbrió-Pazó-Roxin nodes held at one and
the same quiescent fixed point (r*, V*) answer a slow input with gain 1/|d|, d = J − 2π²r* − 2V*²/r*, so the coupling
G = g·|d| gives the network the same static response, and the same functional connectivity at low noise. What the
populations add is what a linear model lacks: saturation, time scales, delays, and an answer to interventions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from vbt.errors import Unsound
from vbt.simulation._bold import BalloonWindkessel
from vbt.simulation._network import Network
from vbt.simulation.neural_masses.montbrio_pazo_roxin import FixedPoint, MontbrioPazoRoxin, fixed_points

_FLOW_SD = 0.05  # of the region that fluctuates most, relative to resting flow
VELOCITY = 6.0  # m/s; a literature value for large-scale tracts, not inferred from the patient


def homotopic_pairs(region_labels: tuple[str, ...]) -> Float[np.ndarray, "region region"]:
    """1 between each ``lh.NAME`` and ``rh.NAME``, 0 elsewhere."""
    index = {label: i for i, label in enumerate(region_labels)}
    pairs = np.zeros((len(region_labels), len(region_labels)))
    for label, i in index.items():
        hemisphere, _, name = label.partition(".")
        other = index.get(f"rh.{name}") if hemisphere == "lh" else None
        if other is not None:
            pairs[i, other] = pairs[other, i] = 1.0
    return pairs


def effective_weights(
    weights: Float[np.ndarray, "region region"],
    region_labels: tuple[str, ...],
    exponent: float,
    homotopic: float,
    *,
    presence: Float[np.ndarray, "region region"] | float = 1.0,
) -> Float[np.ndarray, "region region"]:
    """The symmetric coupling of the linear network, its largest eigenvalue 1.

    The symmetrised weights to the power ``exponent`` times ``presence``, scaled to a mean strength of 1, plus
    ``homotopic`` between corresponding regions of the two hemispheres, divided by the largest eigenvalue.

    Parameters
    ----------
    presence : probability that a connection is real, symmetric; 1 where the connectome is known
    """
    symmetric = 0.5 * (weights + weights.T)
    powered = np.where(symmetric > 0.0, symmetric, 1.0) ** exponent * (symmetric > 0.0) * presence
    np.fill_diagonal(powered, 0.0)
    coupled = powered / powered.sum(axis=1).mean() + homotopic * homotopic_pairs(region_labels)
    return np.asarray(coupled / np.linalg.eigvalsh(coupled)[-1])


def static_covariance(weights: Float[np.ndarray, "region region"], g: float) -> Float[np.ndarray, "region region"]:
    """(I − gW)⁻², the covariance of slow fluctuations up to a factor, for a symmetric W."""
    response = np.linalg.inv(np.eye(len(weights)) - g * weights)
    return response @ response.T


@dataclass(frozen=True, kw_only=True)
class RestingTwin:
    """How a linear network is lifted.

    Parameters
    ----------
    mass : the node in isolation; ``eta`` is the drive it has at the common fixed point, coupling included
    excursion : how far noise drives the rates, as a fraction of the way to where the network would leave the branch
    velocity : m/s
    bold_sd : percent; standard deviation of resting BOLD in the median region, which sets the haemodynamic scale
    """

    mass: MontbrioPazoRoxin = field(default_factory=MontbrioPazoRoxin)
    excursion: float = 0.1
    velocity: float = VELOCITY
    bold_sd: float = 0.5

    @property
    def fixed_point(self) -> FixedPoint:
        """The quiescent state, the lowest of the steady states."""
        return fixed_points(self.mass)[0]

    def lift(
        self,
        weights: Float[np.ndarray, "region region"],
        tract_lengths: Float[np.ndarray, "region region"],
        g: float,
    ) -> Network:
        """The network of populations with the static response of the linear network (W, g), ready to simulate.

        Parameters
        ----------
        weights : W, `effective_weights`
        tract_lengths : mm; needs a length wherever W is not zero, or the connection has no delay
        g : global coupling of the linear network, in (0, 1)
        """
        if not 0.0 < g < 1.0:
            raise ValueError(f"the linear network is stable for g in (0, 1), got {g}")
        point = self.fixed_point
        gain = point.static_gain(self.mass)
        coupling = g / gain
        eta = np.asarray(self.mass.eta) - coupling * point.r * weights.sum(axis=1)
        regions = weights.shape[0]
        sigma = self._sigma(weights, g)
        rate_sd = gain * sigma * np.sqrt(self.mass.milliseconds_per_unit / 1000.0)
        slow_sd = rate_sd * np.sqrt(np.diag(static_covariance(weights, g)))
        flow_energy, bold_energy = _haemodynamic_energies()
        # Held linear and magnified: at realistic amplitudes the busiest region's flow would cross zero.
        efficacy = _FLOW_SD / (slow_sd.max() * np.sqrt(flow_energy))
        magnification = self.bold_sd / (100.0 * efficacy * np.median(slow_sd) * np.sqrt(bold_energy))
        return Network(
            mass=replace(self.mass, eta=eta),
            weights=weights,
            tract_lengths=tract_lengths,
            velocity=self.velocity,
            coupling=coupling,
            sigma=(0.0, sigma),
            balloon=BalloonWindkessel(efficacy=efficacy, magnification=magnification, neural_baseline=point.r),
            initial=np.repeat([[point.r], [point.V]], regions, axis=1),
            instantaneous_below_step=True,
        )

    def _sigma(self, weights: Float[np.ndarray, "region region"], g: float) -> float:
        """Noise on V that moves no rate, in standard deviations, further than ``excursion`` of the room it has.

        A node's gain grows as r³, so a relative rise of (1 − g)/3 in the leading mode takes the loop gain to 1. The
        variance of each mode is that of the linearised pair (r, V), delays left out.
        """
        point, coupling = self.fixed_point, g / self.fixed_point.static_gain(self.mass)
        eigenvalues, modes = np.linalg.eigh(weights)
        a, b = 2.0 * point.V, 2.0 * point.r
        c = float(self.mass.J) - 2.0 * np.pi**2 * point.r + coupling * eigenvalues
        per_mode = -(b**2) / (4.0 * a * (a**2 - b * c))
        largest = np.sqrt((modes**2 @ per_mode).max()) / point.r
        return float(self.excursion * (1.0 - g) / 3.0 / largest)


def at_rest(network: Network) -> Network:
    """The network at its own fixed point, blood flow adapted to it: what is left after surgery has healed.

    Solves −π²r² + Jr + η + I + Δ²/4π²r² + G W r = 0 for all regions by Newton's method from the present rates.
    """
    rates = _rates(network)
    potentials = -float(_mass(network).Delta) / (2.0 * np.pi * rates)
    return replace(
        network,
        initial=np.stack([rates, potentials]),
        balloon=replace(network.balloon, neural_baseline=rates),
    )


def working_point(network: Network) -> float:
    """Largest eigenvalue of the network's loop gain at the state it starts from: 1 is where rest loses stability."""
    if network.initial is None:
        raise ValueError("the network has no state to linearise at; take it at_rest first")
    gains = 1.0 / np.sqrt(-_slopes(network, network.initial[0]))
    return float(np.linalg.eigvalsh(network.coupling * gains[:, None] * network.weights * gains[None, :])[-1])


def _mass(network: Network) -> MontbrioPazoRoxin:
    if not isinstance(network.mass, MontbrioPazoRoxin):
        raise ValueError(
            f"the resting twin is made of Montbrió-Pazó-Roxin populations, got {type(network.mass).__name__}"
        )
    return network.mass


def _slopes(network: Network, rates: np.ndarray) -> np.ndarray:
    """d of every region, the slope of its static input with its rate; negative on the quiescent branch."""
    mass = _mass(network)
    return np.asarray(float(mass.J) - 2.0 * np.pi**2 * rates - float(mass.Delta) ** 2 / (2.0 * np.pi**2 * rates**3))


def _rates(network: Network) -> np.ndarray:
    mass = _mass(network)
    if network.initial is None:
        raise ValueError("the search for rest starts from the network's initial state")
    rates = np.array(network.initial[0], dtype=float)
    coupled = network.coupling * network.weights
    for _ in range(50):
        surplus = (
            mass.eta
            + mass.I
            + float(mass.J) * rates
            - np.pi**2 * rates**2
            + float(mass.Delta) ** 2 / (4.0 * np.pi**2 * rates**2)
            + coupled @ rates
        )
        step = np.linalg.solve(np.diag(_slopes(network, rates)) + coupled, surplus)
        # At most halved at once: the quiescent branch ends at zero rate.
        rates = np.maximum(rates - step, 0.5 * rates)
        if np.abs(step).max() < 1e-13:
            return np.asarray(rates)
    raise Unsound(
        "no-resting-state",
        rule="the network has a resting state",
        got="none within 50 Newton steps",
        action="do not report this scenario",
    )


def _haemodynamic_energies() -> tuple[float, float]:
    """∫ h² dt, in seconds, of the linearised impulse responses of blood flow and of BOLD."""
    b = BalloonWindkessel()
    kappa, gamma, tau, alpha, E0, V0 = (float(x) for x in (b.kappa, b.gamma, b.tau, b.alpha, b.E0, b.V0))
    extraction = 1.0 + (1.0 - E0) * np.log(1.0 - E0) / E0  # d/df of f E(f)/E₀ at f = 1
    A = np.array(
        [
            [-kappa, -gamma, 0.0, 0.0],
            [1.0, 0.0, 0.0, 0.0],
            [0.0, 1.0 / tau, -1.0 / (alpha * tau), 0.0],
            [0.0, extraction / tau, -(1.0 / alpha - 1.0) / tau, -1.0 / tau],
        ]
    )
    output = V0 * np.array([0.0, 0.0, 2.0 - (2.0 * E0 - 0.2), -7.0 * E0 - 2.0])
    # Energies: c P cᵀ with A P + P Aᵀ + b bᵀ = 0, the controllability Gramian.
    eye = np.eye(4)
    source = np.zeros((4, 4))
    source[0, 0] = 1.0
    gramian = np.linalg.solve(np.kron(eye, A) + np.kron(A, eye), -source.ravel()).reshape(4, 4)
    return float(gramian[1, 1]), float(output @ gramian @ output)
