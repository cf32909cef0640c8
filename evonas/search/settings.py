"""Settings of an evolutionary search; no pymoo."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from evonas.errors import ConfigurationError, check_name
from evonas.lazy import Table
from evonas.ranges import Range, check_ranges
from evonas.search.evaluations import check_objectives

if TYPE_CHECKING:
    from pymoo.core.algorithm import Algorithm

__all__ = ["ALGORITHMS", "EvolutionConfig"]

ALGORITHMS: "Table[Callable[..., Algorithm]]" = Table(
    {"nsga2": "evonas.search.operators:nsga2", "nsga3": "evonas.search.operators:nsga3"}
)
"""Name -> function that makes a pymoo algorithm from the number of objectives and the arguments common to all."""


@dataclass(frozen=True, kw_only=True)
class EvolutionConfig:
    """The evolutionary search; the defaults are RoCo-NAS's (Table II)."""

    population: Annotated[int, Range(least=1, most=10**5)] = 40
    """Survivors of a generation (RoCo-NAS, Table II)."""
    generations: Annotated[int, Range(least=0, most=10**6)] = 20
    """Offspring generations after the first population: population x (generations + 1) evaluations."""
    objectives: tuple[str, ...] = ("clean_error", "macs")
    """Searched columns, in order."""
    algorithm: str = "nsga2"
    """nsga2 or nsga3."""
    tournament: Annotated[int, Range(least=2, most=10**5)] = 2
    """Individuals that compete to be a parent (10 in TAM-NAS)."""
    seed: Annotated[int, tyro.conf.Suppress] = 0
    """Seed of everything random."""
    asynchronous: Annotated[bool, tyro.conf.arg(name="async")] = False
    """Breed a child as soon as a slot is free: no worker waits for the end of a generation."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.generations and self.population < 2:  # one cannot breed
            raise ConfigurationError(f"expected population >= 2 with generations, got {self.population}")
        check_objectives(self.objectives)
        check_name(ALGORITHMS, self.algorithm, "algorithm")

    def identity(self) -> dict[str, Any]:
        """Plain values that decide the path of a search; later additions only if they are used."""
        values = {"objectives": list(self.objectives), "population": self.population, "algorithm": self.algorithm}
        later = {"tournament": (self.tournament, 2), "asynchronous": (self.asynchronous, False)}
        return values | {name: value for name, (value, usual) in later.items() if value != usual}

    @property
    def evaluations(self) -> int:
        """Evaluations of the whole search, at most."""
        return self.population * (self.generations + 1)
