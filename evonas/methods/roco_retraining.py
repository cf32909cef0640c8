"""RoCo-NAS's front trained to the end and measured: the paper's tables and figures (IV-A, post-search optimization)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from evonas.errors import ConfigurationError, UnknownNameError
from evonas.files import expanded
from evonas.methods.recipes import check_recipe, recipe_words, under_recipe
from evonas.ranges import BATCH, CHANNELS, COUNT, IMAGES, Range, check_ranges
from evonas.runs.execution import resolve_device
from evonas.training import recipe_within
from evonas.types import Genome, TrainOn, arch_id

if TYPE_CHECKING:
    from evonas.adversarial_sets import AdversarialSet
    from evonas.audit import AuditNetwork, FinalTraining, Measured
    from evonas.evaluation import TrainFromScratch
    from evonas.methods.roco import RocoOptions
    from evonas.report import Chance, Searched
    from evonas.runs.folder import RunFolder
    from evonas.runs.result import Result
    from evonas.runs.run import Run
    from evonas.training import TrainingConfig

__all__ = ["RetrainOptions", "prepare_retraining", "retrain_front", "retraining"]


@dataclass(frozen=True, kw_only=True)
class RetrainOptions:
    """Training the front again after the search (RoCo-NAS, IV-A: post-search optimization), and scoring it."""

    retrain: bool = False
    """After the search, train the front again and print the paper's tables for it."""
    retrain_networks: tuple[str, ...] = ()
    """arch_ids of networks of the front to train again; all by default."""
    retrain_all: bool = False
    """Train every network that the search has scored again, instead of the front."""
    top: Annotated[int, COUNT] = 5
    """Networks of each front in the tables: the lightest, by MACs at the width that they are trained with (IV-C)."""
    retrain_channels: Annotated[int, CHANNELS] = 32
    """Their width of the first block (IV-A)."""
    retrain_epochs: Annotated[int, COUNT] = 120
    """Passes over the images (IV-A)."""
    train_on: TrainOn = "train"
    """Their images: the train part, or all but the test images, those that the search held out, too. Then an
    adversarial set is not scored whose clean images are among them."""
    retrain_batch_size: Annotated[int, BATCH] = 128
    """Images of a step (IV-A)."""
    retrain_recipe: str = ""
    """Recipe of this training: standard, pgd_at, trades, trades_awp, ibp, gaussian, ...; by default --recipe."""
    retrain_recipe_epsilon: Annotated[float | None, Range(above=0, most=1, pixels=True)] = None
    """Radius of that recipe's attack, in [0, 1]; its own by default."""
    retrain_average: Literal["", "none", "ema", "swa"] = ""
    """Weights that this training delivers, as --average has them, which is the default."""
    test_limit: Annotated[int | None, IMAGES] = None
    """Size of a class-balanced subset of the test images to score on."""
    suite: tuple[str, ...] = ("pgd", "fgsm", "bim", "cw", "deepfool")
    """Measurements of these networks; cw and deepfool need pip install 'evonas[audit]'."""
    second_set: str = ""
    """File of another adversarial set to score on, too: one that no search saw, of other images and targets."""
    against: str | None = None
    """Folder of another run, such as a Baseline-NAS one: its front is trained, scored and shown beside."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.retrain_recipe:
            check_recipe(self.retrain_recipe, self.retrain_recipe_epsilon)
        if len(set(self.suite)) < len(self.suite):
            raise ConfigurationError(f"expected every part of the suite once, got {','.join(self.suite)}")
        if self.suite != RetrainOptions.suite:  # that one is right, and checking it loads every attack
            from evonas.audit import errors_under

            errors_under(self.suite, "suite")

    def training(self, candidates: TrainingConfig) -> TrainingConfig:
        """Settings of the training, from those of the search's candidates."""
        return replace(
            candidates,
            epochs=self.retrain_epochs,
            batch_size=self.retrain_batch_size,
            average=self.retrain_average or candidates.average,
        )

    def measured(self, adversarial_set: AdversarialSet | None = None, second: AdversarialSet | None = None) -> Measured:
        """The clean error, the errors on the sets that there are, the suite's errors."""
        from evonas.audit import CLEAN, AdversarialSetShare, Measured, Measurement, SecondSetShare, measurements

        sets = []
        if adversarial_set is not None:
            share = AdversarialSetShare(adversarial_set)
            sets.append(Measurement("adversarial_set_error", "Adversarial set", share))
        if second is not None:
            sets.append(Measurement(SecondSetShare.name, "Second adversarial set", SecondSetShare(second)))
        parts = (CLEAN, *sets, *measurements(self.suite))
        return Measured(measurements=parts, test_limit=self.test_limit, batch_size=200)


