"""A study under another training: every run's options, folders, digests and pages, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from toy_studies import studied

from evonas.cli import main
from evonas.errors import ConfigurationError
from evonas.methods import method_module
from evonas.parts import digest
from evonas.runs.needs import options_of, refuse_unused
from evonas.runs.options import as_json
from evonas.studies import STUDIES
from evonas.studies.grid import Cell, record
from evonas.studies.options import StudyOptions
from evonas.studies.page import status_table, write_study
from evonas.studies.recipes import OWN, StudyRecipe
from evonas.studies.running import run_cells
from evonas.studies.study import PRESETS, Studied, shared

ROBUST = StudyRecipe("pgd_at", 4 / 255)
WITH_RECIPES = [name for name in STUDIES if name not in ("joint", "proxies")]


def option(cell: Cell, name: str) -> Any:
    return next(each.value for each in options_of(cell.options) if each.name == name)


def trained(cell: Cell) -> tuple[Any, Any] | None:
    """(recipe, radius) by which a run trains networks to the end; None where it trains none."""
    values = {each.name: each.value for each in options_of(cell.options)}
    if cell.method == "imagenet":
        return values["recipe"], values["recipe_epsilon"]
    if values.get("retrain"):
        return values["retrain_recipe"], values["retrain_recipe_epsilon"]
    return (values["finalise_recipe"], values["finalise_epsilon"]) if values.get("finalise") else None


@pytest.mark.parametrize("name", WITH_RECIPES)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_run_trains_networks_to_the_end_by_the_recipe_and_searches_as_before(name: str, preset: str) -> None:
    study = STUDIES[name]
    usual = "paper" if preset == "paper" else "quick"
    own = list(study.cells(preset, 1))
    for recipe in (ROBUST, StudyRecipe("trades_awp"), StudyRecipe("standard")):
        cells = [recipe.given_to(cell) for cell in own]
        assert any(trained(cell) for cell in cells)
        for before, cell in zip(own, cells, strict=True):
            assert (cell.folder, cell.links, cell.record) == (before.folder, before.links, before.record)
            assert cell.digest != before.digest
            if trained(before) is None:
                assert cell.options == before.options
                continue
            changes = {
                each.name
                for each, other in zip(options_of(cell.options), options_of(before.options), strict=True)
                if each.value != other.value
            }
            assert not {each for each in changes if not each.endswith(("recipe", "epsilon"))}
            assert changes <= {"recipe", "recipe_epsilon"} or not changes & {"recipe", "recipe_epsilon"}
            used = trained(cell)
            assert used is not None
            assert used[0] == recipe.name
            if recipe is ROBUST or recipe.name == "standard":
                assert used[1] == recipe.epsilon
            refuse_unused(cell.options, method_module(cell.method).PRESETS[usual])


@pytest.mark.parametrize("name", STUDIES)
def test_without_a_recipe_cells_and_digests_are_those_of_before(name: str, tmp_path: Path) -> None:
    found = Studied(STUDIES[name], "quick", 1, tmp_path)
    assert list(found.cells) == list(STUDIES[name].cells("quick", 1))
    for cell in found.cells:
        usual = as_json(type(cell.options)())
        given = {each: value for each, value in as_json(cell.options).items() if value != usual[each]}
        links = [*map(list, cell.links)]
        assert cell.digest == digest({"method": cell.method, "options": given, "links": links})


def test_the_radius_of_a_supernet_stays_that_of_its_networks() -> None:
    cells = [StudyRecipe("pgd_at").given_to(cell) for cell in STUDIES["tam"].cells("quick", 1)]
    assert {option(cell, "finalise_epsilon") for cell in cells} == {None}
    assert {option(cell, "supernet_recipe") for cell in cells} == {"trades_yopo"}


def test_folders_of_their_own() -> None:
    for options, folder in (
        (StudyOptions(), "tam-quick"),
        (StudyOptions(recipe="standard"), "tam-quick-standard"),
        (StudyOptions(preset="small", recipe="pgd_at", recipe_epsilon=4 / 255), "tam-small-pgd_at-4"),
        (StudyOptions(recipe="pgd_at", out=Path("mine")), None),
    ):
        assert options.studied(STUDIES["tam"]).root == (Path("studies") / folder if folder else Path("mine"))


def test_a_page_and_its_tables_say_the_training(tmp_path: Path) -> None:
    own = Studied(STUDIES["darts"], "quick", 1, tmp_path / "own")
    robust = Studied(STUDIES["darts"], "quick", 1, tmp_path / "robust", recipe=ROBUST)
    page, table = write_study(own).read_text(), (own.root / "table-1.md").read_text()
    assert "Training:" not in page + table
    other = write_study(robust).read_text()
    assert other == page.replace("from these.\n\n", f"from these.\n\n{ROBUST.note}\n\n")
    assert "by pgd_at within 4/255" in ROBUST.note
    assert (robust.root / "table-1.md").read_text().count(ROBUST.note) == 1
    assert ", trained by pgd_at within 4/255: 4 waiting" in status_table(robust).title


def test_runs_of_another_study_have_the_same_recipe(tmp_path: Path) -> None:
    roco, capacity = STUDIES["roco"], STUDIES["capacity"]
    for cell in Studied(roco, "quick", 1, tmp_path, recipe=ROBUST).cells:
        (tmp_path / cell.folder).mkdir()
        record(tmp_path, cell, "finished", 1.0, 1.0)
    assert shared(roco, tmp_path, ROBUST) == ("quick", 1)
    found = StudyOptions(from_=tmp_path, recipe="pgd_at", recipe_epsilon=4 / 255).studied(capacity)
    assert (found.root, found.source) == (Path("studies/capacity-quick-pgd_at-4"), tmp_path)
    assert [state.status for state in found.states.values()] == ["finished"] * 3 + ["begun"]  # AutoAttack is left
    for other in (StudyOptions(from_=tmp_path), StudyOptions(from_=tmp_path, recipe="pgd_at")):
        with pytest.raises(ConfigurationError, match="give the --recipe that they were made with, or none"):
            other.studied(capacity)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("roco --recipe tradez", "unknown recipe 'tradez'; did you mean trades?"),
        ("roco --recipe cells", "expected a recipe for networks without an auxiliary head, got cells"),
        ("joint --recipe trades", "expected no --recipe with the study joint, which trains no network to the end"),
        ("proxies --recipe trades", "expected no --recipe with the study proxies, whose target is training by PGD"),
        ("roco --recipe standard", "expected another --recipe than standard, which the study roco has anyway"),
        ("tam --recipe trades_yopo", "expected another --recipe than trades_yopo, which the study tam has anyway"),
        ("darts --recipe-epsilon 0.1", "expected --recipe-epsilon with a robust recipe, such as --recipe trades"),
        ("darts --recipe gaussian --recipe-epsilon 0.1", "such as --recipe trades, got --recipe gaussian"),
    ],
)
def test_what_is_refused(words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", *words.split(), "--out", str(tmp_path / "none")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.lengthy
def test_a_toy_study_under_another_training_has_other_networks_of_the_same_front(tmp_path: Path) -> None:
    searched: list[dict[str, dict[str, Tensor]]] = []
    trained_again: list[dict[str, dict[str, Tensor]]] = []
    for recipe in (OWN, StudyRecipe("fast_adversarial", 64 / 255)):
        root = tmp_path / (recipe.name or "own")
        root.mkdir()
        found = replace(studied("roco", root), recipe=recipe)
        run_cells(root, found.cells, {})
        found = replace(found)  # as it is now
        assert {state.status for state in found.states.values()} == {"finished"}
        assert [row for row in found.rows if row["label"] == "RoCo-NAS"]
        assert ("by fast_adversarial within 64/255" in write_study(found).read_text()) == bool(recipe.name)
        run = root / "roco-nas-cifar10-seed0"
        for kept, folder in ((searched, "weights"), (trained_again, "retrained")):
            kept.append({path.name[:16]: load_file(path) for path in (run / folder).glob("*.safetensors")})
    assert same(*searched)
    assert trained_again[0].keys() == trained_again[1].keys()
    assert not same(*trained_again)


def same(*networks: dict[str, dict[str, Tensor]]) -> bool:
    """Whether networks have the same weights."""
    first, second = networks
    return first.keys() == second.keys() and all(
        torch.equal(value, second[network][name]) for network, of in first.items() for name, value in of.items()
    )
