"""TAM-NAS: a supernet trained once against an attack, NSGA-II over its networks, and its front trained to the end.

Xie et al., 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from evonas.errors import ConfigurationError, check_name
from evonas.methods.recipes import ROBUST, has_radius
from evonas.methods.tam_finalise import (
    FinaliseOptions,
    OfSupernet,
    check_scores,
    count_layers,
    finalise_front,
    ranked,
    scratch_training,
)
from evonas.methods.tam_supernet import slice_supernet, supernet_note, supernet_precision, train_supernet
from evonas.objectives import OBJECTIVES
from evonas.ranges import COUNT, PARAMS, RADIUS, SHARE, STEP, Range, check_ranges
from evonas.runs.needs import Needs
from evonas.runs.objectives import AttackOptions, CertifyOptions
from evonas.runs.options import DataOptions, RunOptions
from evonas.search.settings import EvolutionConfig
from evonas.training.settings import OneShotConfig
from evonas.types import Genome

if TYPE_CHECKING:
    from rich.console import Console

    from evonas.attacks import Attack
    from evonas.audit import FinalTraining
    from evonas.data import Dataset
    from evonas.evaluation import SliceSupernet
    from evonas.objectives import Objective
    from evonas.runs.result import Result
    from evonas.runs.run import Run
    from evonas.spaces import ShuffleSpace
    from evonas.training import Recipe

__all__ = [
    "OBJECTIVES_OF_TAM",
    "OPTIONS",
    "PRESETS",
    "TRAINED",
    "YOPO_LOOPS",
    "TamOptions",
    "after_search",
    "compose",
    "run",
    "to_the_end",
    "use_search",
]

METHOD = "tam-nas"
TRAINED = "finalised"
"""Folder of networks that were trained to the end."""
PGD_ERROR = "pgd_error"
OBJECTIVES_OF_TAM = ("clean_error", PGD_ERROR, "params")
"""TAM-NAS, III-E."""

YOPO_LOOPS = {1: (1, 1), 2: (2, 1), 5: (3, 2), 10: (5, 3)}
"""Attack steps that a supernet is trained against (superscripts of Tables II to V) -> (m, n)."""


STEPPED = ("trades_yopo", "trades", "trades_awp", "pgd_at")
SUPERNET_RECIPES = (*STEPPED, "fast_adversarial", "standard")
ATTACKED = Needs("supernet_recipe", SUPERNET_RECIPES[:-1])
RECALIBRATED = Needs("recalibration", ("clean", "attacked"))


@dataclass(frozen=True, kw_only=True)
class TamOptions(RunOptions):
    """TAM-NAS trains one supernet against an attack, and searches the tiny robust networks in it."""

    width: Annotated[float, Range(above=0, most=8)] = 1.0
    """Factor on the channels of Table I."""
    depth: Annotated[float, Range(above=0, most=8)] = 1.0
    """Factor on the blocks of stride 1 in each stage; at least one stays."""
    intermediate: Annotated[int, Range(least=1, most=2)] = 1
    """2 doubles the channels inside every block: the supernet 2S."""
    window: Annotated[tuple[float, float] | None, PARAMS] = (1.61e6, 2.37e6)
    """Parameters of feasible networks, with 10 classes and the full plan; scales with width and depth. None: any."""
    crossover_kind: str = "uniform"
    """uniform (gene by gene) or one_point."""
    crossover_rate: Annotated[float, SHARE] = 0.9
    """Chance of two parents to be crossed."""
    mutation_rate: Annotated[float, SHARE] = 0.1
    """Chance of every gene to be drawn anew (III-E2)."""
    supernet_recipe: str = "trades_yopo"
    """Loss of its training: trades_yopo; trades, trades_awp, pgd_at or fast_adversarial (robust); or standard."""
    supernet_epsilon: Annotated[float, RADIUS, ATTACKED] = 8 / 255
    """Radius of its attack: the subscript of S in Tables II to V."""
    supernet_steps: Annotated[int | None, COUNT, Needs("supernet_recipe", STEPPED)] = None
    """Steps of its attack, the superscript; for 1, 2, 5, 10 TRADES-YOPO's (m, n) are (1, 1), (2, 1), (3, 2), (5, 3). By
    default 10 of TRADES-YOPO, and of another recipe as many as its paper has."""
    supernet_step: Annotated[float | None, STEP, ATTACKED] = None
    """Length of a step; by default 0.007 for a radius of 0.031, and in proportion, for TRADES-YOPO. Steps of the other
    recipes reach together as far as those of their papers."""
    supernet_balance: Annotated[float | None, Range(above=0, most=1000), Needs("supernet_recipe", STEPPED[:3])] = None
    """lambda of Eq. 3; by default 1 for TRADES-YOPO, and for trades and trades_awp the beta of their papers, 6."""
    supernet: OneShotConfig = field(default_factory=OneShotConfig)
    supernet_from: str = ""
    """Folder of a run whose supernet is taken over, where it is the same one, instead of training it again."""
    recalibration: Literal["clean", "attacked", "off"] = "clean"
    """Images that each candidate's batch statistics are measured on: train images, or these attacked by the PGD of
    pgd_error; off: they stay as the supernet's training has left them."""
    recalibration_batches: Annotated[int, COUNT, RECALIBRATED] = 200
    """Batches of images that they are measured on."""
    recalibration_batch_size: Annotated[int, COUNT, RECALIBRATED] = 128
    """Images of such a batch."""
    search: EvolutionConfig = field(
        default_factory=lambda: EvolutionConfig(population=50, objectives=OBJECTIVES_OF_TAM, tournament=10)
    )
    attacks: AttackOptions = field(default_factory=AttackOptions)
    certify: CertifyOptions = field(default_factory=CertifyOptions)
    after: Annotated[FinaliseOptions, Needs("finalise", but=("finalise", "layers_top"))] = field(
        default_factory=FinaliseOptions
    )

    example: ClassVar[str] = "evonas tam --data digits --out runs/tam"
    short: ClassVar[tuple[str, ...]] = (
        *("preset", "data", "data_root", "train_limit", "val_limit", "seed", "out", "plugin"),
        *("width", "depth", "intermediate", "window", "supernet_recipe", "supernet_epsilon", "supernet_steps"),
        *("block_epochs", "joint_epochs", "supernet_batch_size", "supernet_lr", "supernet_precision"),
        *("population", "generations", "objectives", "attack_epsilon", "attack_steps", "attack_images"),
        *("finalise", "finalise_top", "finalise_epochs", "finalise_batch_size", "test_epsilons", "test_steps"),
        *("handmade", "lego", "device", "threads", "executor", "workers", "gpus_per_task", "ray_address"),
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        check_name(SUPERNET_RECIPES, self.supernet_recipe, "recipe of a supernet")
        self.space(32)
        _ = self.loops
        for name in self.search.objectives:
            check_name(OBJECTIVES, name, "objective")
        if "adversarial_set_error" in self.search.objectives:
            raise ConfigurationError(
                "expected objectives without a set for TAM-NAS, got adversarial_set_error; see roco_cifar10.py"
            )
        if "quick_robust_error" in self.search.objectives:
            raise ConfigurationError(
                "expected objectives of the supernet's weights for TAM-NAS, got quick_robust_error, which trains each "
                "network by itself; search for it with evonas roco --space shuffle"
            )
        if self.recalibration == "attacked" and PGD_ERROR not in self.search.objectives:
            raise ConfigurationError(
                f"expected {PGD_ERROR} among the objectives with --recalibration attacked, which attacks as it does, "
                f"got {','.join(self.search.objectives)}"
            )

    def unused(self) -> dict[str, str]:
        needs = "--objectives ood_aupr"
        found = {} if "ood_aupr" in self.search.objectives else {"ood_data": needs, "ood_ratio": needs}
        if self.search.surrogate is None:
            found["surrogate_batch"] = "--surrogate gp"
        elif self.search.asynchronous and not self.search.min_gain:
            found["surrogate_batch"] = "a search without --async, or --min-gain"
        if self.after.finalise_supernet_loops:
            found |= dict.fromkeys(("finalise_m", "finalise_n"), "--no-finalise-supernet-loops")
        if self.after.finalise_recipe != "trades_yopo" and not has_radius(self.after.finalise_recipe):
            found["finalise_epsilon"] = f"{ROBUST} --finalise-recipe trades"
        if self.after.finalise_all:
            found["finalise_top"] = "--no-finalise-all"
        if self.supernet.sampling == "fair":
            found |= dict.fromkeys(("block_window", "joint_window"), "--sampling epochs or batches")
        return found

    def space(self, image_size: int) -> ShuffleSpace:
        from evonas.spaces import ShuffleSpace

        return ShuffleSpace(
            self.width,
            self.depth,
            self.intermediate,
            self.window,
            self.crossover_kind,
            self.crossover_rate,
            self.mutation_rate,
            image_size,
        )

    def recipe(self) -> Recipe:
        """The loss of the supernet's training."""
        from evonas.training import TradesYopo, recipe_within
        from evonas.training.yopo import yopo_step

        epsilon, loops = self.supernet_epsilon, self.loops
        if loops is not None:
            step = yopo_step(epsilon) if self.supernet_step is None else self.supernet_step
            return TradesYopo(epsilon=epsilon, step=step, m=loops[0], n=loops[1], balance=self.supernet_balance or 1.0)
        recipe: Any = recipe_within(self.supernet_recipe, epsilon)
        changes: dict[str, Any] = {}
        if self.supernet_steps not in (None, getattr(recipe, "steps", self.supernet_steps)):
            changes = {"steps": self.supernet_steps, "step": recipe.step * recipe.steps / self.supernet_steps}
        if self.supernet_step is not None and self.supernet_recipe != "standard":
            changes["step"] = self.supernet_step
        if self.supernet_balance is not None and hasattr(recipe, "balance"):
            changes["balance"] = self.supernet_balance
        made: Recipe = replace(recipe, **changes) if changes else recipe
        return made

    def former_recipe(self) -> Recipe | None:
        """The loss as versions made it that took TAM-NAS's attack and lambda for every recipe; None: as now."""
        from evonas.training import PgdTraining, Trades, TradesAwp
        from evonas.training.yopo import yopo_step

        epsilon = self.supernet_epsilon
        step = yopo_step(epsilon) if self.supernet_step is None else self.supernet_step
        steps, balance = self.yopo_steps, self.supernet_balance or 1.0
        made: dict[str, Recipe] = {
            "pgd_at": PgdTraining(epsilon=epsilon, step=step, steps=steps),
            "trades": Trades(epsilon=epsilon, step=step, steps=steps, balance=balance),
            "trades_awp": TradesAwp(epsilon=epsilon, step=step, steps=steps, balance=balance),
        }
        return made.get(self.supernet_recipe)

    @property
    def loops(self) -> tuple[int, int] | None:
        """TRADES-YOPO's m and n of the supernet's training; None with another recipe."""
        if self.supernet_recipe != "trades_yopo":
            if self.after.finalise_supernet_loops:
                raise ConfigurationError(
                    "expected a supernet of trades_yopo, whose m and n --finalise-supernet-loops takes, got "
                    f"{self.supernet_recipe}"
                )
            return None
        if self.yopo_steps not in YOPO_LOOPS:
            raise ConfigurationError(
                f"expected --supernet-steps {', '.join(map(str, YOPO_LOOPS))} with trades_yopo, got {self.yopo_steps}"
            )
        return YOPO_LOOPS[self.yopo_steps]

    @property
    def yopo_steps(self) -> int:
        """Steps that TRADES-YOPO stands for in the supernet's training."""
        return self.supernet_steps or 10

    @property
    def recalibration_attack(self) -> Attack | None:
        """Attack on the images of the recalibration: that of pgd_error."""
        from evonas.objectives import PGDError

        if self.recalibration != "attacked":
            return None
        objective = self.attacks.objectives("fp32")[PGD_ERROR]
        assert isinstance(objective, PGDError)
        return objective.attack

    @property
    def finalising(self) -> FinaliseOptions:
        """Options of what follows the search, with the supernet's m and n where it is to have them."""
        if not self.after.finalise_supernet_loops or self.loops is None:
            return self.after
        m, n = self.loops
        return replace(self.after, finalise_m=m, finalise_n=n)


OPTIONS = TamOptions
PRESETS = {
    "quick": TamOptions(
        data=replace(TamOptions().data, train_limit=1500, val_limit=250),
        width=1 / 3,
        depth=0.1,
        supernet_steps=2,
        supernet=OneShotConfig(
            block_epochs=4,
            joint_epochs=8,
            resample_epochs=1,
            sampling="batches",
            supernet_batch_size=32,
            block_milestones=(),
            joint_milestones=(5, 7),
            first_ratio_epochs=1,
        ),
        recalibration_batches=8,
        recalibration_batch_size=64,
        search=EvolutionConfig(population=10, generations=3, objectives=OBJECTIVES_OF_TAM, tournament=10),
        after=FinaliseOptions(
            finalise="scratch",
            finalise_top=3,
            finalise_epochs=5,
            finalise_batch_size=64,
            finalise_milestones=(4,),
            finalise_m=2,
            finalise_n=1,
            test_epsilons=(2, 8),
            test_steps=(10,),
            test_limit=200,
        ),
    ),
    "paper": TamOptions(preset="paper", data=DataOptions(data="cifar10"), after=FinaliseOptions(finalise="scratch")),
}
"""`paper` is every default, on CIFAR-10: III-C and IV-A."""


def run(options: TamOptions, console: Console | None = None) -> Result:
    """Train or continue the supernet, then the search, then what comes after it; each goes on where it was stopped.

    Raises:
        EvonasError: see `Run`.
        Interrupted: a signal came; the same command continues.
    """
    from evonas.runs.run import Run

    with Run.open(METHOD, options, "tam", console=console) as run:
        space, candidates, objectives = compose(run, options)
        found = run.search(space, candidates, objectives, replace(options.search, seed=run.seed))
        after_search(run, options, candidates, found)
    return found


def after_search(run: Run, options: TamOptions, candidates: SliceSupernet, found: Result) -> None:
    """Train the front to the end where that is asked for, else count its layers where it can be ranked."""
    if options.after.finalise:
        of = OfSupernet(supernet_note(options, candidates), options.supernet_epsilon)
        finalise_front(run, options.finalising, candidates, found, of)
    elif len(found.front) and ranked(found.searched.columns):
        count_layers(run, options.after, found)
    else:
        run.screen.say("no statistics of layers: they need networks that are ok, with clean_error and pgd_error")


def to_the_end(run: Run, options: TamOptions, candidates: SliceSupernet, genome: Genome) -> FinalTraining:
    """Training of a network of the run after the search: from new weights, as `finalise_front` has it."""
    asked = options.finalising.recipe(options.supernet_epsilon)
    recipe = run.recipe_as_begun(asked, run.begun("supernet", "recipe"))
    return scratch_training(run, options.finalising, recipe, candidates)


def compose(run: Run, options: TamOptions) -> tuple[ShuffleSpace, SliceSupernet, tuple[Objective, ...]]:
    """The space, the supernet that gives candidates their weights, and what they are scored on.

    The supernet is trained, or its training is continued, where it is not there.
    """
    import torch

    precision = supernet_precision(run, options)
    data = run.load_data()
    space = options.space(data.image_size)
    objectives = run.make_objectives(
        options.search.objectives, data, options.attacks, options.certify, precision, space=space
    )
    use_search(run, options, space, data, objectives)
    weights = train_supernet(run, options, space, data, precision)
    torch.cuda.empty_cache()  # for the candidates; without CUDA nothing happens
    return space, slice_supernet(run, options, space, data, weights), objectives


def use_search(
    run: Run, options: TamOptions, space: ShuffleSpace, data: Dataset, objectives: Sequence[Objective]
) -> None:
    """Make the search a piece of the run's identity, and check what follows it, before a supernet is trained.

    Raises:
        ConfigurationError: an objective that is not measured; or see `check_scores`.
        DataError: fewer test images asked for than there are classes.
        RunMismatchError: the folder holds another run.
    """
    from evonas.evaluation import recalibration_identity

    if options.after.finalise and not run.reading:
        check_scores(options.search.objectives, options.after, data, run.seed)
    run.use_search(space, data.n_classes, objectives, replace(options.search, seed=options.seed))
    number, size = options.recalibration_batches, options.recalibration_batch_size
    run.use(recalibration=recalibration_identity(options.recalibration, number, size, options.recalibration_attack))