def prepare_retraining(run: Run, options: RocoOptions, candidates: TrainFromScratch) -> AdversarialSet | None:
    """The set that `retrain_front` measures on, where one was searched on or is given; raises what would stop it later.

    A set whose clean images the networks are trained on is none to measure on: a line says so.

    Raises:
        ConfigurationError: a library or a device is missing; `against` is no run, or one of other data or space.
        DataError: fewer test images asked for than there are classes.
        EvonasError: see `Run.adversarial_set`.
    """
    from evonas.audit import require_libraries

    after = options.after
    if not after.retrain:
        return None
    require_libraries(after.measured().measurements, "--suite")
    resolve_device(run.device)
    after.measured().test_part(candidates.data, run.seed)
    if after.against is not None:
        _front(*_against(run, after.against, candidates))
    _second_set(run, options, candidates)
    if "adversarial_set_error" not in options.search.objectives and options.adversarial_set == "auto":
        return None
    found = run.adversarial_set(candidates.data, options.adversarial_set, precision=candidates.precision)
    return _unseen(run, options, candidates, found, "adversarial_set_error")


def _unseen(
    run: Run, options: RocoOptions, candidates: TrainFromScratch, found: AdversarialSet, column: str
) -> AdversarialSet | None:
    """The set, unless its clean images are trained on."""
    from evonas.runs.sets import trained_twins

    twins = trained_twins(found, candidates.data, options.after.train_on)
    if not twins:
        return found
    run.note(f"{column} is left out: with --train-on all, networks are trained on {twins} clean images behind its set")
    return None


def _second_set(run: Run, options: RocoOptions, candidates: TrainFromScratch) -> AdversarialSet | None:
    """The set besides the searched one, read once; None where none is asked for."""
    asked = options.after.second_set
    if not asked:
        return None
    found = run.adversarial_set(candidates.data, asked, precision=candidates.precision)
    return _unseen(run, options, candidates, found, "second_set_error")


def retrain_front(
    run: Run, options: RocoOptions, candidates: TrainFromScratch, found: Result, the_set: AdversarialSet | None
) -> None:
    """Train and score the front, or the networks named, and those of another run, or continue with that.

    In the run's folder `retrained/`: weights, rows.jsonl (what is finished), retrained.csv, tables.md, figure2.png to
    figure6.png.
    """
    from evonas.audit import measurements
    from evonas.report import roco_tables, write_figures, write_retrained
    from evonas.report.retrained import configurations

    after = options.after
    networks = list(_networks(run, after, candidates, found))
    measured = after.measured(the_set, _second_set(run, options, candidates))
    folder, rows = run.audit(networks, measured, _opening(networks, after), "retrained")
    attacks = measurements(after.suite)
    labels = {each.column: each.label for each in attacks}
    fronts = [[row for row in rows if row["configuration"] == name] for name in configurations(rows)]
    chance = _chance(run, options, candidates, the_set)
    tables = roco_tables([row for lightest_first in fronts for row in lightest_first[: after.top]], labels, chance)
    write_retrained(folder, rows, tables, [f"{each.label}: {each.note}." for each in attacks])
    pictures = write_figures(folder, rows, labels, found.searched.data)
    run.screen.tables(tables)
    names = ", ".join(["retrained.csv", "tables.md", *(path.name for path in pictures)])
    run.screen.say(f"written to {folder}: {names}, and the weights")


def _chance(
    run: Run, options: RocoOptions, candidates: TrainFromScratch, the_set: AdversarialSet | None
) -> Chance | None:
    """Level of guessing on the test images, and on those of the set."""
    from evonas.objectives import AdversarialSetError
    from evonas.report import Chance

    n_classes, tested = candidates.data.n_classes, options.after.measured().test_part(candidates.data, run.seed)
    columns = () if the_set is None else AdversarialSetError(the_set).columns(candidates.space, n_classes)
    return Chance.of(n_classes, len(tested), {column.name: column.metadata for column in columns})


