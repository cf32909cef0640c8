"""The audit of a run on disk: its networks as searched or trained to the end, measured, compared with the search."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from evonas.errors import ConfigurationError, check_name, choose
from evonas.files import storage_errors, take_lock
from evonas.ranges import COUNT, IMAGES, Range, check_ranges
from evonas.types import TrainOn

if TYPE_CHECKING:
    from rich.console import Console

    from evonas.adversarial_sets import AdversarialSet
    from evonas.audit import AuditNetwork, FinalTraining, Measured, Measurement
    from evonas.data import Dataset
    from evonas.methods.stored import Reopened
    from evonas.report import AuditFiles
    from evonas.runs.execution import ExecutionOptions
    from evonas.runs.result import Result

__all__ = ["AuditPlan", "StoredAudit", "audit_run", "wanted_measurements"]


@dataclass(frozen=True, kw_only=True)
class AuditPlan:
    """Measurements, the images that they are made on, and the weights that networks have."""

    measure: tuple[str, ...] = ("quick",)
    """quick, standard, full, or names of measurements."""
    images: Annotated[int, IMAGES] = 1000
    """Test images, class-balanced, the same for every network; all where there are fewer."""
    epsilon: Annotated[float, Range(above=0, most=1, pixels=True)] = 8 / 255
    """L-inf radius of the attacks that have none of their own, on the [0, 1] scale."""
    replicates: Annotated[int, COUNT] = 1
    """Trainings of every network, each from a seed of its own; means and deviations go into audit.json."""
    adversarial_set: str = ""
    """File of a set for the measurement adversarial_set; by default that of the search."""
    train: bool = False
    """Train the networks to the end, as the run's own method does after its search, instead of as searched."""
    epochs: Annotated[int | None, COUNT] = None
    """With --train: passes over the images; by default those that the run's settings state."""
    train_on: TrainOn | None = None
    """With --train: the images, the train part, or all but the test images; by default as the run's settings state.
    With all, an adversarial set is not scored whose clean images are among them."""
    searched_size: bool = False
    """With --train: as wide and deep as in the search, instead of as the run's settings state for this training."""
    recipe: str = ""
    """With --train: another loss: standard, pgd_at, trades, trades_awp, trades_yopo, fast_adversarial, ibp, crown_ibp,
    gaussian, a plugin's."""
    recipe_epsilon: Annotated[float | None, Range(above=0, most=1, pixels=True)] = None
    """Radius of that recipe's attack; its own by default."""
    average: Literal["", "none", "ema", "swa"] = ""
    """With --train: weights that it delivers: its last ones, their exponential moving average (ema), or the mean of its
    last epochs' (swa); by default as the run's settings state."""
    published: bool = False
    """With --recipe: epochs, batches, learning rate, decay and schedule of that recipe's paper (CIFAR-10); the schedule
    in proportion to --epochs."""

    def __post_init__(self) -> None:
        check_ranges(self)
        for name in ("epochs", "train_on", "searched_size", "recipe", "recipe_epsilon", "average", "published"):
            if getattr(self, name) and not self.train:
                flag = name.replace("_", "-")
                raise ConfigurationError(f"expected --train with --{flag}: weights of the search are as they are")
        if self.recipe_epsilon is not None and not self.recipe:
            raise ConfigurationError("expected --recipe with --recipe-epsilon, which is the radius of its attack")
        if self.recipe_epsilon is not None:
            from evonas.training import RECIPES

            if not hasattr(choose(RECIPES, self.recipe, "recipe"), "epsilon"):
                raise ConfigurationError(f"expected a recipe with a radius for --recipe-epsilon, got {self.recipe}")
        if self.published and not self.recipe:
            raise ConfigurationError("expected --recipe with --published, which is the training of its paper")
        if self.published:
            from evonas.training.published import PUBLISHED, published_training

            choose(PUBLISHED, self.recipe, "recipe with a published training")
            published_training(self.recipe, self.epochs)
        if not self.measure:
            raise ConfigurationError("expected measurements with --measure, got none; quick is the shortest list")


