"""Configurables for the tests of tfdet.config: a car, so that no name meets one of tfdet's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfdet import config


@config.configurable
class Engine:
    """A part."""

    def __init__(self, power: float = 50.0, cylinders: int = 4, fuel: Literal["petrol", "diesel"] = "petrol"):
        self.power, self.cylinders, self.fuel = power, cylinders, fuel


@config.configurable
class ElectricEngine(Engine):
    """Another part that fits in the same place."""

    def __init__(self, battery: float = 40.0, cells: int = 96):
        self.battery, self.cells = battery, cells


@config.configurable
class Car:
    """A whole, with a parameter of every kind."""

    def __init__(
        self,
        engine: Engine | None = None,
        make_wheel: Callable | None = None,
        name: str = "car",
        doors: int = 4,
        open_top: bool = False,
        sizes: Sequence[int] = (15, 16),
        place: tuple[float, float] = (0.0, 0.0),
        prices: Mapping[str, float] | None = None,
        folder: Path | None = None,
        seats=5,
        colour="red",
        *,
        owner: UnknownToPython = "nobody",  # noqa: F821 - a name for type checkers only
    ):
        self.engine, self.make_wheel, self.name, self.doors = engine, make_wheel, name, doors
        self.open_top, self.sizes, self.place, self.prices = open_top, sizes, place, prices
        self.folder, self.seats, self.colour, self.owner = folder, seats, colour, owner


@config.configurable
def build_garage(size: int, height: float = 2.5):
    """A function with a parameter that has no default."""
    return size, height


@config.configurable
@dataclass(frozen=True)
class Journey:
    """A data class."""

    kilometres: int | None = None
    stops: tuple[str, ...] = ()


@config.configurable(denylist=["secret"])
def build_lock(secret: int = 1, turns: int = 2):
    """A function with a parameter that gin files may not set."""
    return secret, turns


@config.configurable
def build_anything(**options):
    """A function whose parameters nobody knows beforehand."""
    return options


config.declare_scope("winter/night")
