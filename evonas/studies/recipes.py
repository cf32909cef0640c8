"""One recipe for all networks that a study trains to the end, in place of each run's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from evonas.errors import ConfigurationError
from evonas.methods.recipes import ROBUST, check_recipe, has_radius
from evonas.runs.needs import options_of
from evonas.runs.options import changed
from evonas.studies.grid import Cell

__all__ = ["OWN", "StudyRecipe"]

OPTIONS = {"retrain": ("retrain_recipe", "retrain_recipe_epsilon"), "finalise": ("finalise_recipe", "finalise_epsilon")}
"""Option that has networks trained to the end -> the recipe of that training, and its radius."""
IMAGENET = ("recipe", "recipe_epsilon")
"""The same of the method imagenet, all of whose runs train."""


@dataclass(frozen=True)
class StudyRecipe:
    """Training of the networks behind a study's tables; its searches are as they are."""

    name: str = ""
    """Name of a training recipe; empty: each run's own."""
    epsilon: float | None = None
    """Radius of its attack, in [0, 1]; None: the run's own where it has one, else the recipe's."""

    def __post_init__(self) -> None:
        if self.name:
            check_recipe(self.name, self.epsilon)
        if self.epsilon is not None and not has_radius(self.name):
            given = f"--recipe {self.name}" if self.name else "none"
            raise ConfigurationError(f"expected --recipe-epsilon with {ROBUST} --recipe trades, got {given}")

    @property
    def words(self) -> str:
        """`trades within 4/255`; empty where each run has its own."""
        return self.name + ("" if self.epsilon is None else f" within {255 * self.epsilon:g}/255")

    @property
    def suffix(self) -> str:
        """End of the study's folder: `-trades-4` for a radius of 4/255."""
        radius = "" if self.epsilon is None else f"-{255 * self.epsilon:g}"
        return f"-{self.name}{radius}" if self.name else ""

    @property
    def note(self) -> str:
        """Line that says under which training the tables stand; empty where each run has its own."""
        if not self.name:
            return ""
        return (
            f"Training: networks are trained to the end by {self.words} (--recipe), also where a line here names the "
            "study's own training; searches are those of the study. What is reported is of the papers' own training."
        )

    def given_to(self, cell: Cell) -> Cell:
        """The run with its networks trained to the end by the recipe; one that trains none has its options kept."""
        if not self.name:
            return cell
        values: dict[str, Any] = {}
        for name, epsilon in _names(cell):
            values[name] = self.name
            if self.epsilon is not None or not has_radius(self.name):
                values[epsilon] = self.epsilon
        return replace(cell, options=changed(cell.options, values), recipe=self.words)

    def check(self, study: str, cells: Sequence[Cell]) -> None:
        """ConfigurationError where a study trains no network to the end, all by this recipe anyway, or cannot by it."""
        if not self.name:
            return
        own = {recipe for cell in cells for recipe in _own(cell)}
        if not own:
            raise ConfigurationError(f"expected no --recipe with the study {study}, which trains no network to the end")
        if own == {self.name} and self.epsilon is None:
            raise ConfigurationError(f"expected another --recipe than {self.name}, which the study {study} has anyway")
        for cell in cells:
            self.given_to(cell)  # refuses what does not go together


def _names(cell: Cell) -> list[tuple[str, str]]:
    """Options that say how a run trains networks to the end; none where it trains none."""
    if cell.method == "imagenet":
        return [IMAGENET]
    values = {option.name: option.value for option in options_of(cell.options)}
    return [names for switch, names in OPTIONS.items() if values.get(switch)]


def _own(cell: Cell) -> list[str]:
    """Recipes by which a run trains networks to the end; RoCo-NAS's is that of the search where it has none."""
    values = {option.name: option.value for option in options_of(cell.options)}
    return [values[name] or values["recipe"] for name, _ in _names(cell)]


OWN = StudyRecipe()
"""Each run's own training."""