@dataclass(frozen=True)
class StoredAudit:
    """A finished audit: what stands in audit.csv and audit.json, and what shows it."""

    files: AuditFiles
    rows: list[dict[str, Any]]
    """Rows of the networks that were asked for."""
    columns: dict[str, str]
    """Measured column -> its heading."""
    checked: bool
    """Whether gradients were looked at."""
    title: str
    n_classes: int
    trainings: Mapping[str, FinalTraining] = field(default_factory=dict)
    """arch_id -> its training to the end, where it was trained so."""
    folder: str = ""
    """Folder of these weights, inside the run's."""

    def weights(self, key: str) -> str:
        """Name of the weights that were measured, as `Result.load` takes it."""
        return f"{self.folder}/{self.trainings[key].digest[:8]}" if key in self.trainings else "search"


def audit_run(
    result: Result,
    names: Sequence[str] = (),
    plan: AuditPlan | None = None,
    execution: ExecutionOptions | None = None,
    *,
    plugin: Sequence[str] = (),
    data: str = "",
    retry_failed: bool = False,
    console: Console | None = None,
) -> StoredAudit:
    """Audit networks of a run, or continue with that; audit.csv and audit.json in its folder.

    Args:
        result: of `evonas.open_run`, or what a script's own search gave: then whatever parts it is composed of.
        names: arch_ids of rows with status ok, or `best`; none: the front.
        plan: the quick measurements of networks as searched by default.
        execution: device, threads and executor; by default what is there.
    Raises:
        UnknownNameError: there is no such network or measurement.
        ConfigurationError: a library is missing, or the run cannot be audited so.
        EvonasError: see `Run.audit`.
        Interrupted: a signal came; the same command goes on.
    """
    from evonas.audit import require_libraries
    from evonas.methods.stored import reopened
    from evonas.runs.execution import ExecutionOptions

    plan = plan or AuditPlan()
    result.refuse_without_weights()
    genomes = _genomes(result, names)
    wanted = wanted_measurements(plan, result)
    require_libraries(wanted[0], "--measure")
    composed = result.evaluator if result.begun_here else None
    run = reopened(result.folder, execution or ExecutionOptions(), plugin, data, retry_failed, console, composed)
    with run as found, _alone(result):
        return _audited(found, result, genomes, plan, wanted)


def _audited(
    found: Reopened,
    result: Result,
    genomes: dict[str, int],
    plan: AuditPlan,
    wanted: tuple[tuple[Measurement, ...], bool],
) -> StoredAudit:
    """The audit of networks of an opened run; arguments as of `_genomes` and `wanted_measurements`."""
    from evonas.audit import lightest

    seeds = range(1, plan.replicates + 1)
    networks = [list(lightest([*_networks(found, result, genomes, plan, seed)])) for seed in seeds]
    measured = _measured(plan, found, *wanted, networks[0])
    data, folder = found.prepare.data, found.module.TRAINED if plan.train else "audit/search"
    images = len(measured.test_part(data, found.run.seed))
    every = [network for of_seed in networks for network in of_seed]
    _, rows = found.run.audit(every, measured, _opening(plan, result, every, images), folder)
    beside = {"weights": "audit" if plan.train else "search", "images": images, "epsilon": plan.epsilon}
    rows = [{**row, **beside, **_training(network)} for row, network in zip(rows, every, strict=True)]
    repeats = [rows[at :: len(genomes)] for at in range(len(genomes))]
    files = _written(result, plan, repeats, data, images)
    shown = _shown(measured, plan, result, len(genomes), images)
    trainings: dict[str, Any] = {each.arch_id: each.training for each in networks[0]} if plan.train else {}
    return StoredAudit(files, rows[: len(genomes)], *shown, data.n_classes, trainings, folder)


