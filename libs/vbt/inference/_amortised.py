"""Neural posterior estimation: flows trained on simulations give a posterior at once, and say what is none of theirs.

An ensemble of conditional flows is trained on pairs of parameters and summaries. Parameters are given as standard
normal deviates of their priors, so that no draw leaves the prior and shrinkage is read off directly. Draws come from
the mixture of the ensemble. A recording whose summaries lie outside the support of the training simulations is novel:
the flows say nothing about it that can be trusted. So is one on which they disagree more than on simulations that none
of them has seen.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from vbt.inference._amortised_support import Support
from vbt.inference._checkpoint import Checkpoint, load_arrays, save_arrays
from vbt.inference._gate import DISAGREEMENT_LIMIT, NOVELTY_LIMIT, Novelty

FLOWS = 4
_LAYERS, _WIDTH, _DEPTH, _KNOTS, _INTERVAL = 3, 64, 2, 8, 5.0
_LARGEST = 5.0  # standard deviations; a summary farther out tells the flows no more than this
_LARGEST_DEVIATE = 4.5
_LARGEST_DISAGREEMENT = 1.5  # standard deviations; an ensemble that disagrees more on its own kind is to be refused
_BATCH, _SMALLEST_BATCH = 128, 16
_HELD_OUT = 0.1
_EPOCHS, _PATIENCE = 80, 8
_LEARNING_RATE = 5e-4

Progress = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class AmortisedPosterior:
    """A trained ensemble with all that is needed to use it and to judge it.

    Parameters
    ----------
    parameters, features : names, in the order of the columns
    centre, scale : of every feature over the training simulations
    support : where the training simulations lie
    disagreement_limit : up to which the flows disagree on simulations held out of training, but for 1 % of them
    flows : per member the arrays of the flow
    card : what it was trained on and how well it did on simulations held out, as JSON can hold it
    """

    parameters: tuple[str, ...]
    features: tuple[str, ...]
    centre: Float[np.ndarray, " feature"]
    scale: Float[np.ndarray, " feature"]
    support: Support
    disagreement_limit: float
    flows: tuple[tuple[np.ndarray, ...], ...]
    card: Mapping[str, Any]

    def draw(
        self, features: Float[np.ndarray, " feature"], draws: int, *, rng_seed: int
    ) -> Float[np.ndarray, "flow draw parameter"]:
        """Standard normal deviates of the priors, as many from every member of the ensemble."""
        condition = ((features - self.centre) / self.scale).clip(-_LARGEST, _LARGEST)
        members = _build(len(self.parameters), len(self.features))
        return np.stack(
            [_sample(members(arrays), condition, draws, rng_seed + i) for i, arrays in enumerate(self.flows)]
        ).clip(-_LARGEST_DEVIATE, _LARGEST_DEVIATE)

    def novelty(
        self, features: Float[np.ndarray, " feature"], deviates: Float[np.ndarray, "flow draw parameter"]
    ) -> Novelty:
        """How far the recording lies from the training simulations, and how far the ensemble is from agreeing."""
        distance = self.support.distance(features)
        scores = np.nan_to_num(self.support.scores(features), nan=np.inf)
        outermost = int(np.abs(scores).argmax())
        return Novelty(
            distance=distance,
            quantile=self.support.quantile(distance),
            disagreement=disagreement(deviates),
            disagreement_limit=self.disagreement_limit,
            outermost=self.features[outermost],
            outermost_score=float(scores[outermost]),
        )

    def trained_as(self, card: Mapping[str, Any]) -> bool:
        """Whether its model card says all that ``card`` says."""
        wanted = json.loads(json.dumps(card))
        return all(name in self.card and self.card[name] == value for name, value in wanted.items())

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the archive, by which a report names the network."""
        return hashlib.sha256(self.to_npz()).hexdigest()

    def to_npz(self) -> bytes:
        """An ``.npz`` archive without pickles, the same bytes for the same network."""
        buffer = io.BytesIO()
        record = {
            "parameters": self.parameters,
            "features": self.features,
            "card": self.card,
            "disagreement_limit": self.disagreement_limit,
        }
        arrays = {f"flow-{i}/{k}": array for i, flow in enumerate(self.flows) for k, array in enumerate(flow)}
        np.savez_compressed(
            buffer,
            record=np.array(json.dumps(record, sort_keys=True, allow_nan=False)),
            centre=self.centre,
            scale=self.scale,
            **{f"support/{name}": array for name, array in self.support.to_arrays().items()},  # type: ignore[arg-type]
            **arrays,  # type: ignore[arg-type]
        )
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> AmortisedPosterior:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            record = json.loads(str(archive["record"]))
            stored = {name: archive[name] for name in archive.files if name != "record"}
        counts: dict[int, int] = {}
        for name in stored:
            if name.startswith("flow-"):
                member = int(name[5:].partition("/")[0])
                counts[member] = counts.get(member, 0) + 1
        return cls(
            parameters=tuple(record["parameters"]),
            features=tuple(record["features"]),
            card=record["card"],
            disagreement_limit=record["disagreement_limit"],
            centre=stored["centre"],
            scale=stored["scale"],
            support=Support.from_arrays(
                {name[8:]: array for name, array in stored.items() if name.startswith("support/")}
            ),
            flows=tuple(tuple(stored[f"flow-{i}/{k}"] for k in range(counts[i])) for i in range(len(counts))),
        )


