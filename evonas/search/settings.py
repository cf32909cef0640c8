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

    from evonas.search.surrogate_models import Regression

__all__ = ["ALGORITHMS", "SURROGATES", "EvolutionConfig"]

ALGORITHMS: "Table[Callable[..., Algorithm]]" = Table(
    {"nsga2": "evonas.search.operators:nsga2", "nsga3": "evonas.search.operators:nsga3"}
)
"""Name -> function that makes a pymoo algorithm from the number of objectives and the arguments common to all."""

SURROGATES: "Table[Callable[..., Regression]]" = Table({"gp": "evonas.search.gaussian_process:GaussianProcess"})
"""Name -> function that fits a model of one objective; see `evonas.search.surrogate_models.Regression`."""


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
    surrogate: str | None = None
    """gp: a Gaussian process chooses among many children what is evaluated; none: evolution alone."""
    surrogate_batch: Annotated[int, Range(least=1, most=10**5)] = 10
    """Networks that the surrogate chooses at once, at most, before it learns again; with --async one at a time."""
    max_evaluations: Annotated[int | None, Range(least=1, most=10**9)] = None
    """End after so many evaluations, failed ones too, whatever the generations; none: no such limit."""
    min_gain: Annotated[float, Range(least=0, most=1)] = 0.0
    """End when the last choices, twice surrogate_batch, promise less than this share of the hypervolume each, on the
    surrogate's scale; 0: never."""

    replicates: Annotated[int, Range(least=1, most=100)] = 1
    """Spend the last tenth of the evaluations on the front again: trainings of a network there by different seeds, the
    search's own among them; 1: none."""
    early_stop: bool = False
    """End a training when its network cannot enter the front any more, by what the curves of earlier ones allow."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.generations and self.population < 2:  # one cannot breed
            raise ConfigurationError(f"expected population >= 2 with generations, got {self.population}")
        check_objectives(self.objectives)
        check_name(ALGORITHMS, self.algorithm, "algorithm")
        if self.surrogate is not None:
            check_name(SURROGATES, self.surrogate, "surrogate")
        elif self.min_gain:
            raise ConfigurationError(
                f"expected a surrogate with min_gain {self.min_gain:g}, got none: only a surrogate expects gains"
            )
        if self.replicates > 1 and self._whole < 2:
            raise ConfigurationError(
                f"expected at least 2 evaluations with replicates, one of them for the front again, got {self._whole}; "
                "leave --replicates out or evaluate more"
            )

    def identity(self) -> dict[str, Any]:
        """Plain values that decide the path of a search; later additions only if they are used."""
        values = {"objectives": list(self.objectives), "population": self.population, "algorithm": self.algorithm}
        later = {
            "tournament": (self.tournament, 2),
            "asynchronous": (self.asynchronous, False),
            "surrogate": (self.surrogate, None),
            "surrogate_batch": (self.surrogate_batch, 10),
            "early_stop": (self.early_stop, False),
        }
        return values | {name: value for name, (value, usual) in later.items() if value != usual}

    @property
    def evaluations(self) -> int:
        """Evaluations of the search, at most; those of replicates apart."""
        return self._whole - self.again

    @property
    def again(self) -> int:
        """Evaluations that are kept back for replicates."""
        return 0 if self.replicates == 1 else max(1, self._whole // 10)

    @property
    def _whole(self) -> int:
        whole = self.population * (self.generations + 1)
        return whole if self.max_evaluations is None else min(whole, self.max_evaluations)
