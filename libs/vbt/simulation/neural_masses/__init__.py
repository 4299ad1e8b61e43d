"""One file per neural mass: its equations, its parameters and where they come from.

A module of this folder is found by being here; its file name, with hyphens, is the model's name.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from vbt.simulation._neural_mass import NeuralMass


def neural_masses() -> Mapping[str, type[NeuralMass]]:
    """Every neural mass of this folder by its name, such as ``"montbrio-pazo-roxin"``."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            found[module.name.replace("_", "-")] = _only_mass(importlib.import_module(f"{__name__}.{module.name}"))
    return found


def neural_mass(name: str) -> type[NeuralMass]:
    """The neural mass of this name.

    Raises
    ------
    ValueError
        naming the known ones.
    """
    known = neural_masses()
    if name not in known:
        raise ValueError(f"no neural mass is called {name!r}; known are {', '.join(known)}")
    return known[name]


def _only_mass(module: ModuleType) -> type[NeuralMass]:
    masses: list[Any] = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and dataclasses.is_dataclass(value)
        and hasattr(value, "derivative")
    ]
    if len(masses) != 1:
        raise TypeError(f"{module.__name__} must define one neural mass, found {[mass.__name__ for mass in masses]}")
    mass: type[NeuralMass] = masses[0]
    return mass
