"""Make the best network of a run under a constraint ready to leave."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from evonas.commands.opened import Folder, joint_runs, opened
from evonas.errors import ConfigurationError, StorageError, check_name
from evonas.files import decoding, exists, expanded, read_json, read_regular, storage_errors, write_json
from evonas.parts import as_plain
from evonas.ranges import COUNT, Range, check_ranges
from evonas.ship.settings import ExportSettings
from evonas.types import TrainOn

if TYPE_CHECKING:
    from evonas.runs.result import Result

__all__ = ["Ship"]

NAME = "net.onnx"


@dataclass(frozen=True)
class Ship:
    """Make the best network of a run under a constraint ready to leave, in one folder: choose it, train it to the end
    at the size of the search with a robust recipe, audit it, export and check it, time it, and write its card. The same
    command goes on where it was stopped.
    """

    example: ClassVar[str] = 'evonas ship runs/roco-digits-quick-seed0 --where "macs < 8M"'

    run: Folder
    """Folder of the run."""
    where: Annotated[str, tyro.conf.arg(metavar="CONDITION")] = ""
    """Condition on columns, as of evonas choose; by default every network."""
    by: Annotated[str, tyro.conf.arg(metavar="COLUMN")] = ""
    """Column to choose by, best first; by default the rank, then the searched objectives."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder for the files; shipped/ in the run's folder by default."""
    recipe: str = "trades"
    """Loss of the training to the end: pgd_at, trades, trades_awp, fast_adversarial, trades_yopo, ibp, crown_ibp,
    gaussian, standard, or a plugin's."""
    recipe_epsilon: Annotated[float | None, Range(above=0, most=1, pixels=True)] = None
    """Radius of that recipe's attack, on the [0, 1] scale; its own by default."""
    average: Literal["", "none", "ema", "swa"] = ""
    """Weights that are shipped: the training's last ones (none), their exponential moving average (ema), or the mean of
    its last epochs' (swa); by default as the run's settings state."""
    epochs: Annotated[int | None, COUNT] = None
    """Passes over the images; by default those that the run's settings state."""
    train_on: TrainOn | None = None
    """The images: the train part, or all but the test images; by default as the run's settings state."""
    measure: tuple[str, ...] = ("quick",)
    """Measurements of the audit: quick, standard, full, or names of measurements."""
    settings: Annotated[ExportSettings, tyro.conf.OmitArgPrefixes] = field(
        default_factory=lambda: ExportSettings(int8=True)
    )
    data: str = ""
    """npz:PATH, where the file of the run's images is now; its content is compared."""
    plugin: tuple[str, ...] = ()
    """Python files that the run was begun with."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def __call__(self) -> None:
        from evonas.runs.exporting import check_target

        out = self.run / "shipped" if self.out is None else expanded(self.out)
        check_target(out / NAME, self.settings.int8)
        plan = self._plan()
        result = opened(self.run, self.plugin, self.data)
        result.refuse_without_weights()
        self._check(plan, result)
        key = self._chosen(out)
        print("2 of 3: train it to the end, and audit it")
        weights, training = self._audited(result, key, plan)
        print("3 of 3: export, check, time, and write the card")
        if _finished(out, key):
            print(f"found in {out}, as its card says: {NAME}")
        else:
            self._exported(result, key, weights, training, out)
        print(f"ready in {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")

    def _plan(self) -> Any:
        from evonas.methods.stored_audit import AuditPlan

        return AuditPlan(
            measure=self.measure,
            train=True,
            epochs=self.epochs,
            train_on=self.train_on,
            searched_size=True,  # what --where is about
            recipe=self.recipe,
            recipe_epsilon=self.recipe_epsilon,
            average=self.average,
        )

    def _check(self, plan: Any, result: Result) -> None:
        """An error for names that are unknown, and for libraries that are missing, before anything begins."""
        from evonas.audit import require_libraries
        from evonas.methods.stored_audit import wanted_measurements
        from evonas.training import RECIPES

        check_name(RECIPES, self.recipe, "recipe")
        require_libraries(wanted_measurements(plan, result)[0], "--measure")

    def _chosen(self, out: Path) -> str:
        """The arch_id; the same when the command goes on, whatever an audit has added to the run since."""
        from evonas.report import Choosing, choose_networks

        asked = {**asdict(self), "run": str(self.run.resolve()), "out": "", "plugin": [*self.plugin]}
        asked = {name: [*value] if isinstance(value, tuple) else value for name, value in asked.items()}
        begun = out / "ship.json"
        stored = _chosen_before(begun)
        if stored is not None:
            key, why, before = stored
            different = [name for name, value in asked.items() if before.get(name) != value]
            if different:
                raise ConfigurationError(
                    f"expected the settings that {out} was begun with, got another {different[0]}; "
                    "give the same command, or another folder with --out"
                )
            print(f"1 of 3: {key} was chosen {why}")
            return key
        found = choose_networks(joint_runs([self.run])[0], Choosing(self.where, self.by, top=1))
        key = str(found.table["arch_id"].iloc[0])
        print(f"1 of 3: {key} is the best of {found.satisfied} of {found.considered} networks {found.why}")
        write_json(begun, {"arch_id": key, "why": found.why, "asked": asked})
        return key

    def _audited(self, result: Result, key: str, plan: Any) -> tuple[str, dict[str, Any]]:
        """Name of the training whose weights were measured, and its settings."""
        from evonas.methods.stored_audit import audit_run
        from evonas.runs.execution import ExecutionOptions

        done = audit_run(result, [key], plan, ExecutionOptions(), plugin=self.plugin, data=self.data)
        if any(row["status"] != "ok" for row in done.rows):
            raise ConfigurationError(
                f"expected {key} trained and measured, got: {done.rows[0].get('reason', '')}; see {self.run}/audit.csv"
            )
        return done.weights(key), as_plain(done.trainings[key].identity())

    def _exported(self, result: Result, key: str, weights: str, training: dict[str, Any], out: Path) -> None:
        from evonas.runs.exporting import NetworkExport

        NetworkExport(
            result=result,
            entry=result.entry(key),
            network=result.load(key, weights),
            weights=weights,
            to=out / NAME,
            settings=self.settings,
            training=training,
        )()


def _chosen_before(begun: Path) -> tuple[str, str, dict[str, Any]] | None:
    """arch_id, why, and the settings of a command that was stopped; None where there was none.

    Raises:
        StorageError: the file is not one of ours.
    """
    with storage_errors(f"read {begun}"):
        if not exists(begun):
            return None
    stored = read_json(begun)
    with decoding(f"expected what was chosen in {begun}", "remove it, and the network is chosen again", StorageError):
        return str(stored["arch_id"]), str(stored["why"]), dict(stored["asked"])


def _finished(out: Path, key: str) -> bool:
    """Whether a card is there, of this network, and the files that it names are as it says.

    Raises:
        StorageError: the card is not one of ours.
    """
    path = (out / NAME).with_suffix(".card.json")
    with storage_errors(f"read {out}"):
        if not exists(path):
            return False
    card = read_json(path)
    with decoding(f"expected the card of a network in {path}", "remove it, and it is written again", StorageError):
        files = {out / str(each["name"]): each["sha256"] for each in card["files"]}
        return bool(card["network"]["arch_id"] == key) and all(
            exists(file) and hashlib.sha256(read_regular(file)).hexdigest() == digest for file, digest in files.items()
        )
