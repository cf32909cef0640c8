"""Runs of a script: audited inside it, and as folders, as far as their parts are found again."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_parts import Widths
from plugin_files import call, new_plugin
from rich.console import Console
from tiny_runs import HERE, rows

import evonas
from evonas.cli import main
from evonas.data import Dataset, load_data
from evonas.methods import scripted
from evonas.parts import as_plain, part_identity, part_name
from evonas.runs import Result
from evonas.search import EvolutionConfig
from evonas.spaces import PhaseSpace
from evonas.training import RECIPES, CellTraining, TradesAwp, TradesYopo, TrainingConfig

pytestmark = [pytest.mark.lengthy, pytest.mark.usefixtures("no_pictures")]

MEASURE = ("--measure", "clean,fgsm_linf", "--images", "30", "--executor", "local", "--device", "cpu")
PLAN = evonas.AuditPlan(measure=("clean", "fgsm_linf"), images=30)


def search(space: PhaseSpace | Widths, data: Dataset, out: Path, objectives: tuple[str, ...]) -> Result:
    training = TrainingConfig(epochs=1, batch_size=20, lr=0.05, precision="fp32")
    found: Result = evonas.run_search(
        space,
        data,
        objectives,
        out=out,
        training=training,
        search=EvolutionConfig(population=3, generations=1),
        execution=HERE,
        console=Console(file=io.StringIO()),
    )
    return found


@pytest.fixture(scope="module")
def of_table(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run of evonas's own space and images, divided by a seed that is not the run's."""
    space, data = PhaseSpace(phases=2, nodes=3, channels=2), load_data("digits", train_limit=60, val_limit=40)
    return search(space, data, tmp_path_factory.mktemp("table") / "run", ("clean_error", "pgd_error", "macs"))


def test_an_audit_inside_the_script_and_one_of_its_folder_give_equal_rows(of_table: Result, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(of_table.path, tmp_path / "copy"))
    done = evonas.audit_run(of_table, plan=PLAN, execution=HERE, console=Console(file=io.StringIO()))
    assert {row["arch_id"] for row in done.rows} == {*of_table.front["arch_id"]}
    assert main(["audit", str(folder), *MEASURE]) == 0
    assert rows(folder / "audit.csv") == rows(of_table.path / "audit.csv")
    assert main(["audit", str(folder), "best", "--train", *MEASURE]) == 0
    assert {row["weights"] for row in rows(folder / "audit.csv")} == {"audit", "search"}


def test_its_rows_are_found_again(of_table: Result, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(of_table.path), "--retrain", "best"]) == 0
    assert capsys.readouterr().out.count("equal") == 1 + len(of_table.entries[0].result.objectives)


def test_parts_of_its_own_are_at_hand_inside_the_script_and_elsewhere_in_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = load_data("digits")
    parts = (digits.train.images[:120, 0], digits.train.labels[:120], digits.test.images[:60, 0])
    arrays = (*parts, digits.test.labels[:60])
    found = search(Widths(), Dataset.from_arrays(*arrays, name="mine"), tmp_path / "run", ("clean_error", "macs"))
    done = evonas.audit_run(found, plan=PLAN, execution=HERE, console=Console(file=io.StringIO()))
    inside = rows(found.path / "audit.csv")
    assert {row["status"] for row in done.rows} == {"ok"}

    x_train, y_train, x_test, y_test = arrays
    np.savez(tmp_path / "mine.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    named = ("--plugin", str(new_plugin(tmp_path)))
    for given, missing in (
        ((), "expected the space 'widths' of a script in a file after --plugin; or give the result"),
        (named, "expected the images of"),
        ((*named, "--data", "digits"), "got others; say with --data npz:PATH where they are; or give the result"),
    ):
        assert call("audit", str(found.path), *MEASURE, *given) == 2
        text = capsys.readouterr().err
        assert missing in text
        assert text.count("\n") == 1
    (found.path / "audit.csv").unlink()
    assert call("audit", str(found.path), *MEASURE, *named, "--data", f"npz:{tmp_path / 'mine.npz'}") == 0
    assert rows(found.path / "audit.csv") == inside


@pytest.mark.parametrize(
    "recipe",
    [
        *RECIPES.values(),
        TradesYopo(epsilon=4 / 255, closed=False),
        CellTraining(robust=TradesAwp(epsilon=4 / 255), auxiliary_weight=0.4),
    ],
    ids=part_name,
)
def test_recipes_are_read_back_from_identities(recipe: Any) -> None:
    begun = {"name": part_name(recipe), **part_identity(recipe)}
    found = scripted._recipe(json.loads(json.dumps(as_plain(begun))))
    assert as_plain(part_identity(found)) == as_plain(part_identity(recipe))