def _shown(
    measured: Measured, plan: AuditPlan, result: Result, networks: int, images: int
) -> tuple[dict[str, str], bool, str]:
    """Measured column -> its heading, whether gradients were looked at, and the title of the table."""
    from evonas.audit.gradient_check import GRADIENT_CHECK

    columns = {each.column: each.label.split(",")[0] for each in measured.measurements}
    checked = columns.pop(GRADIENT_CHECK, None) is not None
    weights, searched = "trained to the end" if plan.train else "as searched", result.searched
    title = f"{searched.method} on {searched.data}, {networks} networks {weights}, {images} test images"
    return columns, checked, title


@contextlib.contextmanager
def _alone(result: Result) -> Iterator[None]:
    """No other process audits the run meanwhile: each keeps the rows of all earlier ones."""
    lock = result.path / "audit.lock"
    with storage_errors(f"write {lock}"):
        file = open(lock, "ab")  # noqa: SIM115
    with file:
        take_lock(file, result.path / "audit.csv")
        yield


def _genomes(result: Result, names: Sequence[str]) -> dict[str, int]:
    """arch_id -> seed of its evaluation, each once."""
    asked = [*names] or [str(name) for name in result.front["arch_id"]]
    if not asked:
        raise ConfigurationError(f"expected networks on the front of {result.path}, got none; see population.csv")
    return {entry.key: entry.result.seed for entry in map(result.entry, asked)}


def wanted_measurements(plan: AuditPlan, result: Result) -> tuple[tuple[Measurement, ...], bool]:
    """Measurements besides the adversarial set, and whether that is measured, too.

    Raises:
        UnknownNameError: there is no such measurement.
        ConfigurationError: there is no adversarial set.
    """
    from evonas.attacks import ATTACKS
    from evonas.audit import MEASUREMENTS, SET, SUITES, measurements, suite_names, within

    for name in plan.measure:
        check_name({**SUITES, **MEASUREMENTS, **dict.fromkeys(ATTACKS), SET: ()}, name, "measurement")
    has_set = bool(plan.adversarial_set) or "adversarial_set_error" in result.searched.columns
    names = suite_names(plan.measure, has_set)
    if SET in names and not has_set:
        raise ConfigurationError(
            f"expected a file with --adversarial-set for {SET}: {result.path} was not searched on one"
        )
    if plan.adversarial_set and SET not in names:
        raise ConfigurationError("expected --measure with adversarial_set, standard or full for --adversarial-set")
    found = measurements([name for name in names if name != SET])
    return tuple(within(each, plan.epsilon) for each in found), SET in names


def _measured(
    plan: AuditPlan,
    found: Reopened,
    wanted: tuple[Measurement, ...],
    scored: bool,
    networks: Sequence[AuditNetwork],
) -> Measured:
    from evonas.audit import SET, AdversarialSetShare, Measured, Measurement
    from evonas.objectives import AdversarialSetError, Timed

    on_the_set, asked = [], plan.adversarial_set
    scores = [each.objective if isinstance(each, Timed) else each for each in found.objectives]
    own = [each.adversarial_set for each in scores if isinstance(each, AdversarialSetError)]
    if scored and (asked or own):
        the_set = found.run.adversarial_set(found.prepare.data, asked) if asked else own[0]
        if _unseen(plan, found, the_set, networks):
            on_the_set = [Measurement("adversarial_set_error", "Adversarial set", AdversarialSetShare(the_set))]
    elif scored:
        unknown = f"the set of the script behind {found.run.path} is not known here"
        if SET in plan.measure:
            raise ConfigurationError(f"expected a file with --adversarial-set for {SET}: {unknown}")
        found.run.note(f"{SET} is left out: {unknown}; --adversarial-set FILE says where it is")
    parts = (*wanted, *on_the_set)
    return Measured(measurements=parts, test_limit=plan.images, seed=found.run.seed, per_image=True)


