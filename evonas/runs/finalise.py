"""After a one-shot search: its front trained to the end, scored, and set beside hand-made networks (TAM-NAS, III-F)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from evonas.audit import (
    Finalising,
    FinalNetwork,
    HandmadeSpace,
    RetrainedRecords,
    RetrainingWork,
    layer_counts,
    lego_genome,
)
from evonas.data import Dataset
from evonas.errors import ConfigurationError
from evonas.evaluation import SliceSupernet, SupernetWeights
from evonas.networks import HANDMADE
from evonas.objectives import CleanError, PGDError
from evonas.objectives.attack_error import described
from evonas.report import (
    TextTable,
    agreement_table,
    folded,
    front,
    handmade_table,
    layer_table,
    plot_layers,
    population_table,
    rank_agreement,
    transfer_table,
    write_finalised,
    write_layers,
)
from evonas.runs.finalise_settings import FinaliseSettings
from evonas.runs.folder import RunFolder
from evonas.runs.interrupt import interruptible
from evonas.runs.retrain_screen import RetrainScreen, print_tables
from evonas.runs.search import Plan
from evonas.spaces import ShuffleSpace
from evonas.training import resolve_precision
from evonas.types import Genome

__all__ = ["FinaliseSettings", "check_finalising", "check_scores", "finalise_front", "ranked"]

ERRORS = (CleanError.name, PGDError.name)
"""What the search must have measured: the top networks are the best by these."""


def check_finalising(plan: Plan, settings: FinaliseSettings) -> None:
    """Raise, before anything is trained, what would stop `finalise_front`.

    Raises:
        ConfigurationError: the search inherits no weights, or does not measure what its networks are ranked by.
        DataError: fewer test images asked for than there are classes.
    """
    prepare, space = plan.evaluator.prepare, plan.space
    if not isinstance(prepare, SliceSupernet) or not isinstance(space, ShuffleSpace):
        raise ConfigurationError(
            f"expected a search of slices of a supernet to finalise, got {type(prepare).__name__} over {space.name}"
        )
    check_scores(plan.columns, settings, prepare.data, plan.search.seed)


def check_scores(measured: Collection[str], settings: FinaliseSettings, data: Dataset, seed: int) -> None:
    """What `check_finalising` can say before there is a supernet.

    Args:
        measured: columns of the search.
    """
    missing = [name for name in ERRORS if name not in measured]
    if missing:
        raise ConfigurationError(
            f"expected a search that measures {' and '.join(ERRORS)}, {', '.join(missing)} is missing; "
            f"search with --objectives {','.join((*ERRORS, 'params'))}"
        )
    settings.grid.test_part(data, seed)


def ranked(measured: Collection[str]) -> bool:
    """Whether a search with these columns has what its top networks are the best by."""
    return all(name in measured for name in ERRORS)


def finalise_front(
    folder: RunFolder, plan: Plan, settings: FinaliseSettings, weights: SupernetWeights, console: Console
) -> None:
    """Count the layers of the best networks, train and score the front, or continue with that; write and print it.

    In the run's folder `finalised/`: layer_statistics.csv and .png, and where anything is to be trained the weights,
    rows.jsonl (what is finished), finalised.csv and tables.md.

    Args:
        weights: the supernet's, that fine-tuning starts from.
    Raises:
        EvonasError: see `check_finalising`; or the folder cannot be written, or another process writes it.
        Interrupted: a signal came; the same command continues with the next network.
    """
    check_finalising(plan, settings)
    space = plan.space
    assert isinstance(space, ShuffleSpace)
    found = _front(folder, plan)
    top = [each.genome for each in found[: settings.layers_top]]
    counts, networks = layer_counts(space, top), _networks(plan, settings, weights, found, lego_genome(space, top))
    with interruptible() as interruption, RetrainedRecords.opened(folder.path / "finalised") as records:
        records.sweep()
        write_layers(records.folder, counts)
        plot_layers(records.folder / "layer_statistics.png", counts, len(top), plan.data_name)
        works = [RetrainingWork(records, grid, plan.retry_failed) for grid in settings.grids]
        left = _left(works, networks)
        screen = RetrainScreen(console, interruption, left)
        for line in _opening(networks, len(left), settings, records):
            screen.say(line)
        for network in left:
            with screen.showing(network):
                _finish(works, network, screen)
        tables = [*_tables(works, networks, plan, settings, found), layer_table(counts, len(top))]
        if networks:
            write_finalised(records.folder, [_row(works, each) for each in networks], tables)
    for table in tables:
        print_tables(console, folded(table, console.width, 3) if table.header[0] == "Network" else [table])
    names = "finalised.csv, tables.md, the weights, " if networks else ""
    screen.say(f"written to {records.folder}: {names}layer_statistics.csv, layer_statistics.png")


class OnFront(NamedTuple):
    """A network of the front, as the search found it."""

    genome: Genome
    """Canonical."""
    values: Mapping[str, Any]
    """Its row of the front: arch_id, the measured columns."""


def _front(folder: RunFolder, plan: Plan) -> list[OnFront]:
    """The front, the smallest sum of ranks by clean and by PGD error first, of equal ones by arch_id.

    A rank is the number of the front's networks that are better. ConfigurationError where the front is empty.
    """
    table = front(population_table(folder.entries(), plan.searched))
    rows = [dict(zip(table.columns, values, strict=True)) for values in table.to_numpy().tolist()]
    if not rows:
        raise ConfigurationError(f"expected networks on the front of {folder.path}, got none; see population.csv")

    def ranks(row: Mapping[str, Any]) -> int:
        return sum(other[name] < row[name] for name in ERRORS for other in rows)

    ordered = sorted(rows, key=lambda row: (ranks(row), row["arch_id"]))
    return [OnFront(np.array(row["genome"].split(), dtype=np.int64), row) for row in ordered]


def _networks(
    plan: Plan, settings: FinaliseSettings, weights: SupernetWeights, found: Sequence[OnFront], lego: Genome
) -> list[FinalNetwork]:
    """Everything that is to be trained, in the order of the tables."""
    prepare, space = plan.evaluator.prepare, plan.space
    assert isinstance(prepare, SliceSupernet)
    assert isinstance(space, ShuffleSpace)
    if not settings.finalise:
        return []
    precision, _ = resolve_precision(settings.finalise_precision, torch.device(prepare.device), depthwise=True)
    scratch = Finalising(
        space=space,
        data=prepare.data,
        training=settings.training(precision),
        recipe=settings.recipe(),
        seed=plan.search.seed,
        device=prepare.device,
        threads=plan.evaluator.threads,
    )
    ways = {"scratch": scratch, "finetune": replace(scratch, inherited=weights)}
    chosen = [way for mode, way in ways.items() if settings.finalise in (mode, "both")]
    genomes = [(each.genome, "") for each in found[: settings.finalise_top]]
    genomes += [(lego, "Lego-Net")] if settings.lego else []
    networks = [
        FinalNetwork(f"{name or 'the front'} ({way.mode})", genome, way, name)
        for genome, name in genomes
        for way in chosen
    ]
    for name in settings.handmade:
        own = HandmadeSpace(name, settings.handmade_width, prepare.data.image_size)
        way = replace(scratch, space=own)
        called = name if own.width == 1 else f"{name}-x{own.width:g}"
        networks.append(FinalNetwork("Table X (scratch)", np.empty(0, dtype=np.int64), way, called))
    return networks


def _left(works: Sequence[RetrainingWork], networks: Sequence[FinalNetwork]) -> list[FinalNetwork]:
    """Networks that there is something to do for, each once: Lego-Net may be on the front."""
    left: dict[tuple[str, str], FinalNetwork] = {}
    for network in networks:
        if any(work.left(network) for work in works):
            left.setdefault((network.arch_id, network.training), network)
    return list(left.values())


def _finish(works: Sequence[RetrainingWork], network: FinalNetwork, screen: RetrainScreen) -> None:
    """Train and score a network; one that diverged in training is not scored, one that diverged in a score goes on."""
    for work in works:
        if work.left(network):
            record = work.finish(network, screen.report, screen.say)
            screen.tell(record)
            if record["status"] == "failed" and record["kind"] == "trained":
                return


def _row(works: Sequence[RetrainingWork], network: FinalNetwork) -> dict[str, Any]:
    """Everything recorded of a network; it failed where any of it did."""
    rows = sorted((work.row(network) for work in works), key=lambda row: str(row["status"]), reverse=True)  # ok first
    assert isinstance(network.retraining, Finalising)
    space = network.retraining.space
    paper = HANDMADE[space.name].paper_params if isinstance(space, HandmadeSpace) else None
    merged = {name: value for row in rows for name, value in row.items()}
    return {**merged, "name": network.name or network.arch_id, "paper_params": paper}


def _tables(
    works: Sequence[RetrainingWork],
    networks: Sequence[FinalNetwork],
    plan: Plan,
    settings: FinaliseSettings,
    found: Sequence[OnFront],
) -> Iterator[TextTable]:
    """Table II, Table X where there are hand-made networks, and the rank agreement; none without networks."""
    if not networks:
        return
    rows = [_row(works, network) for network in networks]
    images = len(settings.grid.test_part(plan.evaluator.prepare.data, plan.search.seed))
    note = (
        f"P10 8/255: accuracy on {images} test images under PGD made against the very network (white-box, L-inf) with "
        f"10 steps and epsilon 8/255; it begins at the clean image, its steps are {255 * settings.test_step_size:g}/255"
        ", and the last iterate counts."
    )
    labels, *others = (grid.labels for grid in settings.grids)
    yield transfer_table(rows, labels, [note, supernet_note(plan.settings)], plan.data_name)
    for more in others:
        yield handmade_table(rows, more, [note])
    pgd = next(part.attack for part in plan.evaluator.objectives if isinstance(part, PGDError))
    counted = "any iterate" if pgd.stop_when_fooled else "last iterate"
    names = {CleanError.name: "clean", PGDError.name: f"{described(pgd)}, {counted}", **labels}
    columns = settings.grid.columns
    closest = min(
        columns, key=lambda name: (abs(columns[name].epsilon - pgd.epsilon), abs(columns[name].steps - pgd.steps))
    )
    inherited = {each.values["arch_id"]: each.values for each in found}
    pairs = {CleanError.name: CleanError.name, PGDError.name: closest}
    yield agreement_table(rank_agreement(rows, inherited, pairs), names)


def supernet_note(settings: Mapping[str, Any]) -> str:
    """Which supernet the networks come from: the first column of Tables II to V."""
    width = "2S" if settings.get("intermediate") == 2 else "S"
    if "supernet_recipe" not in settings:
        return f"Supernet: {width}."
    if settings["supernet_recipe"] == "standard":
        return f"Supernet: {width}, trained on clean images."
    epsilon, steps = 255 * settings["supernet_epsilon"], settings["supernet_steps"]
    return f"Supernet: {width}, trained by {settings['supernet_recipe']} against {steps} steps within {epsilon:g}/255."


def _opening(
    networks: Sequence[FinalNetwork], left: int, settings: FinaliseSettings, records: RetrainedRecords
) -> Iterator[str]:
    if networks:
        found = dict.fromkeys(network.configuration for network in networks)
        numbers = ", ".join(f"{sum(each.configuration == name for each in networks)} of {name}" for name in found)
        yield (
            f"training to the end ({numbers}): TRADES-YOPO-{settings.finalise_m}-{settings.finalise_n}, "
            f"{settings.finalise_epochs} epochs, batches of {settings.finalise_batch_size}; {left} left to do"
        )
    if records.damaged:
        yield f"{records.path} has {records.damaged} line(s) that are not whole; what they recorded is done again"