def disagreement(deviates: Float[np.ndarray, "flow draw parameter"]) -> float:
    """Largest distance of a member's mean from the ensemble's, in posterior standard deviations, over parameters."""
    away = np.abs(deviates.mean(axis=1) - deviates.mean(axis=(0, 1)))
    return float((away / deviates.std(axis=(0, 1))).max())


def train(
    deviates: Float[np.ndarray, "simulation parameter"],
    features: Float[np.ndarray, "simulation feature"],
    *,
    parameter_names: tuple[str, ...],
    feature_names: tuple[str, ...],
    card: Mapping[str, Any],
    rng_seed: int,
    flows: int = FLOWS,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> AmortisedPosterior:
    """Train an ensemble of masked autoregressive neural spline flows; the same seed gives the same network.

    A tenth of the simulations is held out of training altogether; the card says how the ensemble did on them.

    Parameters
    ----------
    deviates : parameters as standard normal deviates of their priors
    card : context of use, simulator, priors and seeds; joined by the number of simulations and the validation
    checkpoint : each flow is kept when it is trained

    References
    ----------
    Papamakarios et al. (2017), masked autoregressive flows; Durkan et al. (2019), neural spline flows; Greenberg et al.
    (2019), neural posterior estimation. Flows: flowjax.
    """
    if len(deviates) != len(features) or not np.isfinite(features).all():
        raise ValueError("every simulation needs its parameters and finite features")
    kept = len(features) - max(1, round(_HELD_OUT * len(features)))
    centre, scale = features[:kept].mean(axis=0), features[:kept].std(axis=0)
    if not (scale > 0).all():
        raise ValueError(f"features that never vary: {[feature_names[i] for i in np.flatnonzero(scale == 0)]}")
    standard = (features - centre) / scale
    targets = deviates.clip(-_LARGEST_DEVIATE, _LARGEST_DEVIATE)
    conditions = standard.clip(-_LARGEST, _LARGEST)
    members = []
    for member in range(flows):
        saved = load_arrays(checkpoint, f"flow-{member}")
        if saved is None:
            fitted = _fit(targets[:kept], conditions[:kept], rng_seed + member)
            saved = {str(k): array for k, array in enumerate(fitted)}
            save_arrays(checkpoint, f"flow-{member}", saved)
        members.append(tuple(saved[str(k)] for k in range(len(saved))))
        if progress is not None:
            progress(f"training, flow {member + 1} of {flows}", (member + 1) / flows)
    trained = AmortisedPosterior(
        parameters=parameter_names,
        features=feature_names,
        centre=centre,
        scale=scale,
        support=Support.of(features[:kept]),
        disagreement_limit=DISAGREEMENT_LIMIT,
        flows=tuple(members),
        card={},
    )
    validation = _validation(trained, targets[kept:], features[kept:], rng_seed)
    described = {
        **json.loads(json.dumps(card)),
        "training_simulations": kept,
        "held_out": len(features) - kept,
        "flows": flows,
    }
    return dataclasses.replace(
        trained,
        disagreement_limit=float(np.clip(validation["disagreement_99"], DISAGREEMENT_LIMIT, _LARGEST_DISAGREEMENT)),
        card={**described, "rng_seed": rng_seed, "validation": validation},
    )


def _validation(
    posterior: AmortisedPosterior, truth: np.ndarray, features: np.ndarray, rng_seed: int
) -> dict[str, Any]:
    drawn = np.stack([posterior.draw(row, 200, rng_seed=rng_seed) for row in features])
    every = drawn.reshape(len(features), -1, truth.shape[1])
    low, high = np.quantile(every, [0.05, 0.95], axis=1)
    novel = [posterior.novelty(row, deviates) for row, deviates in zip(features, drawn, strict=True)]
    return {
        "coverage_90": _named(posterior, ((low <= truth) & (truth <= high)).mean(axis=0)),
        "shrinkage": _named(posterior, np.median(1.0 - every.var(axis=1), axis=0)),
        "r": _named(
            posterior, [np.corrcoef(every[..., k].mean(axis=1), truth[:, k])[0, 1] for k in range(truth.shape[1])]
        ),
        "novel": int(sum(n.quantile > NOVELTY_LIMIT for n in novel)),
        "disagreement_median": round(float(np.median([n.disagreement for n in novel])), 4),
        "disagreement_99": round(float(np.quantile([n.disagreement for n in novel], 0.99)), 4),
    }


def _named(posterior: AmortisedPosterior, values: Any) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(posterior.parameters, values, strict=True)}


