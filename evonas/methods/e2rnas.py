"""E2RNAS: cells that are accurate, robust and of a wanted size, by descent of several objectives (Yue et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from evonas.errors import ConfigurationError, check_name
from evonas.gradient import METHODS
from evonas.gradient.mgda import Normalisation
from evonas.methods.cells import PAPER, QUICK, TRAINED, CellOptions, compose, to_the_end
from evonas.methods.cells import run as run_cells
from evonas.ranges import CHANNELS, LAYERS, MILLIONS, MILLISECONDS, RADIUS, Range
from evonas.runs.needs import Needs

if TYPE_CHECKING:
    from rich.console import Console

    from evonas.gradient import DeliveredCost, ExpectedCost, Method
    from evonas.gradient.delivered import Kind
    from evonas.gradient.method import Combine
    from evonas.runs.result import Result

__all__ = ["OPTIONS", "PRESETS", "TRAINED", "E2rnasOptions", "compose", "run", "to_the_end"]

FIRST, SECOND, BY_MGDA = Needs("version", (1,)), Needs("version", (2,)), Needs("mgda")
DELIVERED = Needs("size", ("delivered",))


@dataclass(frozen=True, kw_only=True)
class E2rnasOptions(CellOptions):
    """E2RNAS finds cells by descent of several objectives: accurate, robust and of a wanted size."""

    version: Literal[1, 2] = 2
    """1: adversarial training below, two objectives above. 2: OoD training below, five objectives above."""
    base: str = "darts"
    """Supernet and schedule that it is built on: darts, pcdarts or pdarts (version 2, Table IV)."""
    L: Annotated[float | None, MILLIONS, Needs("count_params")] = None
    """Millions of parameters; by default 1 in version 1, 2.5 in version 2 (S1; 3.5 for S2)."""
    F: Annotated[float | None, MILLIONS, SECOND] = None
    """Millions of FLOPs; by default 425 (S1; 586 for S2). With --size delivered millions of multiply-adds, only where
    it is given, in place of the parameters or, with --L, beside them."""
    latency: Annotated[float | None, MILLISECONDS, DELIVERED] = None
    """Milliseconds of the delivered network, alone or beside L and F: one image by one thread of this CPU at
    --cost-channels and --cost-layers, as the run's latency table predicts it; the table is measured where none is."""
    size: Annotated[Literal["n-hat", "delivered"], Needs("count_params")] = "n-hat"
    """Size that L and F limit: n-hat, the papers' mean over all edges, or delivered, all parameters (multiply-adds) of
    the network that the cells found make at --cost-channels and --cost-layers, within --size-within; --latency, too."""
    size_within: Annotated[float, Range(least=0, below=1), DELIVERED] = 0.01
    """Largest deviation of the delivered network from L, from F and from the latency, as a share of it."""
    sweep_L: Annotated[tuple[float, ...], MILLIONS, Needs("count_params")] = ()
    """One search for each of these L (version 1, Fig. 4), all in one table."""
    search_epsilon: Annotated[float, RADIUS] = 2 / 255
    """Radius of the adversarial losses, pixels in [0, 1]."""
    adversarial_below: bool | None = None
    """Adversarial training of weights: on in version 1 (Table 3: w/o adv), off in version 2 (Table VI: AT in LL)."""
    ood_below: Annotated[bool, SECOND] = True
    """OoD loss of the weights (Table VI: w/o OoD in LL)."""
    count_params: Annotated[bool, FIRST] = True
    """Parameters as an objective (Table 3: w/o nop)."""
    validate: Annotated[bool, FIRST] = True
    """Validation loss as an objective; without it parameters alone are descended (Table 3: w/o adv, L = 0)."""
    mgda: bool = True
    """Weights by MGDA, else equal ones (Table 3, Table VI: w/o MGDA)."""
    normalisation: Annotated[Normalisation | None, BY_MGDA] = None
    """Normalisation before MGDA: none, l2, loss or loss+; by default none in version 1, l2 in version 2 and with
    --size delivered, whose long gradient would otherwise get a small weight."""
    solver: Annotated[Literal["exact", "frank_wolfe"] | None, BY_MGDA] = None
    """Solver of MGDA; by default exact in version 1 (Eq. 11), frank_wolfe in version 2."""
    weights_on: Annotated[Literal["raw", "normalised"] | None, BY_MGDA] = None
    """Gradients that MGDA's weights multiply: those that they were found for (normalised, the default and the paper
    preset's, as Eq. 10 has it), or the raw ones, as the authors' code does; F alone then makes nearly all of a step."""
    cost_channels: Annotated[int, CHANNELS] = 36
    """Width of the network whose parameters and FLOPs are expected."""
    cost_layers: Annotated[int, LAYERS] = 20
    """Its cells."""
    cost_affine: bool = True
    """Count its batch normalisation in N-hat and F-hat."""

    example: ClassVar[str] = "evonas e2rnas --data digits --out runs/e2rnas"
    short: ClassVar[tuple[str, ...]] = (
        *("version", "base", "L", "F", "latency", "size", "sweep_L", "mgda", "weights_on"),
        *(name for name in CellOptions.common if name not in ("retrain_layers", "plugin")),
    )

    def __post_init__(self) -> None:
        if self.sweep_L and self.L is not None:
            raise ConfigurationError(f"expected --L or --sweep-L, got both: {self.L} and {self.sweep_L}")
        if len({f"{limit:g}" for limit in self.sweep_L}) < len(self.sweep_L):
            raise ConfigurationError(f"expected L in --sweep-L that differ in six digits, got {self.sweep_L}")
        if not (self.count_params or self.validate):
            raise ConfigurationError("expected an objective, got --no-count-params with --no-validate; leave one out")
        check_name(METHODS, self.base, "gradient method")
        if self.preferences > 1:
            self._check_preferences()
        elif self._limits_delivered and self.version == 1 and not self._limits_params and self.latency is None:
            raise ConfigurationError(
                "expected --L or --latency with --size delivered in version 1, got none; no delivered network has its "
                "usual million"
            )
        if self.latency is not None and "latency_ms" in self.objectives:
            counted, scored = (self.cost_channels, self.cost_layers), (self.cells.eval_channels, self.cells.eval_layers)
            if counted != scored:
                raise ConfigurationError(
                    f"expected one latency table for --latency and the objective latency_ms, got networks of "
                    f"{counted[0]} channels and {counted[1]} cells, and of {scored[0]} and {scored[1]}; give "
                    f"--cost-channels {scored[0]} --cost-layers {scored[1]}, or leave one out"
                )
        super().__post_init__()

    def _check_preferences(self) -> None:
        """Raise what does not go with several preferences, whose networks have all sizes."""
        given = {"--L": self.L, "--sweep-L": self.sweep_L or None, "--F": self.F, "--latency": self.latency}
        switched_off = {"--no-count-params": not self.count_params, "--no-validate": not self.validate}
        found = [name for name, value in {**given, **switched_off}.items() if value not in (None, False)]
        if found:
            raise ConfigurationError(
                f"expected --preferences {self.preferences}, whose cells are of all sizes, without {found[0]}; "
                "leave one out"
            )

    @property
    def _limits_delivered(self) -> bool:
        return self.size == "delivered" and self.count_params

    @property
    def _limits_params(self) -> bool:
        return self.L is not None or bool(self.sweep_L)

    def unused(self) -> dict[str, str]:
        found = super().unused()
        if self.levels.search_recipe != "standard":  # it replaces the attack below
            own = ("adversarial_below", "search_epsilon") if self.version == 1 else ("adversarial_below",)
            found |= dict.fromkeys(own, "--search-recipe standard")
        replaced = ("size", "size_within", "mgda", "normalisation", "solver", "weights_on")
        return found if self.preferences == 1 else found | dict.fromkeys(replaced, "--preferences 1")

    @property
    def drafts(self) -> dict[str, Method]:
        """Searches without limits of the delivered network, which need the data's image size and classes."""
        return self._searches(32, 10, sized=False)

    def methods(self, image_size: int, n_classes: int = 10) -> dict[str, Method]:
        return self._searches(image_size, n_classes)

    def _searches(self, image_size: int, n_classes: int, sized: bool = True) -> dict[str, Method]:
        usual = 1.0 if self.version == 1 else 2.5
        limits = {f"L{limit:g}": limit for limit in self.sweep_L} or {"": usual if self.L is None else self.L}
        return {
            label: self.several(self._method(limit, image_size, n_classes, sized), image_size, n_classes)
            for label, limit in limits.items()
        }

    def _method(self, limit: float, image_size: int, n_classes: int, sized: bool) -> Method:
        from evonas.gradient import ExpectedCost, FixedWeights, Mgda, e2rnas_v1, e2rnas_v2

        base = METHODS[self.base]()
        if self.base == "darts":
            base = replace(base, config=replace(base.config, order=2))  # Eq. 9
        base = self.levels.applied(replace(base, config=replace(base.config, begin_with="weights")))
        cost = ExpectedCost(
            channels=self.cost_channels,
            layers=self.cost_layers,
            nodes=base.nodes,
            image_size=image_size,
            affine=self.cost_affine,
        )
        first = self.version == 1
        normalisation = self.normalisation or ("none" if first and self.size == "n-hat" else "l2")
        mgda = Mgda(
            normalisation=normalisation,
            solver=self.solver or ("exact" if first else "frank_wolfe"),
            applied_to=self.weights_on or ("raw" if normalisation == "none" else "normalised"),  # none: all one
        )
        combine: Combine = mgda if self.mgda else FixedWeights()
        below = first if self.adversarial_below is None else self.adversarial_below
        sizes = self._sizes(limit, cost, n_classes) if sized else ()
        if first:
            return e2rnas_v1(
                base, limit, below, self.count_params, combine, self.search_epsilon, cost, self.validate, sizes
            )
        flops = 425.0 if self.F is None else self.F
        return e2rnas_v2(base, limit, flops, below, self.ood_below, combine, self.search_epsilon, cost, sizes)

    def _sizes(self, limit: float, cost: ExpectedCost, n_classes: int) -> tuple[DeliveredCost, ...]:
        """Terms of the delivered network's size; none where N-hat is descended, or nothing; latencies lack times."""
        from evonas.gradient import DeliveredCost, DeliveredLatency

        if not self._limits_delivered or self.preferences > 1:
            return ()
        limits: dict[Kind, float] = {}
        if self._limits_params or (self.F is None and self.latency is None):
            limits["params"] = limit
        if self.F is not None:
            limits["macs"] = self.F
        if self.latency is not None:
            limits["latency"] = self.latency
        return tuple(
            (DeliveredLatency if kind == "latency" else DeliveredCost)(
                kind=kind,
                limit=each,
                channels=cost.channels,
                layers=cost.layers,
                nodes=cost.nodes,
                image_size=cost.image_size,
                n_classes=n_classes,
                within=self.size_within,
            )
            for kind, each in limits.items()
        )


OPTIONS = E2rnasOptions
PRESETS = {"quick": E2rnasOptions(**QUICK), "paper": E2rnasOptions(**PAPER)}
"""`paper` is every default, on CIFAR-10: the papers' schedules, MGDA's weights on the gradients that they were found
for (problem (1) and Eq. 10), and rows of 25 epochs at the width and depth of the papers' evaluation."""


def run(options: E2rnasOptions, console: Console | None = None) -> Result:
    """Search cells and score them; see `evonas.methods.cells.run`."""
    return run_cells(options, console)
