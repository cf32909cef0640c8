"""DSRNA: cells by descent of the loss and of a metric of robustness (Hosseini et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from evonas.certify.settings import Intermediate, Norm
from evonas.errors import ConfigurationError, check_name
from evonas.gradient import METHODS
from evonas.gradient.dsrna import Combination
from evonas.gradient.robustness import EpsilonSchedule
from evonas.methods.cell_retraining import CellRetrainOptions, RobustnessOptions
from evonas.methods.cells import PAPER, QUICK, TRAINED, CellOptions, compose, perturbed, to_the_end
from evonas.methods.cells import run as run_cells
from evonas.ranges import IMAGES, MILLIONS, RADIUS, STEP, Range, check_ranges
from evonas.runs.needs import Needs

if TYPE_CHECKING:
    from rich.console import Console

    from evonas.gradient import BoundLoss, Method
    from evonas.gradient.robustness import Metric
    from evonas.runs.result import Result

__all__ = ["OPTIONS", "PRESETS", "TRAINED", "BoundOptions", "DsrnaOptions", "compose", "run", "to_the_end"]

JACOBIAN = Needs("metric", ("jacobian",))
ADVERSARIAL = "-adv"
"""Ending of the name of a base whose weights are trained at a perturbed architecture."""
SDARTS_EPSILON = 0.3
"""Radius of Chen and Hsieh (2020), unless --perturb-alpha gives another."""


@dataclass(frozen=True, kw_only=True)
class BoundOptions:
    """Certified bound that is descended."""

    quantity: Literal["margin", "output"] = "margin"
    """R: the smallest certified margin of the true class, or the mean lower bound of all logits (the paper's words)."""
    relaxation: Literal["adaptive", "same_slope"] = "adaptive"
    """Lower side of a ReLU."""
    intermediate: Intermediate = "interval"
    """Bounds before each ReLU: interval (fast), linear (tight, one for every layer) or signs (in between)."""
    epsilon_start: Annotated[float, STEP] = EpsilonSchedule.start
    """Initial radius, pixels in [0, 1] (4.2.2)."""
    epsilon_step: Annotated[float, RADIUS] = EpsilonSchedule.step
    """Change of the radius after each step of the architecture."""
    epsilon_target: Annotated[float, Range(above=0, most=10**6)] = EpsilonSchedule.target
    """It falls where upper and lower bounds of logits are at least this far apart in the mean, else it rises."""
    epsilon_min: Annotated[float, STEP] = EpsilonSchedule.minimum
    """Smallest radius."""
    epsilon_max: Annotated[float, STEP] = EpsilonSchedule.maximum
    """Largest radius."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def loss(self, gamma: float, norm: Norm, images: int | None) -> BoundLoss:
        from evonas.gradient import BoundLoss

        schedule = EpsilonSchedule(
            start=self.epsilon_start,
            step=self.epsilon_step,
            target=self.epsilon_target,
            minimum=self.epsilon_min,
            maximum=self.epsilon_max,
        )
        return BoundLoss(
            gamma=gamma,
            quantity=self.quantity,
            norm=norm,
            relaxation=self.relaxation,
            intermediate=self.intermediate,
            images=images,
            epsilon=schedule,
        )


@dataclass(frozen=True, kw_only=True)
class DsrnaOptions(CellOptions):
    """DSRNA finds cells by descent of the validation loss and of a metric of robustness, in one sum (Eq. 16)."""

    metric: Literal["bound", "jacobian"] = "bound"
    """bound: certified lower bounds (DSRNA-CB). jacobian: the Jacobian norm bound (DSRNA-Jacobian)."""
    jacobian: Annotated[Literal["rows", "exact", "projected"], JACOBIAN] = "rows"
    """rows: Eq. 15, the mean length of the rows. exact: the squared Frobenius norm. projected: its estimate by random
    projections, to which the paper refers: one backward pass for each direction in place of one for each class."""
    projections: Annotated[int, Range(least=1, most=1000), Needs("jacobian", ("projected",))] = 1
    """Random directions of every image."""
    base: str = "pcdarts"
    """Supernet and stages that it is built on: darts, pcdarts or pdarts."""
    gamma: Annotated[float, MILLIONS] = 0.01
    """Weight of the metric beside the loss (4.2.2)."""
    combine: Combination = "gamma"
    """gamma: the sum of Eq. 16. normalised: gradients of length 1, half of a step each, or --metric-share. mgda: the
    shortest convex combination of both gradients, which descends both: each over its value with a Jacobian, of length 1
    with a bound, whose value may come near 0 (the direction of normalised)."""
    metric_share: Annotated[float | None, Range(above=0, below=1)] = None
    """Constant share of the metric's gradient in each step, such as 0.5, however long it is: normalised, not gamma."""
    norm: Norm = "linf"
    """Norm of the perturbations to be robust against; the Jacobian's rows are in the dual norm."""
    metric_images: Annotated[int | None, IMAGES] = None
    """Images of a batch that the metric is taken on, the first ones; all by default."""
    bound: Annotated[BoundOptions, Needs("metric", ("bound",))] = field(default_factory=BoundOptions)
    baselines: tuple[str, ...] = ()
    """Searched beside, without the metric, in the same table: darts, pcdarts, pdarts, or one of them with -adv."""
    robustness: Annotated[RobustnessOptions, Needs("retrain")] = field(default_factory=RobustnessOptions)

    example: ClassVar[str] = "evonas dsrna --data digits --out runs/dsrna"
    short: ClassVar[tuple[str, ...]] = (
        *(
            "metric",
            "jacobian",
            "base",
            "gamma",
            "combine",
            "metric_share",
            "norm",
            "metric_images",
            "baselines",
            "radius_images",
        ),
        *(name for name in CellOptions.common if name not in ("retrain_layers", "plugin")),
    )

    def __post_init__(self) -> None:
        check_name(METHODS, self.base, "gradient method")
        known = [*METHODS, *(name + ADVERSARIAL for name in METHODS)]
        for name in self.baselines:
            check_name(known, name, "baseline")
        if len(set(self.baselines)) < len(self.baselines):
            raise ConfigurationError(f"expected every one of --baselines once, got {','.join(self.baselines)}")
        if self.combine == "mgda" and self.metric_share is not None:
            raise ConfigurationError(
                f"expected --combine mgda, which finds both shares, without --metric-share, got {self.metric_share}"
            )
        super().__post_init__()

    def unused(self) -> dict[str, str]:
        found = super().unused()
        if self.metric == "jacobian" and self.jacobian != "rows":
            found["norm"] = "--jacobian rows"
        if self.preferences > 1:  # directions of steps do not depend on gamma
            return found | dict.fromkeys(("gamma", "combine", "metric_share"), "--preferences 1")
        if self.metric_share is not None or self.combine != "gamma":
            found["gamma"] = "the sum of Eq. 16, which --metric-share and --combine replace"
        return found

    def methods(self, image_size: int, n_classes: int = 10) -> dict[str, Method]:
        from evonas.gradient import dsrna

        own = self.levels.applied(dsrna(METHODS[self.base](), self._metric(), self.metric_share, self.combine))
        own = self.several(own, image_size, n_classes)
        others = {name: self._baseline(name) for name in self.baselines}
        return {own.name if others else "": own, **others}

    def _metric(self) -> Metric:
        from evonas.gradient import JacobianLoss, SquaredJacobianLoss

        if self.metric == "bound":
            return self.bound.loss(self.gamma, self.norm, self.metric_images)
        if self.jacobian == "rows":
            return JacobianLoss(gamma=self.gamma, norm=self.norm, images=self.metric_images)
        projections = self.projections if self.jacobian == "projected" else None
        return SquaredJacobianLoss(gamma=self.gamma, images=self.metric_images, projections=projections)

    @property
    def robust(self) -> RobustnessOptions:
        return self.robustness

    def _baseline(self, name: str) -> Method:
        from evonas.gradient import METHODS

        plain = replace(self.levels, perturb_alpha=None).applied(METHODS[name.removesuffix(ADVERSARIAL)]())
        if not name.endswith(ADVERSARIAL):
            return plain
        return perturbed(plain, self.levels.perturb_alpha or SDARTS_EPSILON)


AFTER = CellRetrainOptions(
    retrain_batch_size=128, drop_path=0.3, test_epsilon=8 / 255, test_step_size=2 / 255, test_steps=10
)
"""4.2.2 and 4.3.1: 600 epochs in batches of 128, drop-path 0.3, clipped at 5; 36 channels and 20 cells."""

OPTIONS = DsrnaOptions
PRESETS = {
    "quick": DsrnaOptions(
        **QUICK
        | {
            "levels": replace(QUICK["levels"], search_lr=0.05),
            "metric_images": 4,
            "after": replace(AFTER, retrain_epochs=6, retrain_batch_size=32, cutout=8, test_limit=200),
            "robustness": RobustnessOptions(radius_images=10),
        }
    ),
    "paper": DsrnaOptions(**PAPER, after=AFTER),
}
"""quick: minutes on two cores, on few images, in first order. paper: 4.2.2, with Eq. 16's unrolled step."""


def run(options: DsrnaOptions, console: Console | None = None) -> Result:
    """Search cells and score them; see `evonas.methods.cells.run`."""
    return run_cells(options, console)