def _flow(parameters: int, features: int, key: Any) -> Any:
    # Imported where it is needed: it takes a second that no other command should wait for.
    import jax.numpy as jnp
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import Normal
    from flowjax.flows import masked_autoregressive_flow

    return masked_autoregressive_flow(
        key,
        base_dist=Normal(jnp.zeros(parameters)),
        transformer=RationalQuadraticSpline(knots=_KNOTS, interval=_INTERVAL),
        cond_dim=features,
        flow_layers=_LAYERS,
        nn_width=_WIDTH,
        nn_depth=_DEPTH,
    )


def _fit(targets: np.ndarray, conditions: np.ndarray, rng_seed: int) -> tuple[np.ndarray, ...]:
    import jax
    from flowjax.train import fit_to_data

    with jax.enable_x64(False):
        first, second = jax.random.split(jax.random.key(rng_seed, impl="threefry2x32"))
        sizes = targets.shape[1], conditions.shape[1]
        flow, _ = fit_to_data(
            second,
            # In the one structure of all flows of this size: a new one would be compiled anew.
            _build(*sizes)(tuple(_arrays(_flow(*sizes, first)))),
            (targets.astype(np.float32), conditions.astype(np.float32)),
            optimizer=_training()[0],
            loss_fn=_training()[1],
            max_epochs=_EPOCHS,
            max_patience=_PATIENCE,
            batch_size=min(_BATCH, max(_SMALLEST_BATCH, len(targets) // 10)),
            show_progress=False,
        )
        return tuple(np.asarray(leaf) for leaf in _arrays(flow))


@functools.lru_cache(maxsize=1)
def _training() -> tuple[Any, Any]:
    """Optimiser and loss, the same objects for all flows so that the training step is compiled once."""
    import optax
    from flowjax.train.losses import MaximumLikelihoodLoss

    return optax.adam(_LEARNING_RATE), MaximumLikelihoodLoss()


def _arrays(flow: Any) -> list[Any]:
    import equinox
    import jax

    return jax.tree.leaves(equinox.filter(flow, equinox.is_array))


@functools.lru_cache(maxsize=8)
def _build(parameters: int, features: int) -> Callable[[tuple[np.ndarray, ...]], Any]:
    """Arrays of a flow become the flow."""
    import equinox
    import jax

    with jax.enable_x64(False):
        like = _flow(parameters, features, jax.random.key(0, impl="threefry2x32"))
    dynamic, static = equinox.partition(like, equinox.is_array)
    structure = jax.tree.structure(dynamic)

    def build(arrays: tuple[np.ndarray, ...]) -> Any:
        return equinox.combine(jax.tree.unflatten(structure, [jax.numpy.asarray(array) for array in arrays]), static)

    return build


def _sample(flow: Any, condition: np.ndarray, draws: int, rng_seed: int) -> np.ndarray:
    import jax

    with jax.enable_x64(False):
        key = jax.random.key(rng_seed, impl="threefry2x32")
        return np.asarray(_compiled()(flow, key, jax.numpy.asarray(condition, dtype="float32"), draws), dtype=float)


@functools.lru_cache(maxsize=1)
def _compiled() -> Any:
    import equinox

    return equinox.filter_jit(lambda flow, key, condition, draws: flow.sample(key, (draws,), condition))
