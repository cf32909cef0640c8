"""TAM-NAS: a supernet trained once against an attack, NSGA-II over its networks, and its front trained to the end.

Xie et al., 2021.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from evonas.errors import ConfigurationError, check_name
from evonas.files import expanded, read_regular, replace_file
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
from evonas.objectives import OBJECTIVES
from evonas.parts import as_plain, part_identity
from evonas.ranges import COUNT, PARAMS, RADIUS, SHARE, STEP, Range, check_ranges
from evonas.runs.needs import Needs
from evonas.runs.objectives import AttackOptions, CertifyOptions
from evonas.runs.options import DataOptions, RunOptions
from evonas.search.settings import EvolutionConfig
from evonas.seeding import derive_seed, generator
from evonas.training.settings import OneShotConfig, TrainingPrecision
from evonas.types import Genome, arch_id

if TYPE_CHECKING:
    from rich.console import Console

    from evonas.attacks import Attack
    from evonas.audit import FinalTraining
    from evonas.data import Dataset
    from evonas.evaluation import SliceSupernet, SupernetWeights
    from evonas.objectives import Objective
    from evonas.runs.result import Result
    from evonas.runs.run import Run
    from evonas.spaces import ShuffleSpace
    from evonas.training import OneShotTraining, Recipe
    from evonas.training.checkpoints import Row

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
    "slice_supernet",
    "supernet_precision",
    "to_the_end",
    "train_supernet",
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

COLUMNS = ("epoch", "phase", "learning_rate", "arch_id", "params", "loss", "untrained", "seconds", "genome")
"""Columns of supernet.csv, one row an epoch; with `--sampling batches` the architecture of the first batch. untrained:
(layer, block, ratio) that no network trained so far has."""

DRAWN = 1000
"""Random networks that a window is tried on."""

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
    supernet_steps: Annotated[int, COUNT, Needs("supernet_recipe", STEPPED)] = 10
    """Steps of its attack, the superscript; for 1, 2, 5, 10 TRADES-YOPO's (m, n) are (1, 1), (2, 1), (3, 2), (5, 3)."""
    supernet_step: Annotated[float | None, STEP, ATTACKED] = None
    """Length of a step; by default 0.007 for a radius of 0.031, and in proportion, or fast_adversarial's 1.25 radii."""
    supernet_balance: Annotated[float, Range(above=0, most=1000), Needs("supernet_recipe", STEPPED[:3])] = 1.0
    """lambda of Eq. 3."""
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
        from evonas.training import FastAdversarial, PgdTraining, Trades, TradesAwp, TradesYopo, standard
        from evonas.training.yopo import yopo_step

        if self.supernet_recipe == "standard":
            return standard
        epsilon, steps, balance = self.supernet_epsilon, self.supernet_steps, self.supernet_balance
        if self.supernet_recipe == "fast_adversarial":
            return FastAdversarial(epsilon=epsilon, step=self.supernet_step)
        step = yopo_step(epsilon) if self.supernet_step is None else self.supernet_step
        if self.supernet_recipe == "pgd_at":
            return PgdTraining(epsilon=epsilon, step=step, steps=steps)
        if self.supernet_recipe != "trades_yopo":
            kind = Trades if self.supernet_recipe == "trades" else TradesAwp
            return kind(epsilon=epsilon, step=step, steps=steps, balance=balance)
        assert self.loops is not None  # of trades_yopo
        m, n = self.loops
        return TradesYopo(epsilon=epsilon, step=step, m=m, n=n, balance=balance)

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
        if self.supernet_steps not in YOPO_LOOPS:
            raise ConfigurationError(
                f"expected --supernet-steps {', '.join(map(str, YOPO_LOOPS))} with trades_yopo, "
                f"got {self.supernet_steps}"
            )
        return YOPO_LOOPS[self.supernet_steps]

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
        of = OfSupernet(supernet_note(options), options.supernet_epsilon)
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


def supernet_precision(run: Run, options: TamOptions) -> TrainingPrecision:
    """Precision of the supernet's training: the one that it was begun with in the folder, where there is one."""
    begun = run.begun("supernet") or run.checkpoint
    return run.precision(
        options.supernet.supernet_precision, begun.get("training", {}).get("supernet_precision"), depthwise=True
    )


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


def slice_supernet(
    run: Run, options: TamOptions, space: ShuffleSpace, data: Dataset, weights: SupernetWeights
) -> SliceSupernet:
    """Preparation of candidates: slices of the supernet, their batch statistics measured anew on train images."""
    from evonas.evaluation import SliceSupernet

    return SliceSupernet(
        space=space,
        data=data,
        weights=weights,
        device=run.device,
        seed=run.seed,
        recalibration_batches=options.recalibration_batches,
        recalibration_batch_size=options.recalibration_batch_size,
        recalibration=options.recalibration,
        recalibration_attack=options.recalibration_attack,
    )


