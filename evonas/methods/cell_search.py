"""Searches of cells by gradient in a run's folder, as jobs: a checkpoint an epoch, tables and pictures beside it."""

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from evonas.data import Augmentation, Dataset, DevicePart
from evonas.devices import seconds
from evonas.errors import SearchFailedError, StorageError
from evonas.executors import Job, Outcome, Work, run_jobs
from evonas.files import write_json
from evonas.gradient import (
    METRICS,
    BoundLoss,
    CrossEntropy,
    ExpectedCost,
    GradientSearch,
    JacobianLoss,
    Method,
    SearchData,
    SquaredJacobianLoss,
    Sum,
    halves,
)
from evonas.gradient.levels import Levels
from evonas.gradient.losses import Batch, LevelLoss
from evonas.methods.cell_search_words import compact, described, fitted, opening, warning
from evonas.networks.darts import Genotype
from evonas.report import draw_genotype, plot_alpha, plot_search, write_search_csv
from evonas.runs.epochs import EpochLog
from evonas.runs.jobs_screen import JobsScreen
from evonas.runs.run import Run
from evonas.spaces import DartsSpace
from evonas.training.checkpoints import Row, load_checkpoint, train_reporting
from evonas.types import Report, arch_id

__all__ = ["CellSearch", "FoundCells", "find_cells"]

WHAT = "a search by gradient"

PICTURES = (("genotype", "png"), ("alpha", "png"), ("search", "png"), ("genotype", "json"))


@dataclass(frozen=True, kw_only=True)
class CellSearch:
    """Everything that the cells of one search follow from."""

    label: str
    """Part of its file names where a run holds several searches; else empty."""
    repeat: int | None = None
    """Its number, where several searches differ in their seed alone."""
    method: Method
    data: Dataset
    ood_data: Dataset | None
    seed: int
    device: str
    threads: int
    precision: str

    def identity(self) -> dict[str, Any]:
        """Plain values."""
        values = {
            "method": self.method.identity(),
            "data": self.data.fingerprint,
            "others": None if self.ood_data is None else self.ood_data.train.fingerprint,
            "seed": self.seed,
            "device": torch.device(self.device).type,
            "threads": self.threads,
            "precision": self.precision,
        }
        return dict(json.loads(json.dumps(values)))

    @property
    def full_label(self) -> str:
        """Part of its file names, with the number of its repeat."""
        return "-".join(filter(None, (self.label, "" if self.repeat is None else f"r{self.repeat}")))

    def file(self, name: str) -> str:
        """A name of a file, without its ending, that no other search of the run has."""
        return f"{name}-{self.full_label}" if self.full_label else name

    @property
    def name(self) -> str:
        """In tables: the method, then what tells its searches apart."""
        return f"{self.method.name} {self.full_label.removeprefix(self.method.name).strip('-')}".strip()

    @property
    def group(self) -> str:
        """Its name in common with the searches that differ from it in their seed alone."""
        return replace(self, repeat=None).name


@dataclass(frozen=True)
class FoundCells:
    """Cells, and where they come from."""

    name: str
    """In tables, such as `e2rnas-v1 L0.5`, or `darts p2` of the second preference."""
    genotype: Genotype
    seconds: float | None = None
    """Duration of their search; None: unknown."""
    search: CellSearch | None = None
    """It; None: they were found elsewhere."""
    preferences: tuple[int, ...] = ()
    """Numbers, from 1, of the preferences whose cells they are; empty: the search has one architecture."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Names in common with the cells of searches that differ in their seed alone, one of each preference."""
        group = self.name if self.search is None else self.search.group
        return tuple(f"{group} p{number}" for number in self.preferences) or (group,)


