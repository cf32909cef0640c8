"""After a search: the lightest networks of its front trained again, scored, and set in the paper's tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from rich.console import Console

from evonas.adversarial_sets import AdversarialSet
from evonas.audit import (
    AtWidth,
    FrontNetwork,
    RetrainedRecords,
    Retraining,
    RetrainingWork,
    Scoring,
    WidthSpace,
    require_libraries,
    suite_columns,
)
from evonas.errors import ConfigurationError, choose
from evonas.evaluation import TrainFromScratch
from evonas.report import (
    Searched,
    front,
    population_table,
    roco_tables,
    write_figures,
    write_retrained,
)
from evonas.runs.folder import RunFolder, stored_searched
from evonas.runs.interrupt import interruptible
from evonas.runs.retrain_screen import RetrainScreen, print_tables
from evonas.runs.search import Plan
from evonas.spaces import SPACES
from evonas.types import Genome

__all__ = ["RetrainSettings", "check_retraining", "retrain_front"]


@dataclass(frozen=True, kw_only=True)
class RetrainSettings:
    """Training the front again after the search (RoCo-NAS, IV-A: post-search optimization), and scoring it."""

    retrain: bool = False
    """After the search, train the lightest networks of the front again and print the paper's tables for them."""
    top: int = 5
    """How many networks of the front: the lightest, by MACs at the width that they are trained again with (IV-C)."""
    retrain_channels: int = 32
    """Their width of the first block (IV-A)."""
    retrain_epochs: int = 120
    """Passes over the train part (IV-A)."""
    retrain_batch_size: int = 128
    """Images of a step (IV-A)."""
    test_limit: int | None = None
    """Score on a class-balanced subset of so many test images."""
    suite: tuple[str, ...] = ("pgd", "fgsm", "bim", "cw", "deepfool")
    """Attacks that they are scored under; cw and deepfool need pip install 'evonas[audit]'."""
    against: str | None = None
    """The folder of another run, such as a Baseline-NAS one: its front is trained, scored and shown beside."""

    def __post_init__(self) -> None:
        for name in ("top", "retrain_channels", "retrain_epochs", "retrain_batch_size"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.test_limit is not None and self.test_limit < 1:
            raise ConfigurationError(f"expected test_limit >= 1, got {self.test_limit}")
        suite_columns(self.suite)
        if len(set(self.suite)) < len(self.suite):
            raise ConfigurationError(f"expected every part of the suite once, got {','.join(self.suite)}")
        if self.against is not None and not self.retrain:
            raise ConfigurationError(f"expected --retrain with --against, got --against {self.against} alone")


def check_retraining(folder: RunFolder, plan: Plan, settings: RetrainSettings) -> None:
    """Raise, before anything is searched or trained, what would stop `retrain_front`.

    Raises:
        ConfigurationError: a library is missing; the run of `against` is none, or of other data or another space.
        DataError: fewer test images asked for than there are classes.
    """
    require_libraries(settings.suite)
    base = _retraining(plan, settings)
    Scoring(test_limit=settings.test_limit).test_part(base.data, base.seed)
    if settings.against is not None:
        other, searched, _ = _against(folder, plan, settings.against)
        _front(other, searched)


def retrain_front(
    folder: RunFolder, plan: Plan, settings: RetrainSettings, adversarial_set: AdversarialSet | None, console: Console
) -> None:
    """Train and score the fronts, or continue with that; write and print what was found.

    In the run's folder `retrained/`: weights, rows.jsonl (what is finished), retrained.csv, tables.md, figure2.png to
    figure6.png.

    Raises:
        EvonasError: see `check_retraining`; or the folder cannot be written, or another process writes it.
        Interrupted: a signal came; the same command continues with the next network.
    """
    check_retraining(folder, plan, settings)
    scoring = Scoring(suite=settings.suite, adversarial_set=adversarial_set, test_limit=settings.test_limit)
    networks = list(_networks(folder, plan, settings))
    with interruptible() as interruption, RetrainedRecords.opened(folder.path / "retrained") as records:
        records.sweep()
        work = RetrainingWork(records, scoring, plan.retry_failed)
        left = _distinct([each for each in networks if work.left(each)], scoring)
        screen = RetrainScreen(console, interruption, left)
        for line in _opening(networks, len(left), settings, records):
            screen.say(line)
        for network in left:
            with screen.showing(network):
                record = work.finish(network, screen.report, screen.say)
            screen.tell(record)
        rows = [work.row(network) for network in networks]
        columns = suite_columns(settings.suite)
        attacks = {column.name: column.label for column in columns}
        tables = roco_tables(rows, attacks)
        write_retrained(records.folder, rows, tables, [f"{column.label}: {column.note}." for column in columns])
        pictures = write_figures(records.folder, rows, attacks, plan.data_name)
    print_tables(console, tables)
    names = ", ".join(["retrained.csv", "tables.md", *(path.name for path in pictures)])
    screen.say(f"written to {records.folder}: {names}, and the weights")


def _retraining(plan: Plan, settings: RetrainSettings) -> Retraining:
    prepare = plan.evaluator.prepare
    if not isinstance(prepare, TrainFromScratch):
        raise ConfigurationError(
            f"expected a search that trains its networks, got {type(prepare).__name__}; run it without --retrain"
        )
    training = replace(prepare.training, epochs=settings.retrain_epochs, batch_size=settings.retrain_batch_size)
    return Retraining(
        space=AtWidth(cast(WidthSpace, plan.space), settings.retrain_channels),
        data=prepare.data,
        training=training,
        seed=plan.search.seed,
        device=prepare.device,
        threads=plan.evaluator.threads,
        recipe=prepare.recipe,
    )


def _against(folder: RunFolder, plan: Plan, against: str) -> tuple[RunFolder, Searched, WidthSpace]:
    """The other run, what its tables need, and its space. ConfigurationError where the two cannot be compared."""
    other = RunFolder(Path(against).expanduser())
    config = other.open_stored()
    if other.path.resolve() == folder.path.resolve():
        raise ConfigurationError(f"expected another run with --against, got this one, {against}")
    space, data = config["identity"]["space"], config["identity"]["data"]
    if space["name"] != plan.space.name:
        raise ConfigurationError(
            f"expected a run over the space {plan.space.name} with --against, {against} is over {space['name']}"
        )
    if data["fingerprint"] != plan.identity["data"]["fingerprint"]:
        raise ConfigurationError(
            f"expected a run on the same images with --against, {against} has {data['name']} of another fingerprint; "
            "search both with the same data, seed, train_limit and val_limit"
        )
    own = {name: value for name, value in space.items() if name != "name"}
    return other, stored_searched(config), choose(SPACES, space["name"], "search space")(**own)


def _networks(folder: RunFolder, plan: Plan, settings: RetrainSettings) -> Iterator[FrontNetwork]:
    """The lightest networks of this run's front, then of the other's."""
    base = _retraining(plan, settings)
    sources = [(folder, plan.searched, base)]
    if settings.against is not None:
        other, searched, space = _against(folder, plan, settings.against)
        sources.append((other, searched, replace(base, space=AtWidth(space, settings.retrain_channels))))
    names = _names([(source.path, searched) for source, searched, _ in sources])
    for name, (source, searched, retraining) in zip(names, sources, strict=True):
        found = [FrontNetwork(name, genome, retraining) for genome in _front(source, searched)]
        yield from sorted(found, key=lambda network: (network.macs, network.arch_id))[: settings.top]


def _front(source: RunFolder, searched: Searched) -> list[Genome]:
    """The canonical genomes on a run's front. ConfigurationError where there are none."""
    table = front(population_table(source.entries(), searched))
    if table.empty:
        raise ConfigurationError(f"expected networks on the front of {source.path}, got none; see population.csv")
    return [np.array(genes.split(), dtype=np.int64) for genes in table["genome"]]


def _distinct(networks: Sequence[FrontNetwork], scoring: Scoring) -> list[FrontNetwork]:
    """Each network once: both fronts may have it."""
    found: dict[tuple[str, str], FrontNetwork] = {}
    for network in networks:
        found.setdefault((network.arch_id, network.scores(scoring)), network)
    return list(found.values())


def _names(sources: Sequence[tuple[Path, Searched]]) -> list[str]:
    """What tables call the runs: after what was searched, and after their folders where that is the same."""
    costs = {"clean_error", "params", "macs", "flops"}
    names = ["Baseline-NAS" if costs.issuperset(searched.objectives) else "RoCo-NAS" for _, searched in sources]
    if len(set(names)) < len(names):
        names = [f"{name} ({path.resolve().name})" for name, (path, _) in zip(names, sources, strict=True)]
    return names if len(set(names)) == len(names) else [f"{name} {i}" for i, name in enumerate(names, start=1)]


def _opening(
    networks: Sequence[FrontNetwork], left: int, settings: RetrainSettings, records: RetrainedRecords
) -> Iterator[str]:
    fronts = dict.fromkeys(network.configuration for network in networks)
    found = ", ".join(f"{sum(each.configuration == name for each in networks)} of {name}" for name in fronts)
    yield (
        f"training the lightest networks of the front again ({found}): {settings.retrain_channels} channels, "
        f"{settings.retrain_epochs} epochs, batches of {settings.retrain_batch_size}; {left} left to do"
    )
    if records.damaged:
        yield f"{records.path} has {records.damaged} line(s) that are not whole; what they recorded is done again"
