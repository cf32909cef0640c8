"""Training recipes as options of methods: their names, their words, and networks of cells under any of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evonas.errors import ConfigurationError, check_name
from evonas.training import RECIPES, recipe_within

if TYPE_CHECKING:
    from evonas.audit import FinalTraining
    from evonas.training import Recipe

__all__ = ["ROBUST", "check_recipe", "has_radius", "recipe_words", "under_recipe"]

ROBUST = "a robust recipe, such as"
"""Beginning of what a radius needs."""


def check_recipe(name: str, epsilon: float | None = None) -> None:
    """ConfigurationError unless it names a recipe of networks without an auxiliary head, that may have the radius."""
    check_name(RECIPES, name, "recipe")
    if name == "standard":
        return
    if hasattr(RECIPES[name], "auxiliary_weight"):
        raise ConfigurationError(
            f"expected a recipe for networks without an auxiliary head, got {name}; see evonas darts"
        )
    if epsilon is not None:
        recipe_within(name, epsilon)


def has_radius(name: str) -> bool:
    """Whether a recipe attacks images within a radius."""
    return name not in ("", "standard") and hasattr(RECIPES[name], "epsilon")


def recipe_words(recipe: Any) -> str:
    """A recipe in a line of text: `trades within 8/255`."""
    from evonas.parts import part_name

    if hasattr(recipe, "auxiliary_weight"):
        return "standard" if recipe.robust is None else recipe_words(recipe.robust)
    epsilon = getattr(recipe, "epsilon", None)
    return part_name(recipe) + ("" if epsilon is None else f" within {255 * epsilon:g}/255")


def under_recipe(training: FinalTraining, recipe: Recipe) -> FinalTraining:
    """The training by another recipe; networks of cells keep their heads and their drop-path under it."""
    from evonas.training import CellTraining, standard

    own: Any = training.recipe
    if isinstance(own, CellTraining) and not isinstance(recipe, CellTraining):
        recipe = replace(own, robust=None if recipe is standard else recipe)
    return replace(training, recipe=recipe)
