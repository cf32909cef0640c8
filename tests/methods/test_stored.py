"""Runs opened from their folders: tables, networks, numbers found again; nothing in the folder is changed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import EVALUATIONS, ROCO, config, contents, journal, rows, run

import evonas
from evonas.data import load_data
from evonas.errors import ConfigurationError, StorageError, UnknownNameError
from evonas.methods import METHODS, method_module, method_of
from evonas.methods.roco import OPTIONS
from evonas.runs import RunFolder
from evonas.runs.needs import options_of

pytestmark = [pytest.mark.lengthy, pytest.mark.usefixtures("no_pictures")]


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    content = config(folder)
    change(content)
    (folder / "config.json").write_text(json.dumps(content))
    return folder


class TestOpenRun:
    def test_tables_are_those_on_disk(self, roco_run: Path) -> None:
        found = evonas.open_run(str(roco_run))
        assert found.path == roco_run
        assert len(found.population) == len(found.entries) == EVALUATIONS
        for table, name in ((found.front, "front.csv"), (found.population, "population.csv")):
            stored = rows(roco_run / name)
            assert [name for name in table.columns if name != "train_seconds"] == list(stored[0])
            for column in ("arch_id", "genome", "status"):
                assert list(table[column]) == [row[column] for row in stored]
            assert list(table["clean_error"]) == [float(row["clean_error"]) for row in stored]

    def test_networks_have_the_recorded_errors(self, roco_run: Path) -> None:
        before = contents(roco_run)
        found = evonas.open_run(roco_run)
        row = found.population.iloc[-1]
        networks = [
            found.load(row["arch_id"], train_again=True),
            evonas.load_network(roco_run, row["arch_id"], train_again=True),
        ]
        part = load_data("digits", train_limit=150, val_limit=50).validation
        images = torch.from_numpy(part.images).float() / 255
        for network in networks:
            assert not network.training
            with torch.no_grad():
                predicted = network(images).argmax(dim=1)
            assert (predicted.numpy() != part.labels).mean() == row["clean_error"]
        states = [network.state_dict() for network in networks]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
        assert contents(roco_run) == before

    def test_best_is_the_first_row_of_the_front(self, roco_run: Path) -> None:
        best = evonas.open_run(roco_run).front["arch_id"].iloc[0]
        first, named = evonas.load_network(roco_run), evonas.load_network(roco_run, best)
        images = torch.rand(3, 3, 32, 32)
        assert torch.equal(first(images), named(images))

    def test_numbers_are_found_again_and_nothing_is_changed(self, roco_run: Path) -> None:
        before = contents(roco_run)
        evonas.open_run(roco_run).verify("best", rows(roco_run / "population.csv")[-1]["arch_id"])
        assert contents(roco_run) == before

    def test_it_opens_while_the_run_goes_on(self, copied_run: Path) -> None:
        with RunFolder(copied_run).locked():
            evonas.open_run(copied_run).verify()

    def test_a_row_that_is_not_there(self, roco_run: Path) -> None:
        with pytest.raises(UnknownNameError, match=r"expected the arch_id of a row with status ok, .* got 'nothing'"):
            evonas.load_network(roco_run, "nothing")

    def test_no_run(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"expected a run folder with config\.json and journal\.jsonl"):
            evonas.open_run(tmp_path)
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(StorageError, match="expected the configuration of a run"):
            evonas.open_run(tmp_path)

    def test_other_images_than_it_was_searched_on(self, copied_run: Path) -> None:
        def change(content: dict[str, Any]) -> None:
            content["settings"]["split_seed"] = 5

        found = evonas.open_run(changed(copied_run, change))
        assert len(found.front)
        with pytest.raises(ConfigurationError, match="set EVONAS_DATA to the root that holds it") as refused:
            found.verify("best")
        assert config(copied_run)["identity"]["data"]["fingerprint"] in str(refused.value)

    def test_a_run_under_another_executor_is_opened_here(self, copied_run: Path) -> None:
        def change(content: dict[str, Any]) -> None:
            content["settings"] |= {"executor": "process", "workers": 3}

        evonas.open_run(changed(copied_run, change)).verify("best")


class TestMethodOf:
    def test_it_is_the_one_that_wrote_it(self, roco_run: Path) -> None:
        module, options = method_of(config(roco_run))
        assert module is method_module("roco")
        assert options == replace(ROCO, out=roco_run)

    def test_of_a_script_it_is_none(self, roco_run: Path) -> None:
        with pytest.raises(ConfigurationError, match="of a script"):
            method_of({**config(roco_run), "options": "my_script"})

    def test_a_run_of_version_0_1_0_does_not_say_it(self, roco_run: Path, copied_run: Path) -> None:
        """Its options are nested, and the search's seed is among them."""

        def change(content: dict[str, Any]) -> None:
            content["settings"] = nested(content["settings"])
            del content["options"]

        changed(copied_run, change)
        module, options = method_of(config(copied_run))
        assert module is method_module("roco")
        assert options == replace(ROCO, out=roco_run)
        evonas.open_run(copied_run).verify("best")
        before = journal(copied_run)
        run(replace(ROCO, out=copied_run))
        assert journal(copied_run) == before
        assert config(copied_run)["options"] == METHODS["roco"]


def nested(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings in the groups of version 0.1.0: those of the data and the run stood at the top."""
    options, groups = OPTIONS(), ("training", "search", "attacks", "certify", "after", "execution")
    group_of = {option.name: group for group in groups for option in options_of(getattr(options, group))}
    found: dict[str, Any] = {group: {} for group in groups}
    for name, value in settings.items():
        (found[group_of[name]] if name in group_of else found)[name] = value
    found["search"]["seed"] = found.pop("seed")
    return {name: value for name, value in found.items() if name not in ("plugin", "space", "recipe")}
