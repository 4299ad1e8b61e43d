"""The resting-state twin's second opinion: populations simulated on the patient's connectome, amortised by flows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from jaxtyping import Float

from vbt.connectome import Connectome
from vbt.errors import Rejected
from vbt.inference._amortised import FLOWS, AmortisedPosterior, train
from vbt.inference._amortised_features import Summaries
from vbt.inference._amortised_simulations import (
    AMORTISED_PRIORS,
    PARAMETERS,
    STEP_MS,
    TRANSIENT,
    PopulationModel,
    of_deviate,
    population_model,
)
from vbt.inference._calibration import Calibration
from vbt.inference._checkpoint import Checkpoint, load_arrays, save_arrays
from vbt.inference._gate import SHRINKAGE_LIMIT, Novelty, PredictiveCheck, diagnose, gate, warnings_of
from vbt.inference._resting_state import used_regions
from vbt.simulation import digest, one_blas_thread, record

SIMULATIONS = 2400
LONGEST, SHORTEST = 300.0, 180.0  # s of a recording that are looked at
SLOWEST = 4.0  # s between samples
DRAWS = 500  # from each flow
_AT_ONCE = 48
_REPLICATES = 48
_CHECKED = ("fc-all", "fc-spread", "fc-homotopic", "fcd-mean")

Progress = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class AmortisedCalibration(Calibration):
    """Posterior of the populations' network from flows trained on simulations of this patient's connectome.

    Parameters
    ----------
    novelty : where the recording lies among the training simulations
    network : SHA-256 of the trained network, an artifact of its own
    card : the network's model card, JSON
    seconds : s of the recording that were looked at
    """

    novelty: Novelty
    network: str
    card: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class AmortisedTwin:
    """A network trained for one connectome and one way of recording; any such recording is calibrated at once."""

    model: PopulationModel
    used: tuple[int, ...]
    posterior: AmortisedPosterior

    @one_blas_thread
    def calibrate(
        self, bold: Float[np.ndarray, "time region"], *, rng_seed: int, predict: bool = True
    ) -> AmortisedCalibration:
        """Posterior and verdict for a recording with one column per region of the connectome.

        Parameters
        ----------
        predict : simulate recordings from the posterior and compare them with this one, some seconds
        """
        seen = _window(bold, self.model)[:, list(self.used)]
        summaries = Summaries(self.model)
        features = summaries(seen)
        deviates = self.posterior.draw(features, DRAWS, rng_seed=rng_seed)
        novelty = self.posterior.novelty(features, deviates)
        # Each chain is a sample of the whole mixture; how far its members are apart is the novelty's to say.
        mixed = np.random.default_rng(rng_seed).permutation(deviates.reshape(-1, len(PARAMETERS)))
        mixed = mixed.reshape(deviates.shape)
        draws = {name: of_deviate(name, mixed[..., k]) for k, name in enumerate(PARAMETERS)}
        parameters = tuple(
            diagnose(name, draws[name], mixed[..., k], nuisance=name != "g") for k, name in enumerate(PARAMETERS)
        )
        checks = _predicted(self.model, summaries, features, mixed, rng_seed) if predict else ()
        reasons = gate(parameters, None, novelty=novelty, checks=checks)
        if not parameters[0].identifiable:
            shrinkage = f"shrinkage {parameters[0].shrinkage:.2f}, limit {SHRINKAGE_LIMIT:.2f}"
            reasons = (*reasons, f"g is not identifiable from this recording: {shrinkage}")
        return AmortisedCalibration(
            region_labels=self.model.region_labels,
            used_regions=np.array(self.used),
            draws=draws,
            priors=AMORTISED_PRIORS,
            parameters=parameters,
            sampler=None,
            verdict="unsound" if reasons else "sound",
            reasons=reasons,
            warnings=warnings_of(None, checks),
            checks=checks,
            manifest=record(
                "vbt.inference.calibrate_amortised",
                inputs={"weights": self.model.weights, "bold": bold},
                outputs={"draws": np.stack(list(draws.values()))},
                parameters={"network": self.posterior.digest, "sampler": "neural posterior estimation, flowjax"},
                seeds=(rng_seed,),
                dt=STEP_MS,
                precision="single",
                batch_shape=deviates.shape[:1],
            ),
            novelty=novelty,
            network=self.posterior.digest,
            card=json.dumps(self.posterior.card, sort_keys=True),
            seconds=self.model.samples * self.model.repetition_time,
        )


def _card(model: PopulationModel, summaries: Summaries, *, simulations: int) -> dict[str, Any]:
    """What a network for this model is trained on."""
    return {
        "context_of_use": "second opinion on the working point of one patient's resting twin; research use only",
        "simulator": "Montbrió-Pazó-Roxin populations lifted from the linear network, Balloon-Windkessel BOLD",
        "simulations": simulations,
        "recording": {
            "samples": model.samples,
            "repetition_time": model.repetition_time,
            "transient": TRANSIENT,
            "dt_ms": STEP_MS,
        },
        "priors": {name: list(prior) for name, prior in AMORTISED_PRIORS.items()},
        "measuring": "shared signal u, mixing between neighbours m and noise n, with the linear network's priors",
        "regions": list(model.region_labels),
        "connectome": {
            name: digest(getattr(model, name)) for name in ("weights", "tract_lengths", "nearness", "between")
        },
        "features": list(summaries.names),
        "library": f"flowjax {version('flowjax')}: masked autoregressive flows of rational quadratic splines",
    }


@one_blas_thread
def train_amortised(
    connectome: Connectome,
    used: np.ndarray,
    *,
    samples: int,
    repetition_time: float,
    rng_seed: int,
    simulations: int = SIMULATIONS,
    flows: int = FLOWS,
    trained: Iterable[AmortisedPosterior] = (),
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> AmortisedTwin:
    """Simulate recordings over the prior on this connectome and train the flows on them: minutes.

    The model card says what a network is a function of. Where one is given whose card says the same, it is that one.

    Parameters
    ----------
    used : indices of the regions that have a signal and a connection
    samples, repetition_time : of the recordings it is for; time in whole ms
    trained : networks of before
    checkpoint : simulations are kept in batches, flows one by one; training again with the same arguments goes on
    """
    tell = progress or (lambda _message, _fraction: None)
    model = population_model(connectome, used, samples=samples, repetition_time=repetition_time)
    summaries = Summaries(model)
    chosen = tuple(int(i) for i in used)
    card = _card(model, summaries, simulations=simulations)
    for posterior in trained:
        if posterior.trained_as({**card, "flows": flows, "rng_seed": rng_seed}):
            tell("trained before", 1.0)
            return AmortisedTwin(model=model, used=chosen, posterior=posterior)
    deviates = np.random.default_rng([rng_seed, 0]).normal(size=(simulations, len(PARAMETERS)))
    features = []
    for first in range(0, simulations, _AT_ONCE):
        name = f"simulations-{first}"
        saved = load_arrays(checkpoint, name)
        if saved is None:
            bold = model.simulate(deviates[first : first + _AT_ONCE], rng_seed=rng_seed + 1 + first)
            saved = {"features": np.stack([summaries(recording) for recording in bold])}
            save_arrays(checkpoint, name, saved)
        features.append(saved["features"])
        done = min(first + _AT_ONCE, simulations)
        tell(f"simulating, {done} of {simulations}", 0.75 * done / simulations)
    posterior = train(
        deviates,
        np.concatenate(features),
        parameter_names=PARAMETERS,
        feature_names=summaries.names,
        card=card,
        rng_seed=rng_seed,
        flows=flows,
        progress=lambda message, fraction: tell(message, 0.75 + 0.25 * fraction),
        checkpoint=checkpoint,
    )
    return AmortisedTwin(model=model, used=chosen, posterior=posterior)


def calibrate_amortised(
    connectome: Connectome,
    bold: Float[np.ndarray, "time region"],
    repetition_time: float,
    *,
    rng_seed: int,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    simulations: int = SIMULATIONS,
    trained: Iterable[AmortisedPosterior] = (),
) -> tuple[AmortisedCalibration, AmortisedPosterior]:
    """Train for this patient's connectome and recording, then calibrate: the posterior, and the network it came from.

    Parameters
    ----------
    trained : networks of before, of which one may fit

    Raises
    ------
    Rejected
        where the recording is too short or sampled too slowly for the features, by rule and value.
    """
    samples = samples_used(len(bold), repetition_time)
    rounded = round(repetition_time * 1000.0) / 1000.0
    twin = train_amortised(
        connectome,
        np.flatnonzero(used_regions(connectome, bold)),
        samples=samples,
        repetition_time=rounded,
        rng_seed=rng_seed,
        simulations=simulations,
        trained=trained,
        progress=progress,
        checkpoint=checkpoint,
    )
    return twin.calibrate(bold, rng_seed=rng_seed), twin.posterior


def samples_used(samples: int, repetition_time: float) -> int:
    """How many samples of a recording are looked at, from its beginning.

    Raises
    ------
    Rejected : ``bold-sampled-too-slowly``, ``bold-too-short``
    """
    if not 0.0 < repetition_time <= SLOWEST:
        raise Rejected(
            "bold-sampled-too-slowly",
            rule=f"connectivity over 60 s windows needs a BOLD sample at least every {SLOWEST:g} s",
            got=f"a repetition time of {repetition_time:g} s",
            action="send a functional series with a shorter repetition time",
        )
    if samples * repetition_time < SHORTEST:
        raise Rejected(
            "bold-too-short",
            rule=f"the dynamics of connectivity need {SHORTEST:g} s of BOLD",
            got=f"{samples * repetition_time:.0f} s",
            action="send a longer functional series",
        )
    return min(samples, int(LONGEST / repetition_time))


def _window(bold: np.ndarray, model: PopulationModel) -> np.ndarray:
    if len(bold) < model.samples:
        raise ValueError(f"the network is for recordings of {model.samples} samples, got {len(bold)}")
    return bold[: model.samples]


def _predicted(
    model: PopulationModel, summaries: Summaries, features: np.ndarray, mixed: np.ndarray, rng_seed: int
) -> tuple[PredictiveCheck, ...]:
    rows = mixed.reshape(-1, mixed.shape[-1])[:_REPLICATES]
    replicated = np.stack([summaries(bold) for bold in model.simulate(rows, rng_seed=rng_seed + 1)])
    columns = {name: summaries.names.index(name) for name in _CHECKED if name in summaries.names}
    return tuple(
        PredictiveCheck(
            name=name,
            observed=float(features[k]),
            replicated=float(np.median(replicated[:, k])),
            p_value=float((replicated[:, k] > features[k]).mean()),
        )
        for name, k in columns.items()
    )