def _unseen(plan: AuditPlan, found: Reopened, the_set: AdversarialSet, networks: Sequence[AuditNetwork]) -> bool:
    """Whether no network is trained on the clean images behind the set; where one is, a line says that it is left out.

    Raises:
        ConfigurationError: the set was asked for by its name or file.
    """
    from evonas.audit import SET
    from evonas.runs.sets import trained_twins

    ways = {each.train_on for each in _trainings(networks)}
    twins = max((trained_twins(the_set, found.prepare.data, way) for way in ways), default=0)
    if twins and (plan.adversarial_set or SET in plan.measure):
        raise ConfigurationError(
            f"expected --train-on train with --measure {SET}: with all, networks are trained on {twins} clean images "
            "behind this set, and its error is no held-out one"
        )
    if twins:
        found.run.note(
            f"{SET} is left out: with --train-on all, networks are trained on {twins} clean images behind it"
        )
    return not twins


def _trainings(networks: Sequence[AuditNetwork]) -> list[FinalTraining]:
    """Trainings to the end."""
    from evonas.audit import FinalTraining

    return [each.training for each in networks if isinstance(each.training, FinalTraining)]


def _networks(
    found: Reopened, result: Result, genomes: dict[str, int], plan: AuditPlan, replicate: int
) -> Iterator[AuditNetwork]:
    """Every network with its training; the first replicate is the search's own, or the method's."""
    import numpy as np

    from evonas.audit import AsSearched, AuditNetwork
    from evonas.files import exists
    from evonas.runs.keeping import search_provenance
    from evonas.seeding import derive_seed

    run, prepare = found.run, found.prepare
    of_search = search_provenance(run.stored["identity"], prepare)
    label = result.searched.method if replicate == 1 else f"{result.searched.method}, seed {replicate}"
    for key, seed in genomes.items():
        genome = np.array(result.entry(key).result.genome, dtype=np.int64)
        if plan.train:
            training = _as_planned(found.module.to_the_end(run, found.options, prepare, genome), plan, prepare.space)
            if replicate > 1:
                training = replace(training, seed=derive_seed(training.seed, "replicate", replicate))
            yield AuditNetwork(label, genome, training)
            continue
        seed = seed if replicate == 1 else derive_seed(seed, "replicate", replicate)
        searched = AsSearched(prepare=prepare, provenance=of_search, seed=seed, device=run.device, threads=run.threads)
        kept = result.folder.weights(key)
        yield AuditNetwork(label, genome, searched, kept=kept if replicate == 1 and exists(kept) else None)


def _as_planned(training: Any, plan: AuditPlan, searched: Any) -> Any:
    """The training with the plan's size, images, recipe, epochs and average.

    Args:
        searched: space of the search.
    """
    from evonas.methods.recipes import under_recipe
    from evonas.training import recipe_within
    from evonas.training.published import published_training

    if plan.searched_size:
        training = replace(training, space=searched)
    if plan.train_on is not None:
        training = replace(training, train_on=plan.train_on)
    if plan.recipe:
        training = under_recipe(training, recipe_within(plan.recipe, plan.recipe_epsilon))
    own = training.training
    settings = published_training(plan.recipe, plan.epochs) if plan.published else own
    settings = replace(
        settings,
        epochs=plan.epochs or settings.epochs,
        precision=own.precision,
        average=plan.average or own.average,
        average_decay=own.average_decay,
        average_from=own.average_from,
    )
    return replace(training, training=settings)


def _training(network: AuditNetwork) -> dict[str, str]:
    """Columns that tell a network's trainings to the end apart."""
    from evonas.audit import FinalTraining
    from evonas.parts import part_name

    training = network.training
    if not isinstance(training, FinalTraining):
        return {}
    own = {"recipe": part_name(training.recipe), "training": training.digest[:8]}
    return {**own, "train_on": training.train_on}


