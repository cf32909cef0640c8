"""The schedule of a search by gradient, as the command line changes it."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from evonas.errors import ConfigurationError
from evonas.gradient import AlphaPerturbation, Method
from evonas.training.precision import PRECISIONS

__all__ = ["LevelSettings", "perturbed"]


@dataclass(frozen=True, kw_only=True)
class LevelSettings:
    """The search's schedule: what is not given is the method's own."""

    search_epochs: int | None = None
    """Of every stage of the supernet."""
    weights_only: int | None = None
    """Epochs at the beginning of every stage that leave the architecture alone."""
    search_channels: int | None = None
    """Of the supernet's first cell."""
    search_layers: int | None = None
    """Cells of the first stage's supernet; further stages are deeper in proportion."""
    search_batch_size: int | None = None
    search_lr: float | None = None
    """Of the supernet's weights at the beginning of a stage."""
    alpha_lr: float | None = None
    """Of the architecture, by Adam."""
    order: Literal[1, 2] | None = None
    """2: the architecture's gradient goes through one step of the weights."""
    hessian: Literal["finite", "exact"] | None = None
    """Of order 2: by a central difference, or by differentiating twice."""
    begin_with: Literal["alpha", "weights"] | None = None
    """What an iteration descends first."""
    portion: float | None = None
    """Share of the train part that weights are trained on; the architecture is trained on the rest."""
    nodes: int | None = None
    """Intermediate nodes of a cell."""
    perturb_alpha: float | None = None
    """Train weights at the worst architecture within this L-inf radius of softmaxed alpha (SDARTS-ADV: 0.3)."""
    search_precision: str = "auto"
    """auto, fp32 or bf16; auto takes bf16 where the hardware gains by it, and never with order 2."""

    def __post_init__(self) -> None:
        if self.search_precision not in PRECISIONS:
            raise ConfigurationError(f"expected a precision of {', '.join(PRECISIONS)}, got {self.search_precision!r}")

    def applied(self, method: Method) -> Method:
        """The method with what was given."""
        first = method.stages[0].layers
        of_stage = {"epochs": self.search_epochs, "channels": self.search_channels, "weights_only": self.weights_only}
        stages = []
        for stage in method.stages:
            given = _given(of_stage)
            if self.search_layers is not None:
                given["layers"] = round(stage.layers * self.search_layers / first)
            if self.search_epochs is not None and self.weights_only is None:  # in proportion
                given["weights_only"] = stage.weights_only * self.search_epochs // stage.epochs
            stages.append(replace(stage, **given))
        names = ("search_batch_size", "search_lr", "alpha_lr", "order", "hessian", "begin_with", "portion")
        given = _given({name: getattr(self, name) for name in names})
        if self.search_lr is not None:
            given["search_lr_min"] = min(method.config.search_lr_min, self.search_lr)
        config = replace(method.config, **given)
        if self.hessian is not None and config.order == 1:
            raise ConfigurationError(f"expected --order 2 with --hessian {self.hessian}, {method.name} has 1 here")
        nodes = method.nodes if self.nodes is None else self.nodes
        changed = replace(method, stages=tuple(stages), config=config, nodes=nodes)
        return changed if self.perturb_alpha is None else perturbed(changed, self.perturb_alpha)


def perturbed(method: Method, epsilon: float) -> Method:
    """The method whose weights are trained at the worst architecture nearby, called `NAME-adv`."""
    return replace(method, name=f"{method.name}-adv", perturbation=AlphaPerturbation(epsilon=epsilon))


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
