"""What every method of `METHODS` must keep; a method in this table is tested by its line.

A method whose runs are folders with a front (one with `compose`) needs a line in TINY, too: flags of a run of seconds.
"""

from dataclasses import dataclass, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import config, contents, journal, rows

import evonas
from evonas.cli import main
from evonas.data import DeviceData, batches
from evonas.executors import ignore
from evonas.files import read_json
from evonas.methods import METHODS, method_module, method_of
from evonas.runs import parse
from evonas.runs.options import as_json, from_json
from evonas.ship import load_weights

HERE = ("--data=digits", "--device=cpu", "--threads=1", "--executor=local")
CELLS = (
    *("--train-limit=40", "--val-limit=20", "--search-epochs=1", "--weights-only=0", "--search-channels=4"),
    *("--search-layers=3", "--search-batch-size=20", "--nodes=2", "--search-precision=fp32"),
    *("--eval-channels=4", "--eval-layers=3", "--epochs=1", "--batch-size=20", "--precision=fp32"),
    "--objectives=clean_error,params",
)
TINY: dict[str, tuple[str, ...]] = {
    "darts": CELLS,
    "dsrna": (*CELLS, "--metric=jacobian", "--metric-images=2"),
    "e2rnas": (*CELLS, "--version=1", "--cost-channels=4", "--cost-layers=3"),
    "roco": (
        *("--train-limit=60", "--val-limit=50", "--phases=2", "--nodes=3", "--channels=2", "--designs="),
        *("--epochs=1", "--batch-size=10", "--precision=fp32", "--population=3", "--generations=1"),
        "--objectives=clean_error,macs",
    ),
    "tam": (
        *("--train-limit=60", "--val-limit=30", "--width=0.17", "--depth=0.1", "--supernet-recipe=standard"),
        *("--block-epochs=1", "--joint-epochs=1", "--resample-epochs=1", "--first-ratio-epochs=1"),
        *("--block-milestones=", "--joint-milestones=", "--supernet-batch-size=30", "--supernet-precision=fp32"),
        *("--recalibration-batches=1", "--recalibration-batch-size=30", "--population=3", "--generations=1"),
        *("--objectives=clean_error,params", "--finalise="),
    ),
}
"""Method -> flags beside HERE."""

COLUMNS = ("arch_id", "generation", "rank", "status")
TAIL = ("params", "macs", "train_seconds", "seed", "method", "data", "genome")
TABLES = ("front.csv", "population.csv", "history.csv")