def find_cells(run: Run, plans: Sequence[CellSearch]) -> list[FoundCells]:
    """The cells of searches: found in the run's folder, or searched, or continued, on the slots of the run's executor.

    Beside a search's checkpoint: search.csv (one row an epoch), search.png, alpha.png, genotype.json and genotype.png.
    With several preferences search.csv has a row for each in every epoch, the other files exist for each, such as
    genotype-p2.json, and cells that several of them deliver are kept once.

    Raises:
        ConfigurationError: the run is only looked at, and a search is not finished.
        SearchFailedError: some have failed; the others are finished then.
        EvonasError: a checkpoint is another one's, or cannot be read or written.
        Interrupted: a signal came; the same command continues with the epoch that was begun.
    """
    torch.set_num_threads(run.threads)
    logs = {plan.name: _log(run, plan, "" if len(plans) == 1 else f"{plan.name}, ") for plan in plans}
    done = {plan.name: _kept(run, plan, logs[plan.name].begin) for plan in plans}
    left = {plan.name: plan for plan in plans if done[plan.name] < plan.method.epochs}
    if left:
        _search(run, left, logs)
    return [cells for plan in plans for cells in _found(run, plan, fresh=plan.name in left)]


@dataclass(frozen=True)
class _Searches:
    """Work of a worker: one search after another, by their numbers."""

    plans: tuple[CellSearch, ...]

    def make_work(self, report: Report) -> Work:
        def work(number: int, checkpoint: Path) -> str:
            """Search to the last epoch; returns why the checkpoint cannot be kept, or nothing."""
            plan = self.plans[number]
            torch.set_num_threads(plan.threads)
            search, cost = _begin(plan), _counted(plan.method, plan.data.image_size)
            row = partial(_row, search, cost)
            try:
                train_reporting(search, checkpoint, plan.identity(), WHAT, row, plan.name, report, _loss)
            except StorageError as error:  # a disk that is full is no fault of the search
                return str(error)
            return ""

        return work


def _search(run: Run, plans: Mapping[str, CellSearch], logs: Mapping[str, EpochLog]) -> None:
    """Do what is left of the searches, which have names."""

    def update(name: str) -> None:
        _kept(run, plans[name], lambda _, rows: logs[name].add(rows, jobs.estimate))

    todo = [
        Job(name, number, _predicted(plan), run.checkpoint_path(plan.file("search")))
        for number, (name, plan) in enumerate(plans.items())
    ]
    jobs = JobsScreen(run.screen, {job.key: job.predicted for job in todo}, update)
    work, executor = _Searches(tuple(plans.values())), run.executor(deadline=False)
    failed: list[tuple[str, Outcome]] = []
    with run.screen, contextlib.closing(run_jobs(executor, work.make_work, todo, jobs.see)) as finished:
        for job, outcome in finished:
            update(job.key)
            if outcome.value:
                raise StorageError(outcome.value)
            jobs.finish(job.key, "" if outcome.ok else f"  {job.key} failed: {outcome.failure}")
            failed += [] if outcome.ok else [(job.key, outcome)]
    if failed:
        name, outcome = failed[0]
        where = run.folder.log_failure(name, outcome.failure, outcome.traceback)
        several = f"; {len(failed)} of {len(plans)} searches failed, this one is {name}" if len(plans) > 1 else ""
        raise SearchFailedError(f"{outcome.failure}{several}{where}")


def _kept(run: Run, plan: CellSearch, see: Callable[[int, list[Row]], object]) -> int:
    """Finished epochs in the checkpoint of a search; `see` gets them and their rows."""
    content = load_checkpoint(run.checkpoint_path(plan.file("search")), plan.identity(), WHAT)
    epoch, rows = (0, []) if content is None else (content["state"]["epoch"], list(content["rows"]))
    see(epoch, rows)
    return int(epoch)


def _log(run: Run, plan: CellSearch, name: str) -> EpochLog:
    path = run.checkpoint_path(plan.file("search"))
    if not path.exists() and plan.repeat in (None, 1) and run.hardware.here == plan.device:
        run.screen.say(_metric_seconds(plan))
        torch.cuda.empty_cache()  # the searches themselves run in other processes; without CUDA nothing happens
    return EpochLog(
        run,
        path,
        plan.method.epochs,
        WHAT,
        opening(plan, _begin(_on_cpu(plan))),
        described,
        lambda rows: write_search_csv(
            run.path / f"{plan.file('search')}.csv", [part for row in rows for part in _of_each(row)]
        ),
        partial(warning, plan),
        name,
    )


