"""The declared parameter map: which parameter each class of drugs moves in each neural mass, and on whose word.

The direction of every change is that of the drug's mechanism; how far is a round number to begin with and to be edited,
which is why it says "hypothesis". Nothing here was fitted to a patient or a trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vbt.simulation._neural_mass import NeuralMass
from vbt.simulation._pharmacology import ParameterChange

_GOLDMAN = "Goldman et al. (2023), doi:10.3389/fncom.2022.1058957: 0-5 pA awake, 60 pA asleep"


def _scaled(parameter: str, amount: float, mechanism: str) -> ParameterChange:
    return ParameterChange(
        parameter=parameter, operation="scale", amount=amount, source=f"hypothesis: {mechanism}; size assumed"
    )


def _shifted(parameter: str, amount: float, source: str) -> ParameterChange:
    return ParameterChange(parameter=parameter, operation="shift", amount=amount, source=source)


_LONGER = "inhibitory currents last longer"
_STRONGER = "inhibition is stronger"
_NMDA = "less current through NMDA receptors"
_AWAY = "away from the seizure threshold"

DRUG_CLASSES: Mapping[str, Mapping[str, tuple[ParameterChange, ...]]] = MappingProxyType(
    {
        "gaba-a-agonist": {
            "JansenRit": (_scaled("B", 0.5, _STRONGER), _scaled("b", -0.3, _LONGER)),
            "WongWangExcInh": (_scaled("J_I", 0.5, _STRONGER),),
            "Zerlaut": (_scaled("tau_i", 0.5, _LONGER),),
            "DopamineMontbrioPazoRoxin": (_scaled("tau_g", 0.5, _LONGER),),
        },
        "potassium-leak-block": {
            "Zerlaut": (_shifted("b", 55.0, _GOLDMAN),),
        },
        "nmda-block": {
            "WongWang": (_scaled("J_N", -0.3, _NMDA),),
            "WongWangExcInh": (_scaled("J_N", -0.3, _NMDA),),
        },
        "levodopa": {
            "DopamineMontbrioPazoRoxin": (_scaled("wd", 1.0, "dopaminergic tracts release more"),),
        },
        "anti-seizure": {
            "Epileptor": (_shifted("x0", -0.5, f"hypothesis: {_AWAY}"), _scaled("K", -0.3, _AWAY)),
            "Epileptor2D": (_shifted("x0", -0.5, f"hypothesis: {_AWAY}"), _scaled("K", -0.3, _AWAY)),
        },
        "fampridine": {
            "any": (_scaled("velocity", 0.3, "conduction is restored on demyelinated tracts"),),
        },
    }
)


def drug_changes(drug_class: str, mass: NeuralMass) -> tuple[ParameterChange, ...]:
    """The changes proposed for a class of drugs in a neural mass, to put into a `Drug`.

    Disease-modifying therapy of multiple sclerosis is not among them: it acts over years on how many lesions there are,
    not on how the brain runs today.

    Raises
    ------
    ValueError
        naming the known classes, or the masses in which this class is known.
    """
    if drug_class not in DRUG_CLASSES:
        raise ValueError(f"drug class must be one of {', '.join(DRUG_CLASSES)}, got {drug_class!r}")
    by_mass = DRUG_CLASSES[drug_class]
    name = type(mass).__name__
    if name not in by_mass and "any" not in by_mass:
        raise ValueError(f"{drug_class} is declared for {', '.join(by_mass)}, got {name}")
    return by_mass.get(name, by_mass.get("any", ()))