@pytest.fixture(params=METHODS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_module_has_options_presets_and_run(name: str) -> None:
    module = method_module(name)
    assert is_dataclass(module.OPTIONS)
    assert list(module.PRESETS) == ["quick", "paper"]
    for preset, options in module.PRESETS.items():
        assert type(options) is module.OPTIONS
        assert as_json(options)["preset"] == preset
    assert callable(module.run)
    assert {"OPTIONS", "PRESETS", "run"} <= {*module.__all__}
    assert (module.__doc__ or "").endswith((".", ".\n", ")"))
    assert module.__name__ == METHODS[name]


@pytest.mark.lengthy
def test_defaults_parse_and_are_the_first_preset(name: str) -> None:
    module = method_module(name)
    assert parse(module.PRESETS, []) == module.PRESETS["quick"]
    assert parse(module.PRESETS, ["--preset", "paper", "--seed", "5"]).seed == 5
    assert from_json(module.OPTIONS, as_json(module.PRESETS["paper"])) == module.PRESETS["paper"]


def test_a_method_with_a_front_has_a_line_here() -> None:
    assert {name for name in METHODS if hasattr(method_module(name), "compose")} == TINY.keys()


@dataclass(frozen=True)
class Begun:
    """A finished run, and the command that began it."""

    name: str
    folder: Path

    def again(self) -> int:
        return main([self.name, *HERE, *TINY[self.name], "--out", str(self.folder)])


@pytest.fixture(scope="module", params=TINY)
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Begun:
    found = Begun(request.param, tmp_path_factory.mktemp(request.param) / "run")
    assert found.again() == 0
    return found


@pytest.mark.lengthy
class TestARun:
    def test_it_leaves_its_files(self, begun: Begun) -> None:
        names = {path.name for path in begun.folder.iterdir()}
        assert names >= {*TABLES, "config.json", "journal.jsonl", "front.png", "history.png", "run.lock"}
        assert not [each for each in names if each.endswith(".tmp")]
        for picture in ("front.png", "history.png"):
            assert (begun.folder / picture).read_bytes().startswith(b"\x89PNG")

    def test_its_tables_have_the_columns_of_every_run(self, begun: Begun) -> None:
        population, front = rows(begun.folder / "population.csv"), rows(begun.folder / "front.csv")
        columns = (begun.folder / "population.csv").read_text().splitlines()[0].split(",")
        assert (begun.folder / "front.csv").read_text().splitlines()[0].split(",") == columns
        assert tuple(columns[:4]) == COLUMNS
        assert tuple(columns[-7:]) == TAIL
        assert {*columns[4:-7], "params", "macs"} >= {*config(begun.folder)["columns"]}
        assert 1 <= len(front) <= len(population)
        assert {row["status"] for row in population} == {"ok"}
        assert {row["rank"] for row in front} == {"0"}
        assert {row["data"] for row in population} == {"digits"}
        assert {row["method"] for row in population} == {config(begun.folder)["identity"]["method"]}
        assert {row["arch_id"] for row in front} <= {row["arch_id"] for row in population}
        history = rows(begun.folder / "history.csv")
        assert int(history[-1]["evaluations"]) == len(population) == len(journal(begun.folder)) - 1

    def test_its_configuration_says_how_it_was_begun(self, begun: Begun) -> None:
        found = read_json(begun.folder / "config.json")
        assert {"settings", "identity", "versions", "notes", "columns", "reference_point", "measured"} <= found.keys()
        assert found["options"] == METHODS[begun.name]
        module, options = method_of(found)
        assert module is method_module(begun.name)
        assert options == parse(module.PRESETS, [*HERE, *TINY[begun.name], "--out", str(begun.folder)])
        identity = found["identity"]
        assert identity.keys() >= {"method", "space", "data", "objectives", "search", "seed", "device", "threads"}
        assert not any(isinstance(value, dict) for value in found["settings"].values())

    def test_the_same_command_evaluates_nothing_again(self, begun: Begun) -> None:
        before = contents(begun.folder)
        assert begun.again() == 0
        after = contents(begun.folder)
        assert after.keys() == before.keys()
        for name in ("journal.jsonl", *TABLES):
            assert after[name] == before[name]

    def test_another_seed_is_refused_in_its_folder(self, begun: Begun, capsys: pytest.CaptureFixture[str]) -> None:
        before = contents(begun.folder)
        assert main([begun.name, *HERE, *TINY[begun.name], "--out", str(begun.folder), "--seed", "1"]) == 2
        error = capsys.readouterr().err
        assert "belongs to another run: " in error
        assert error.count("\n") == 1
        assert contents(begun.folder) == before

    def test_the_commands_find_it(self, begun: Begun, capsys: pytest.CaptureFixture[str]) -> None:
        before = contents(begun.folder)
        best = rows(begun.folder / "front.csv")[0]["arch_id"]
        assert main(["show", str(begun.folder)]) == 0
        assert best in capsys.readouterr().out
        assert main(["verify", str(begun.folder), "--retrain", "best"]) == 0
        said = capsys.readouterr().out
        assert "all counts are equal" in said
        assert f"{best} clean_error: recorded " in said
        assert "DIFFERENT" not in said
        assert main(["front", str(begun.folder), "--objectives", "clean_error,params"]) == 0
        assert best in capsys.readouterr().out
        assert contents(begun.folder) == before

    def test_it_is_opened_and_its_networks_are_loaded(self, begun: Begun) -> None:
        """From their files, with the weights that were scored: the same logits, and the recorded error, exactly."""
        before = contents(begun.folder)
        found = evonas.open_run(begun.folder)
        front = rows(begun.folder / "front.csv")
        assert list(found.front["arch_id"]) == [row["arch_id"] for row in front]
        assert {path.stem for path in (begun.folder / "weights").iterdir()} == {row["arch_id"] for row in front}
        data = found.evaluator.prepare.data
        images = DeviceData(data, torch.device("cpu")).validation
        pixels, labels = next(batches(images, len(images)))
        prepare = found.evaluator.prepare.start()
        for row in front:
            network = evonas.load_network(begun.folder, row["arch_id"])
            assert not network.training
            entry = found.entry(row["arch_id"])
            scored = prepare(np.array(entry.result.genome), entry.result.seed, ignore)[0].network
            with torch.no_grad():
                logits = network(pixels)
                assert torch.equal(logits, scored(pixels))
            assert float((logits.argmax(1) != labels).double().mean()) == float(row["clean_error"])
            alone = load_weights(begun.folder / "weights" / f"{row['arch_id']}.safetensors")
            assert torch.equal(alone(pixels), logits)
        assert contents(begun.folder) == before