def _found(run: Run, plan: CellSearch, fresh: bool) -> list[FoundCells]:
    """The cells of a finished search; their pictures are drawn where it has just ended or one is missing."""
    content = load_checkpoint(run.checkpoint_path(plan.file("search")), plan.identity(), WHAT)
    assert content is not None
    search, rows = _begin(_on_cpu(plan)), content["rows"]
    search.restore(content["state"])
    labels = _labels(plan)
    complete = all((run.path / f"{plan.file(name)}{each}.{end}").exists() for name, end in PICTURES for each in labels)
    run.note(fitted(plan, search))
    if not run.reading and (fresh or not complete):
        _pictures(run.path, plan, search, rows)
    duration = sum(each["seconds"] for each in rows)
    if plan.method.preferences is None:
        return [FoundCells(plan.name, search.genotype, duration, plan)]
    space = DartsSpace(nodes=plan.method.nodes)
    owners: dict[str, list[int]] = {}
    for number, genotype in enumerate(search.genotypes, start=1):
        owners.setdefault(arch_id(space.canonical(space.from_genotype(genotype))), []).append(number)
    for numbers in owners.values():
        if len(numbers) > 1:
            words = f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
            run.note(f"{plan.name}: preferences {words} deliver the same cells, which are kept once")
    return [
        FoundCells(f"{plan.name} p{first}", search.genotypes[first - 1], duration, plan, (first, *others))
        for first, *others in owners.values()
    ]


def _labels(plan: CellSearch) -> list[str]:
    """Ending of the name of each architecture's files; empty where there is one."""
    if plan.method.preferences is None:
        return [""]
    return [f"-p{number}" for number in range(1, plan.method.architectures + 1)]


def _of_each(row: Row) -> list[Row]:
    """Rows of the preferences in an epoch's row; the row itself where there are none."""
    common = {name: value for name, value in row.items() if name not in ("preferences", "train_loss")}
    parts = row.get("preferences")
    if parts is None:
        return [row]
    first = {name: common.pop(name) for name in ("epoch", "stage")}
    return [{**first, "preference": number, **common, **part} for number, part in enumerate(parts, start=1)]


def _on_cpu(plan: CellSearch) -> CellSearch:
    """The search where it is only looked at: a GPU's memory is for those that search."""
    return replace(plan, device="cpu")


def _predicted(plan: CellSearch) -> float:
    """Cost of a search beside that of others on the same data: channels, cells, and gradients of a step."""
    method = plan.method
    gradients = 1 + len(method.upper) * (1 if method.config.order == 1 else 4)
    return gradients * sum(stage.epochs * stage.layers * stage.channels**2 for stage in method.stages) / method.partial


def _loss(row: Mapping[str, Any]) -> str:
    return f", loss {row['train_loss']:.3f}"


def _begin(plan: CellSearch) -> GradientSearch:
    """The search before its first epoch."""
    device = torch.device(plan.device)
    below, above = halves(DevicePart(plan.data.train, device), plan.method.config.portion)
    ood = None if plan.ood_data is None else DevicePart(plan.ood_data.train, device)
    data = SearchData(
        below, above, ood, Augmentation(flip=plan.data.flip), plan.data.n_classes, plan.data.normalization
    )
    return GradientSearch(plan.method, data, plan.seed, device, plan.precision)


def _metric_seconds(plan: CellSearch) -> str:
    """A line with the seconds of each robustness metric on the first batch (DSRNA, 4.3.1); empty without a metric.

    The metric that is searched with keeps its settings; the other one has its own defaults and as many images.
    """
    parts = [part for loss in plan.method.upper for part in getattr(loss, "parts", (loss,))]
    own = next((part for part in parts if isinstance(part, BoundLoss | JacobianLoss | SquaredJacobianLoss)), None)
    if own is None:
        return ""
    search = _begin(plan)
    images = own.images or plan.method.config.search_batch_size
    metrics = {name: own if name == own.name else replace(each, images=own.images) for name, each in METRICS.items()}
    below, above = next(search.batches())
    _seconds_of(search.levels, (CrossEntropy(),), below, above)  # the first one is slow
    alone = _seconds_of(search.levels, (CrossEntropy(),), below, above)
    labels, words = {"bound": "certified bound", "jacobian": "Jacobian"}, []
    for name, metric in metrics.items():
        try:
            seconds = _seconds_of(search.levels, (Sum((metric, CrossEntropy())),), below, above)
        except torch.OutOfMemoryError:
            words.append(f"{labels[name]}: no room")
        else:
            words.append(f"{labels[name]} {seconds - alone:.3g} s")
    return (
        f"a step of the architecture: validation loss {alone:.3g} s, besides {', '.join(words)} "
        f"({images} images, each measured once)"
    )