def train_supernet(
    run: Run, options: TamOptions, space: ShuffleSpace, data: Dataset, precision: TrainingPrecision
) -> SupernetWeights:
    """Train the supernet in the run's folder, continue with that, or find its weights there.

    Beside the checkpoint supernet.pt: supernet.csv, one row an epoch, and untrained.csv, the (layer, block, ratio) that
    no trained network has.

    Raises:
        ConfigurationError: a window holds no network, or this process has no GPU.
        RunMismatchError: supernet.pt is of another training.
        Interrupted: a signal came; the same command continues with the epoch that was begun.
    """
    import torch

    from evonas.evaluation import SupernetWeights
    from evonas.networks.shuffle_supernet import ShuffleSupernet
    from evonas.report import shown, write_rows
    from evonas.training import standard
    from evonas.training.one_shot import check_windows, drawn_architectures

    config, recipe = replace(options.supernet, supernet_precision=precision), _recipe(run, options)
    described = {"name": options.supernet_recipe, **({} if recipe is standard else part_identity(recipe))}
    shape = {name: getattr(space, name) for name in ("name", "width", "depth", "intermediate", "image_size")}
    identity = as_plain(
        {
            "space": shape,
            "data": data.fingerprint,
            "training": asdict(config),
            "recipe": described,
            "seed": run.seed,
            "device": torch.device(run.device).type,
            "threads": run.threads,
        }
    )
    run.use(supernet=identity)
    if not (run.path / "supernet.pt").exists():  # before hours are spent on it
        check_windows(space, config, run.seed)
        _check_window(options, space, run.seed)
        _take_over(run, options.supernet_from, identity)
    for line in () if run.reading else _wide_windows(options, space, run.seed):
        run.note(line)
    run.needs_device_here("the supernet is trained")
    every, trained = space.choices(), Trained(space, config, run.seed, len(data.train))
    training = _training(run, space, data, config, recipe)

    def row(loss: float) -> Row:
        epoch = training.epoch - 1
        genome = next(drawn_architectures(space, config, run.seed, epoch, len(data.train)))
        canonical = space.canonical(genome)
        return {
            "epoch": epoch + 1,
            "phase": "joint" if epoch >= config.block_epochs else "blocks",
            "learning_rate": config.rate(epoch),
            "arch_id": arch_id(canonical),
            "params": space.cost(genome, data.n_classes).params,
            "loss": loss,
            "untrained": len(every - trained.until(epoch + 1)),
            "genome": " ".join(map(str, canonical.tolist())),
        }

    rows = run.train_epochs(
        "supernet",
        training,
        identity,
        "a supernet",
        _opening(space, data, config, options.supernet_recipe),
        row,
        lambda each: f"{each['phase']}, {shown('params', each['params'])} parameters, loss {each['loss']:.3f}",
        lambda rows: write_rows(run.path / "supernet.csv", rows, COLUMNS),
    )
    if not run.reading and not (run.path / "untrained.csv").exists():
        _write_untrained(run.path / "untrained.csv", every - trained.until(config.epochs))
    missing = rows[-1].get("untrained")
    if missing:
        run.note(
            f"{missing:,} of {len(every):,} (layer, block, ratio) were never trained in the supernet, so that networks "
            f"with them inherit weights as they were drawn, or trained for other ratios: {run.path / 'untrained.csv'}"
        )
    return SupernetWeights.of(cast(ShuffleSupernet, training.supernet), identity)


def _take_over(run: Run, folder: str, identity: Mapping[str, Any]) -> None:
    """Copy the checkpoint of the same supernet from another run's folder; nothing where none is named.

    Raises:
        ConfigurationError: there is none.
        RunMismatchError: it is of another training.
        EvonasError: it cannot be read or copied.
    """
    from evonas.training import load_checkpoint

    if not folder:
        return
    source, target = expanded(folder) / "supernet.pt", run.checkpoint_path("supernet")
    if load_checkpoint(source, identity, "a supernet") is None:
        raise ConfigurationError(f"expected a run with a supernet in {folder}, got none: {source} is not there")
    content = read_regular(source)
    replace_file(target, lambda file: file.write(content))
    run.screen.say(f"supernet taken over from {source}")