def _opening(plan: AuditPlan, result: Result, networks: Sequence[AuditNetwork], images: int) -> str:
    """The line before anything is done: what is measured, and how long giving weights takes."""
    words = f"auditing {len(networks)} networks of {result.path} on {images} test images ({', '.join(plan.measure)})"
    if plan.train:
        epochs = ", ".join(str(each) for each in dict.fromkeys(network.training.epochs for network in networks))
        on = dict.fromkeys(each.images_in_words for each in _trainings(networks))
        return f"{words}, trained to the end ({epochs} epochs on {', '.join(on)}{_falls(plan, networks)})"
    again = [network for network in networks if network.kept is None]
    seconds = sum(result.entry(network.arch_id).result.seconds for network in again)
    without = f"; no weights are kept of {len(again)}: trained again from their seeds, {seconds:.0f} s in the search"
    return words + (without if again else "")


def _falls(plan: AuditPlan, networks: Sequence[AuditNetwork]) -> str:
    """When the learning rate of a published training falls, where --epochs has moved that."""
    milestones = _trainings(networks)[0].training.milestones
    if not plan.published or plan.epochs is None or not milestones:
        return ""
    return f", the learning rate falls to a tenth after {' and '.join(map(str, milestones))}"


def _written(
    result: Result, plan: AuditPlan, repeats: Sequence[Sequence[dict[str, Any]]], data: Dataset, images: int
) -> AuditFiles:
    """Write audit.csv and audit.json, with the rows of earlier audits of other networks or weights."""
    from evonas.audit import Scores, changes, compared, intervals, on_front, replicated
    from evonas.report import AuditFiles, with_earlier, write_audit
    from evonas.report.audit_files import shown_row

    rows = [of_network[0] for of_network in repeats]
    searched = result.searched
    values = {row["arch_id"]: result.entry(row["arch_id"]).result.objectives for row in rows}
    scores = Scores(values, searched.objectives, searched.maximize, searched.reference)
    whole = [of_network for of_network in repeats if all(row["status"] == "ok" for row in of_network)]
    fine = [of_network[0] for of_network in whole]
    columns = [name for name in _numbers(rows) if name.endswith(("_error", "ece", "radius_linf", "radius_l2"))]
    every = with_earlier(result.path, rows)
    found = [each for row in every for each in _alarms(row, data.n_classes)]
    pairs = compared(searched.objectives, [*_numbers(rows)])
    summary = {
        "weights": "audit" if plan.train else "search",
        "measure": [*plan.measure],
        "images": images,
        "epsilon": plan.epsilon,
        "replicates": plan.replicates,
        "changed": changes(fine, scores) if fine else {},
        "alarms": found,
        "intervals": {row["arch_id"]: intervals(row) for row in rows},
        "on_front": on_front(whole, scores, pairs) if whole else {},
        "replicated": {each[0]["arch_id"]: replicated(each, columns) for each in whole} if plan.replicates > 1 else {},
    }
    write_audit(result.path, every, summary)
    return AuditFiles([shown_row(row) for row in every], summary)


def _alarms(row: Mapping[str, Any], n_classes: int) -> Iterator[dict[str, str]]:
    """Alarms of a row of audit.csv, as audit.json has them."""
    from evonas.audit import CHECKED, alarms

    if row["status"] == "ok" and row.get("images") and row.get("epsilon"):
        for each in alarms(row, min(CHECKED, int(row["images"])), n_classes, float(row["epsilon"])):
            training = {"training": row["training"]} if row.get("training") else {}
            which = {"arch_id": row["arch_id"], "weights": row["weights"], **training}
            yield {**which, "kind": each.kind, "line": each.line}


def _numbers(rows: Sequence[dict[str, Any]]) -> dict[str, None]:
    """Columns of numbers, in order of appearance."""
    return {
        name: None
        for row in rows
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