def _seconds_of(levels: Levels, upper: tuple[LevelLoss, ...], below: Batch, above: Batch) -> float:
    """Seconds of one gradient of the architecture under these upper losses; changes nothing."""
    method = replace(levels.method, upper=upper)
    trial = Levels(method, levels.supernet, levels.architecture, levels.precision)
    trial.begin_epoch(levels.rate, 0.0, torch.Generator(levels.device).manual_seed(0))
    batch = replace(above, epsilon=trial.epsilon)
    return _seconds(lambda: trial.upper_gradients(below, batch), levels.device)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    started = seconds(device)
    work()
    return seconds(device) - started


def _counted(method: Method, image_size: int) -> ExpectedCost:
    """N-hat as the method counts it; at the scale of DARTS's evaluation where it does not."""
    found = [loss for loss in method.upper if isinstance(loss, ExpectedCost) and loss.kind == "params"]
    return found[0] if found else method.counted or ExpectedCost(nodes=method.nodes, image_size=image_size)


def _row(search: GradientSearch, cost: ExpectedCost, values: Mapping[str, Any]) -> Row:
    """An epoch that has just ended, of which the search itself gave `values`; of several preferences it has parts."""
    row: Row = {"epoch": search.epoch, "stage": search.method.place(search.epoch - 1)[0] + 1, **values}
    if search.method.preferences is None:
        return {**row, **_architecture(search.history[-1], cost, search.genotype)}
    parts = [
        {**part, **_architecture(probabilities, cost, genotype)}
        for part, probabilities, genotype in zip(
            values["preferences"], search.history[-1], search.genotypes, strict=True
        )
    ]
    losses = [part["train_loss"] for part in parts if "train_loss" in part]
    return {**row, "train_loss": sum(losses) / len(losses), "preferences": parts}


def _architecture(probabilities: torch.Tensor, cost: ExpectedCost, genotype: Genotype) -> Row:
    """Columns on an architecture after an epoch."""
    normal, reduce = (_entropy(cell) for cell in probabilities.double())
    return {
        "entropy_normal": normal,
        "entropy_reduce": reduce,
        "expected_params": float(cost.expected(probabilities.double())),
        "genotype": compact(genotype),
    }


def _entropy(probabilities: torch.Tensor) -> float:
    """Mean over edges, in nats; log 8 where all operations are alike."""
    return float(torch.special.entr(probabilities).sum(dim=-1).mean())


def _pictures(folder: Path, plan: CellSearch, search: GradientSearch, rows: list[Row]) -> None:
    for number, (label, genotype) in enumerate(zip(_labels(plan), search.genotypes, strict=True)):
        values = {
            "normal": [list(pair) for pair in genotype.normal],
            "normal_concat": list(genotype.normal_concat),
            "reduce": [list(pair) for pair in genotype.reduce],
            "reduce_concat": list(genotype.reduce_concat),
        }
        write_json(folder / f"{plan.file('genotype')}{label}.json", values)
        title = f"{plan.name}{label.replace('-', ' ')} on {plan.data.name}"
        draw_genotype(folder / f"{plan.file('genotype')}{label}.png", genotype, title)
        history = [step if plan.method.preferences is None else step[number] for step in search.history]
        plot_alpha(folder / f"{plan.file('alpha')}{label}.png", [step.numpy() for step in history])
        own = [_of_each(row)[number] for row in rows]
        plot_search(folder / f"{plan.file('search')}{label}.png", own)