def _networks(run: Run, options: RetrainOptions, candidates: TrainFromScratch, found: Result) -> Iterator[AuditNetwork]:
    """The networks of this run, then those of the other one, each the lightest first.

    Raises:
        UnknownNameError: a named network is on neither front.
    """
    from evonas.audit import AuditNetwork, lightest
    from evonas.runs.folder import stored_space

    base = retraining(run, options, candidates)
    sources = [(run.folder, found.searched, base)]
    if options.against is not None:
        other, searched = _against(run, options.against, candidates)
        space = stored_space(other.stored()["identity"]["space"])
        assert space is not None  # of the name of this run's
        space = _at_width(space, options.retrain_channels)
        sources.append((other, searched, replace(base, space=space)))
    names = _names([(source.path, searched) for source, searched, _ in sources])
    unknown = {*options.retrain_networks}
    for name, (source, searched, way) in zip(names, sources, strict=True):
        genomes = _front(source, searched, options.retrain_all)
        networks = {arch_id(genome): AuditNetwork(name, genome, way) for genome in genomes}
        unknown -= networks.keys()
        chosen = networks.keys() & {*options.retrain_networks} if options.retrain_networks else networks.keys()
        yield from lightest([networks[key] for key in networks if key in chosen])
    if unknown:
        raise UnknownNameError(
            f"expected --retrain-networks with arch_ids of the front, got {', '.join(sorted(unknown))}; "
            f"see {run.path / 'front.csv'}"
        )


def retraining(run: Run, options: RetrainOptions, candidates: TrainFromScratch) -> FinalTraining:
    """Training of a network of the run after the search."""
    from evonas.runs.auditing import training_to_the_end

    longer = replace(
        training_to_the_end(run, candidates, None),
        space=_at_width(candidates.space, options.retrain_channels),
        training=options.training(candidates.training),
        train_on=options.train_on,
    )
    if not options.retrain_recipe:
        return longer
    return under_recipe(longer, recipe_within(options.retrain_recipe, options.retrain_recipe_epsilon))


def _at_width(space: Any, channels: int) -> Any:
    """The space at another width of its first block, where it has one."""
    return replace(space, channels=channels) if hasattr(space, "channels") else space


def _against(run: Run, against: str, candidates: TrainFromScratch) -> tuple[RunFolder, Searched]:
    """The other run, and what its tables need. ConfigurationError where the two cannot be compared."""
    from evonas.runs.folder import RunFolder, stored_searched

    other = RunFolder(expanded(against))
    config = other.open_stored()
    if other.path.resolve() == run.path.resolve():
        raise ConfigurationError(f"expected another run with --against, got this one, {against}")
    space, data = config["identity"]["space"], config["identity"]["data"]
    if space["name"] != candidates.space.name:
        raise ConfigurationError(
            f"expected a run over the space {candidates.space.name} with --against, {against} is over {space['name']}"
        )
    if data["fingerprint"] != candidates.data.fingerprint:
        raise ConfigurationError(
            f"expected a run on the same images with --against, {against} has {data['name']} of another fingerprint; "
            "search both with the same data, seed, train_limit and val_limit"
        )
    return other, stored_searched(config)


def _front(source: RunFolder, searched: Searched, every: bool = False) -> list[Genome]:
    """The canonical genomes on a run's front, or of every network that it has scored.

    Raises:
        ConfigurationError: there are none.
    """
    import numpy as np

    from evonas.report import front, population_table

    table = population_table(source.entries(), searched)
    table = table[table["status"] == "ok"] if every else front(table)
    if table.empty:
        raise ConfigurationError(f"expected networks on the front of {source.path}, got none; see population.csv")
    return [np.array(genes.split(), dtype=np.int64) for genes in table["genome"]]


def _names(sources: list[tuple[Path, Searched]]) -> list[str]:
    """Names of the runs in tables: after what was searched, and after their folders where that is the same."""
    costs = {"clean_error", "params", "macs", "flops", "latency_ms"}
    names = ["Baseline-NAS" if costs.issuperset(searched.objectives) else "RoCo-NAS" for _, searched in sources]
    if len(set(names)) < len(names):
        names = [f"{name} ({path.resolve().name})" for name, (path, _) in zip(names, sources, strict=True)]
    return names if len(set(names)) == len(names) else [f"{name} {i}" for i, name in enumerate(names, start=1)]


def _opening(networks: list[AuditNetwork], options: RetrainOptions) -> str:
    from evonas.audit import FinalTraining

    fronts = dict.fromkeys(network.configuration for network in networks)
    found = ", ".join(f"{sum(each.configuration == name for each in networks)} of {name}" for name in fronts)
    training = networks[0].training
    assert isinstance(training, FinalTraining)
    width = f"{options.retrain_channels} channels, " if hasattr(training.space, "channels") else ""
    return (
        f"training networks again ({found}): {width}{options.retrain_epochs} epochs, "
        f"batches of {options.retrain_batch_size}, {recipe_words(training.recipe)}, on {training.images_in_words}"
    )
