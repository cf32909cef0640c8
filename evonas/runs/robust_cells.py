"""After cells were trained again: what DSRNA measures of them, beside what the paper reports (Tables 1 to 6)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console

from evonas.audit import FrontNetwork, RetrainedRecords, RetrainingWork
from evonas.audit.robust_cells import RADII, ROBUST_SUITE, RobustnessScoring, robust_columns
from evonas.audit.suite import require_libraries
from evonas.certify.linear import Intermediate
from evonas.errors import ConfigurationError
from evonas.networks.darts import GENOTYPES
from evonas.report import folded, write_retrained
from evonas.runs.cell_settings import CellRetrainSettings
from evonas.runs.folder import RunFolder
from evonas.runs.interrupt import interruptible
from evonas.runs.repeats import means_of_repeats, write_means
from evonas.runs.retrain_cells import FoundCells, network_of, still_to_train, training_and_space
from evonas.runs.retrain_screen import RetrainScreen, print_tables
from evonas.runs.robust_tables import measured_table, reported_tables
from evonas.runs.search import Plan

__all__ = ["RobustnessSettings", "measure_cells"]


@dataclass(frozen=True, kw_only=True)
class RobustnessSettings:
    """Attacks and certificates of the networks that were trained again."""

    robust_attacks: tuple[str, ...] = tuple(ROBUST_SUITE)
    """fgsm, pgd10, pgd20 and pgd100 (epsilon 8/255), and cw (needs foolbox)."""
    fgsm_epsilon: float = 2 / 255
    """The paper says `0.01 (2/255)`."""
    radius_images: int = 100
    """Mean certified radii are over the first so many test images; 0: none."""
    radius_intermediate: Intermediate = "interval"
    """Bounds before each ReLU there: interval, or linear (tighter, and far slower the deeper the network)."""
    radius_targets: Literal["random", "all"] = "random"
    """Classes that an image must not be taken for: one drawn for it (Tables 5 and 6, after CNN-Cert), or all."""

    def __post_init__(self) -> None:
        self.scoring(None)
        if not 0 < self.fgsm_epsilon <= 1:
            raise ConfigurationError(f"expected fgsm_epsilon in (0, 1], got {self.fgsm_epsilon}")
        if len(set(self.robust_attacks)) < len(self.robust_attacks):
            raise ConfigurationError(f"expected every one of --robust-attacks once, got {self.robust_attacks}")

    def scoring(self, test_limit: int | None) -> RobustnessScoring:
        return RobustnessScoring(
            columns=robust_columns(self.robust_attacks, self.fgsm_epsilon),
            certified_images=self.radius_images,
            intermediate=self.radius_intermediate,
            targets=self.radius_targets,
            test_limit=test_limit,
        )

    def check(self) -> None:
        """ConfigurationError where an attack stands on a library that is not installed."""
        require_libraries(self.robust_attacks)


def measure_cells(
    folder: RunFolder,
    plan: Plan,
    settings: CellRetrainSettings,
    robustness: RobustnessSettings,
    found: Sequence[FoundCells],
    groups: Sequence[str],
    console: Console,
) -> None:
    """Measure the networks that `retrain_cells` has trained, or continue with that; print the tables.

    In the run's folder `robust/`: retrained.csv, repeats.csv (means and deviations), tables.md. What is finished is
    kept beside the weights, in `retrained/rows.jsonl`.

    Args:
        found: the cells that were searched.
        groups: of each of them, the name that its repeats have in common.
    Raises:
        EvonasError: see `retrain_cells`.
        Interrupted: a signal came; the same command continues with the next network.
    """
    scoring = robustness.scoring(settings.test_limit)
    networks = _networks(folder, plan, settings, found)
    names = [*groups, *settings.against]
    with interruptible() as interruption, RetrainedRecords.opened(folder.path / "retrained") as records:
        work = RetrainingWork(records, scoring, plan.retry_failed)
        left = still_to_train(work, networks)
        screen = RetrainScreen(console, interruption, left)
        for network in left:
            with screen.showing(network):
                record = work.finish(network, screen.report, screen.say)
            screen.tell(record)
        rows = [work.row(network) for network in networks]
    out = folder.path / "robust"
    out.mkdir(exist_ok=True)
    columns = ["clean_error", *(column.name for column in scoring.columns), *RADII]
    means = means_of_repeats(
        [(name, row) for name, row in zip(names, rows, strict=True) if row["status"] == "ok"], columns
    )
    tables = [measured_table(means, rows, scoring, plan.data_name), *reported_tables(plan.data_name)]
    write_retrained(out, rows, tables)
    write_means(out / "repeats.csv", means)
    print_tables(console, [part for table in tables for part in folded(table, console.width, 1)])
    screen.say(f"written to {out}: retrained.csv, repeats.csv, tables.md")


def _networks(
    folder: RunFolder, plan: Plan, settings: CellRetrainSettings, found: Sequence[FoundCells]
) -> list[FrontNetwork]:
    """As `retrain_cells` has them."""
    base, space = training_and_space(plan, settings)
    cells = [*found, *(FoundCells(name, GENOTYPES[name]) for name in settings.against)]
    return [network_of(each, settings, space, base, folder.path / "retrained") for each in cells]
