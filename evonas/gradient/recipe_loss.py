"""Weights of a supernet trained by a recipe of `evonas.training.RECIPES`: its loss in place of cross-entropy below."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from evonas.errors import ConfigurationError
from evonas.gradient.losses import AdversarialLoss, Batch, CrossEntropy, LevelLoss, Sum
from evonas.parts import part_identity, part_name

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from evonas.gradient.forward import Forward
    from evonas.gradient.method import Method
    from evonas.training import AdversarialRecipe, Recipe

__all__ = ["RecipeLoss", "lower_of_epoch", "recipe_of", "under_recipe", "with_recipe"]


@dataclass(frozen=True, kw_only=True)
class RecipeLoss:
    """Loss of a recipe that attacks images, or draws noise, such as `Trades()`, through the supernet at its mixture.

    `prepare` attacks in the mode that the recipe asks for. The loss is in the supernet's own mode, with gradients
    through all of its passes; running statistics are those that the recipe leaves in any network.
    """

    recipe: AdversarialRecipe

    name: ClassVar[str] = "recipe_loss"
    needs_ood: ClassVar[bool] = False
    attacks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        from evonas.training.adversarial import AdversarialRecipe

        kind, own = type(self.recipe), AdversarialRecipe
        if not issubclass(kind, own) or kind.of_heads is not own.of_heads or kind.__call__ is not own.__call__:
            raise ConfigurationError(
                "expected a recipe of an attack and a loss, which a search by gradient can train its weights by "
                f"(fast_adversarial, pgd_at, trades, trades_awp or gaussian), got {part_name(self.recipe)}"
            )

    @property
    def moves_weights(self) -> bool:
        """Whether the loss is taken at other weights than the supernet's."""
        from evonas.training.adversarial import AdversarialRecipe

        return type(self.recipe).minimised is not AdversarialRecipe.minimised

    def identity(self) -> dict[str, Any]:
        """Name and settings of the recipe."""
        return {"recipe": {"name": part_name(self.recipe), **part_identity(self.recipe)}}

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        from evonas.gradient.forward import ForwardNetwork

        attacked = self.recipe.attack(ForwardNetwork(forward), batch.images, batch.labels, generator)
        return replace(batch, attacked=attacked)

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        from evonas.gradient.forward import ForwardNetwork

        if batch.attacked is None:
            raise ValueError("expected a batch that `prepare` has attacked, got none; prepare it first")
        network = ForwardNetwork(forward)
        return self.recipe.of_attacked(
            network, lambda images: [(1.0, network(images))], batch.attacked, batch.images, batch.labels
        )


def recipe_of(loss: LevelLoss) -> RecipeLoss | None:
    """The loss of a recipe that it is, or that is a part of it; None without one."""
    parts = loss.parts if isinstance(loss, Sum) else (loss,)
    return next((part for part in parts if isinstance(part, RecipeLoss)), None)


def under_recipe(loss: LevelLoss, recipe: Recipe | None) -> LevelLoss:
    """The loss with that of a recipe in place of cross-entropy on clean or attacked images; other parts of a sum stay.

    Args:
        recipe: None: the loss as it is.
    Raises:
        ConfigurationError: it has no cross-entropy, or several; or the recipe is no attack and a loss.
    """
    if recipe is None:
        return loss
    parts = loss.parts if isinstance(loss, Sum) else (loss,)
    changed = [isinstance(part, CrossEntropy | AdversarialLoss | RecipeLoss) for part in parts]
    if sum(changed) != 1:
        raise ConfigurationError(
            f"expected one cross-entropy in the loss below, for a recipe to replace, got {loss.name}; "
            "leave the recipe out"
        )
    own = RecipeLoss(recipe=cast("AdversarialRecipe", recipe))  # refuses others
    parts = tuple(own if change else part for part, change in zip(parts, changed, strict=True))
    return Sum(parts) if isinstance(loss, Sum) else own


def with_recipe(method: Method, recipe: Recipe) -> Method:
    """The method whose weights descend the loss of a recipe such as `Trades()` in place of their cross-entropy."""
    return replace(method, lower=under_recipe(method.lower, recipe))


def lower_of_epoch(loss: LevelLoss, supernet: nn.Module, epoch: int, epochs: int) -> LevelLoss:
    """The lower loss of an epoch, counted from 0, of a stage with so many: a recipe is told that it begins."""
    from evonas.training.loop import of_epoch

    own = recipe_of(loss)
    return under_recipe(loss, None if own is None else of_epoch(own.recipe, supernet, epoch, epochs))