class Trained:
    """The (layer, block, ratio) of networks that a supernet's training draws, epoch by epoch."""

    def __init__(self, space: ShuffleSpace, config: OneShotConfig, seed: int, images: int) -> None:
        self.space, self.config, self.seed, self.images = space, config, seed, images
        self._epochs, self._found = 0, set[tuple[int, int, int]]()

    def until(self, epochs: int) -> set[tuple[int, int, int]]:
        """Choices drawn in the first epochs, whose number must not fall from call to call."""
        from evonas.training.one_shot import drawn_architectures

        for epoch in range(self._epochs, epochs):
            for genome in drawn_architectures(self.space, self.config, self.seed, epoch, self.images):
                self._found |= self.space.choices(genome)
        self._epochs = epochs
        return self._found


def _write_untrained(path: Path, choices: Collection[tuple[int, int, int]]) -> None:
    """One row a layer and block, with all its ratios that were never trained."""
    from evonas.report import write_rows

    ratios: dict[tuple[int, int], list[str]] = {}
    for layer, block, ratio in sorted(choices):
        ratios.setdefault((layer, block), []).append(f"{(ratio + 1) / 5:g}")
    rows = [{"layer": layer, "block": block, "ratios": " ".join(found)} for (layer, block), found in ratios.items()]
    write_rows(path, rows, ("layer", "block", "ratios"))


def _wide_windows(options: TamOptions, space: ShuffleSpace, seed: int) -> Iterator[str]:
    """A line for every window of parameters that accepts whatever is drawn."""
    drawn = space.sample(DRAWN, generator(seed, "windows"))
    params = [space.cost(genome).params for genome in drawn]
    windows = {
        "window": options.window,
        "block-window": options.supernet.block_window if options.supernet.block_epochs else None,
        "joint-window": options.supernet.joint_window if options.supernet.joint_epochs else None,
    }
    if options.supernet.sampling == "fair":
        windows = {"window": options.window}
    for name, window in windows.items():
        if window is not None:
            low, high = space.scaled(window)
            if low <= min(params) and max(params) <= high:
                yield f"--{name} accepts all of {DRAWN:,} random networks: it constrains nothing here"


def _recipe(run: Run, options: TamOptions) -> Recipe:
    return run.recipe_as_begun(options.recipe(), run.begun("supernet", "recipe") or run.checkpoint.get("recipe"))


def supernet_note(options: TamOptions) -> str:
    """The supernet that networks come from: the first column of Tables II to V."""
    width = "2S" if options.intermediate == 2 else "S"
    if options.supernet_recipe == "standard":
        return f"Supernet: {width}, trained on clean images."
    epsilon = 255 * options.supernet_epsilon
    return (
        f"Supernet: {width}, trained by {options.supernet_recipe} against {options.supernet_steps} steps within "
        f"{epsilon:g}/255."
    )


def _training(run: Run, space: ShuffleSpace, data: Dataset, config: OneShotConfig, recipe: Recipe) -> OneShotTraining:
    import torch

    from evonas.data import DeviceData
    from evonas.networks.blocks import seeded
    from evonas.networks.shuffle_supernet import ShuffleSupernet
    from evonas.training import OneShotTraining

    torch.set_num_threads(run.threads)
    device = torch.device(run.hardware.here)
    images = DeviceData(data, device)
    drawn = seeded(lambda: space.supernet(data.n_classes), derive_seed(run.seed, "supernet weights"))
    supernet, momentum = cast(ShuffleSupernet, drawn).to(device), space.supernet(data.n_classes).to(device)
    return OneShotTraining(space, supernet, momentum, images.train, images.augmentation, config, recipe, run.seed)


def _check_window(options: TamOptions, space: ShuffleSpace, seed: int) -> None:
    """ConfigurationError where the window of parameters holds no network that could be drawn."""
    from evonas.training.one_shot import draw_architecture

    if options.window is None:
        return
    every = OneShotConfig(block_epochs=0, joint_epochs=1, first_ratios=10, joint_window=options.window)
    try:
        draw_architecture(space, every, seed, 0)
    except ConfigurationError as error:
        low, high = space.scaled(options.window)
        smallest, largest = space.params_range
        raise ConfigurationError(
            f"expected networks within --window {options.window[0]:g} {options.window[1]:g}, which is {low:,.0f} to "
            f"{high:,.0f} parameters here, got none; they have {smallest:,} to {largest:,}"
        ) from error


def _opening(space: ShuffleSpace, data: Dataset, config: OneShotConfig, recipe: str) -> str:
    import torch

    from evonas.costs import count_params
    from evonas.report import shown

    with torch.device("meta"):
        total = count_params(space.supernet(data.n_classes))
    return (
        f"supernet: {shown('params', total)} parameters, {config.epochs} epochs of {recipe} on {len(data.train)} images"
    )
