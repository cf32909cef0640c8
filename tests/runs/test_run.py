"""A run in its folder: files, identity, resuming, growing, refusing, damage. The run is a tiny one of RoCo-NAS."""

import io
import json
import math
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from tiny_runs import EVALUATIONS, ROCO, SPACE, config, contents, genome_of, journal, rows, run

import evonas
from evonas.audit import CLEAN, AuditNetwork, FinalTraining, Measured
from evonas.cli import main
from evonas.data import load_data
from evonas.errors import ConfigurationError, RunInUseError, RunMismatchError, SearchFailedError, StorageError
from evonas.evaluation import TrainFromScratch
from evonas.methods.roco import RocoOptions
from evonas.methods.roco import run as run_roco
from evonas.objectives import CleanError, Column, CostedSpace
from evonas.runs import DataOptions, Run, RunFolder, guarded
from evonas.runs import run as runs_run
from evonas.runs.execution import Hardware
from evonas.runs.interrupt import Interrupted
from evonas.runs.options import from_json
from evonas.search import EvolutionConfig
from evonas.training import TradesYopo, standard

pytestmark = [pytest.mark.lengthy, pytest.mark.usefixtures("no_pictures")]

WILD = replace(
    ROCO,
    training=replace(ROCO.training, lr=1e30, grad_clip=1e30),
    search=replace(ROCO.search, population=2, generations=1),
)
"""Every training diverges."""


def test_a_run_leaves_its_files(roco_run: Path) -> None:
    assert sorted(path.name for path in roco_run.iterdir()) == [
        "config.json",
        "front.csv",
        "front.png",
        "history.csv",
        "history.png",
        "journal.jsonl",
        "population.csv",
        "run.lock",
        "weights",
    ]
    assert len(rows(roco_run / "population.csv")) == EVALUATIONS
    assert [row["generation"] for row in rows(roco_run / "history.csv")] == ["0", "1", "2"]
    assert {row["rank"] for row in rows(roco_run / "front.csv")} == {"0"}
    for picture in roco_run.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_every_row_has_the_costs_of_its_network(roco_run: Path) -> None:
    for row in rows(roco_run / "population.csv"):
        network = SPACE.build(genome_of(row))
        assert int(row["params"]) == sum(p.numel() for p in network.parameters())


def test_the_configuration_says_what_was_run(roco_run: Path) -> None:
    found = config(roco_run)
    identity = found["identity"]
    assert identity["method"] == "roco-nas"
    assert identity["training"]["precision"] == "fp32"
    assert (identity["seed"], identity["device"], identity["threads"]) == (0, "cpu", 1)
    assert identity["data"]["name"] == "digits"
    assert len(identity["data"]["fingerprint"]) == 32
    assert found["reference_point"]["clean_error"] == 1.0
    assert found["columns"] == list(found["measured"]) == ["clean_error", "macs"]
    assert found["evaluations"] == EVALUATIONS
    assert set(found["versions"]) >= {"evonas", "torch", "pymoo"}
    assert any("device: cpu" in note for note in found["notes"])
    assert from_json(RocoOptions, found["settings"]) == replace(ROCO, out=roco_run)


def test_a_run_that_grows_is_the_longer_run_bit_for_bit(roco_run: Path, tmp_path: Path) -> None:
    short = replace(ROCO, out=tmp_path / "run", search=replace(ROCO.search, generations=1))
    run(short)
    assert journal(tmp_path / "run") == journal(roco_run)[: 1 + 8]
    run(replace(ROCO, out=tmp_path / "run"))
    assert journal(tmp_path / "run") == journal(roco_run)
    for name in ("front.csv", "population.csv", "history.csv"):
        assert rows(tmp_path / "run" / name) == rows(roco_run / name)


class CtrlC(io.StringIO):
    """A screen whose so many-th line on an evaluation brings Ctrl-C."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line

    def write(self, text: str) -> int:
        written = super().write(text)
        self.line -= text.startswith("  ")
        if self.line == 0:
            self.line = -1
            os.kill(os.getpid(), signal.SIGINT)
        return written


@pytest.mark.parametrize("finished", [1, 5])
@pytest.mark.slow
def test_after_ctrl_c_the_same_command_goes_on(finished: int, roco_run: Path, tmp_path: Path) -> None:
    """Whole lines are in the journal, and what they say is not evaluated again."""
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        run_roco(replace(ROCO, out=out), Console(file=CtrlC(finished), width=200))
    assert journal(out) == journal(roco_run)[: 1 + finished]
    assert f"continuing: {finished} evaluations" in run(replace(ROCO, out=out))
    assert journal(out) == journal(roco_run)
    assert rows(out / "front.csv") == rows(roco_run / "front.csv")


def test_a_run_does_not_shrink(roco_run: Path) -> None:
    before = contents(roco_run)
    with pytest.raises(ConfigurationError, match="expected at least the 2 generations"):
        run(replace(ROCO, out=roco_run, search=replace(ROCO.search, generations=1)))
    assert contents(roco_run) == before


def test_a_finished_run_evaluates_nothing_again(copied_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(copied_run)
    monkeypatch.setattr(TrainFromScratch, "start", None)
    run(replace(ROCO, out=copied_run))
    after = contents(copied_run)
    for name in ("journal.jsonl", "population.csv", "front.csv"):
        assert after[name] == before[name]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"channels": 4}, "space.channels is 2 there, 4 here"),
        ({"data": replace(ROCO.data, train_limit=70)}, "data.fingerprint"),
        ({"data": replace(ROCO.data, split_seed=1)}, "data.fingerprint"),
        ({"training": replace(ROCO.training, lr=0.2)}, "training.lr is 0.05 there, 0.2 here"),
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"recipe": "fast_adversarial"}, "recipe"),
        ({"search": replace(ROCO.search, objectives=("clean_error", "params"))}, "objectives is ["),
        ({"search": replace(ROCO.search, objectives=("macs", "clean_error"))}, "search.objectives is ["),
        ({"search": replace(ROCO.search, population=6)}, "search.population is 4 there, 6 here"),
        ({"execution": replace(ROCO.execution, threads=2)}, "threads is 1 there, 2 here"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_another_identity_is_refused_with_the_difference(roco_run: Path, change: dict[str, Any], named: str) -> None:
    before = contents(roco_run)
    with pytest.raises(RunMismatchError) as refused:
        run(replace(ROCO, out=roco_run, **change))
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)
    assert contents(roco_run) == before


def test_another_method_is_refused(roco_run: Path) -> None:
    before = contents(roco_run)
    with (
        pytest.raises(RunMismatchError, match="method is roco-nas there, mine here"),
        Run.open("mine", replace(ROCO, out=roco_run)),
    ):
        pytest.fail("another method has opened the run")
    assert contents(roco_run) == before


def test_choices_made_at_the_start_stay(roco_run: Path) -> None:
    """A run that was started with `auto` keeps what that meant then."""
    auto = replace(ROCO.training, precision="auto")
    options = replace(ROCO, data=replace(ROCO.data, data="auto"), training=auto, out=roco_run)
    with Run.open("roco-nas", options) as reopened:
        data = reopened.load_data()
        assert data.name == "digits"
        assert reopened.train_from_scratch(SPACE, data, auto).precision == "fp32"
        assert "data: digits, as this run was started with" in reopened.notes
        assert "precision: fp32, as this run was started with" in reopened.notes


def save_images(file: Path, seed: int = 0) -> None:
    labels = np.arange(60) % 3
    images = np.random.default_rng(seed).integers(256, size=(60, 32, 32), dtype=np.uint8)
    np.savez(file, x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])


def test_images_of_ones_own_are_found_however_often_they_are_not_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    save_images(file)
    search = replace(ROCO.search, population=2, generations=0)
    options = replace(ROCO, data=DataOptions(data=f"npz:{file}"), search=search, out=tmp_path / "run")
    run(options)
    before = journal(tmp_path / "run")
    for _ in range(2):
        run(replace(options, data=DataOptions()))
        assert config(tmp_path / "run")["settings"]["data"] == f"npz:{file}"
        assert journal(tmp_path / "run") == before


def test_what_is_converted_is_said_and_noted(tmp_path: Path) -> None:
    save_images(tmp_path / "mine.npz")
    arrays = dict(np.load(tmp_path / "mine.npz"))
    others = {name: each / 255 if name[0] == "x" else each + 1 for name, each in arrays.items()}
    np.savez(tmp_path / "mine.npz", **others)
    line = "data: float64 images in [0, 1] taken times 255, as 8 bits; labels 1 to 3 taken as 0 to 2"
    options = replace(ROCO, data=DataOptions(data=f"npz:{tmp_path / 'mine.npz'}"), out=tmp_path / "run")
    screen = io.StringIO()
    with Run.open("roco-nas", options, console=Console(file=screen, width=200)) as opened:
        opened.load_data()
    assert line in opened.notes
    assert line in screen.getvalue()


def test_images_of_ones_own_are_known_by_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Begun by a relative path, verified and continued from elsewhere, moved, named otherwise, replaced by others."""
    home, away, there = tmp_path / "home", tmp_path / "away", tmp_path / "there"
    for folder in (home, away, there):
        folder.mkdir()
    save_images(home / "mine.npz")
    monkeypatch.chdir(home)
    search = replace(ROCO.search, population=2, generations=0)
    options = replace(ROCO, data=DataOptions(data="npz:mine.npz"), search=search, out=home / "runs" / "one")
    out = str(home / "runs" / "one")
    run(options)
    assert config(home / "runs" / "one")["settings"]["data"] == f"npz:{home}/mine.npz"
    before = contents(home / "runs" / "one")

    monkeypatch.chdir(away)
    assert main(["verify", out, "--retrain", "best"]) == 0
    (home / "mine.npz").rename(there / "renamed.npz")
    assert main(["verify", out]) == 2
    assert "--data npz:PATH" in capsys.readouterr().err
    assert main(["verify", out, "--data", f"npz:{there}/renamed.npz", "--retrain", "best"]) == 0
    assert evonas.load_network(out, data=f"npz:{there}/renamed.npz")(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert contents(home / "runs" / "one") == before
    run(replace(options, data=DataOptions(data=f"npz:{there}/renamed.npz")))
    after = contents(home / "runs" / "one")
    assert [after[name] for name in ("journal.jsonl", "front.csv")] == [
        before[name] for name in ("journal.jsonl", "front.csv")
    ]
    assert config(home / "runs" / "one")["settings"]["data"] == f"npz:{there}/renamed.npz"

    (there / "renamed.npz").rename(away / "renamed.npz")  # the folder where the command runs
    assert main(["verify", out]) == 0
    assert "all counts are equal" in capsys.readouterr().out
    save_images(there / "renamed.npz", seed=1)
    assert main(["verify", out]) == 2
    assert "expected the data that" in capsys.readouterr().err
    with pytest.raises(RunMismatchError, match=r"data\.fingerprint"):
        run(replace(options, data=DataOptions(data=f"npz:{there}/renamed.npz")))


def test_the_name_of_a_file_is_no_part_of_its_fingerprint(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_images(tmp_path / f"{name}.npz")
    one, two = (load_data(f"npz:{tmp_path}/{name}.npz") for name in ("one", "two"))
    assert (one.name, two.name) == ("npz:one.npz", "npz:two.npz")
    assert one.fingerprint == two.fingerprint != replace(one, by_content=False).fingerprint
    save_images(tmp_path / "two.npz", seed=1)
    assert load_data(f"npz:{tmp_path}/two.npz").fingerprint != one.fingerprint


def test_a_fingerprint_of_an_earlier_version_has_the_files_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was begun with it goes on, whatever the file is called now."""
    save_images(tmp_path / "mine.npz")
    search = replace(ROCO.search, population=2, generations=0)
    options = replace(ROCO, data=DataOptions(data=f"npz:{tmp_path}/mine.npz"), search=search, out=tmp_path / "run")
    with monkeypatch.context() as earlier:
        earlier.setattr("evonas.runs.begun.load_data", lambda *given: replace(load_data(*given), by_content=False))
        run(options)
    before = journal(tmp_path / "run")
    (tmp_path / "mine.npz").rename(tmp_path / "renamed.npz")
    run(replace(options, data=DataOptions(data=f"npz:{tmp_path}/renamed.npz")))
    assert journal(tmp_path / "run") == before


def test_a_relative_path_of_an_earlier_version_is_found_from_the_runs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home" / "sub").mkdir(parents=True)
    save_images(tmp_path / "home" / "sub" / "mine.npz")
    out = tmp_path / "home" / "runs" / "one"
    data = DataOptions(data=f"npz:{tmp_path}/home/sub/mine.npz")
    run(replace(ROCO, data=data, search=replace(ROCO.search, population=2, generations=0), out=out))
    content = config(out)
    content["settings"]["data"] = "npz:sub/mine.npz"
    (out / "config.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    assert main(["verify", str(out)]) == 0


def test_auto_says_which_data_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the default folder of a run may hold another one
    options = replace(ROCO, data=DataOptions(data="auto", data_root=tmp_path))
    with Run.open("roco-nas", options, "roco") as found:
        assert found.path == Path("runs/roco-digits-quick-seed0")
        assert found.load_data().name == "digits"
        assert any("because CIFAR-10 is not below" in note and "--data cifar10" in note for note in found.notes)
    assert not (tmp_path / "runs").exists()  # nothing was written, so nothing stays


def test_a_choice_is_noted_once(copied_run: Path) -> None:
    run(replace(ROCO, out=copied_run))
    notes = config(copied_run)["notes"]
    assert len(set(notes)) == len(notes)


class TestDamage:
    def test_a_damaged_line_is_evaluated_again(self, roco_run: Path, copied_run: Path) -> None:
        file = copied_run / "journal.jsonl"
        lines = file.read_bytes().splitlines(keepends=True)
        lines[4] = lines[4].replace(b'"clean_error":0.', b'"clean_error":1.')
        file.write_bytes(b"".join(lines))
        screen = run(replace(ROCO, out=copied_run))
        assert "was damaged at line 5: 1 torn or altered line(s) left out, 11 evaluations kept" in screen
        assert "12 evaluations (11 from the journal" in screen
        assert (copied_run / "journal.jsonl.damaged-1").read_bytes() == b"".join(lines)
        assert len(journal(copied_run)) == len(journal(roco_run))
        for name in ("population.csv", "front.csv"):
            drop = ["train_seconds"]
            found, undisturbed = (pd.read_csv(folder / name).drop(columns=drop) for folder in (copied_run, roco_run))
            pd.testing.assert_frame_equal(found, undisturbed, check_exact=True)

    def test_a_damaged_first_line_loses_nothing_and_lets_nobody_else_in(self, copied_run: Path) -> None:
        file = copied_run / "journal.jsonl"
        whole = file.read_bytes()
        file.write_bytes(whole.replace(b"roco-nas", b"roco-nax", 1))
        with pytest.raises(RunMismatchError, match="belongs to another run"):
            run(replace(ROCO, out=copied_run, seed=5))
        assert "at line 1: 1 torn or altered line(s) left out, 12 evaluations kept" in run(
            replace(ROCO, out=copied_run)
        )
        assert file.read_bytes() == whole

    def test_leftovers_of_a_killed_process_are_removed(self, copied_run: Path) -> None:
        (copied_run / ".front.csv.123.tmp").write_text("half")
        run(replace(ROCO, out=copied_run))
        assert not list(copied_run.glob(".*"))

    def test_tables_that_are_gone_are_written_again(self, roco_run: Path, copied_run: Path) -> None:
        (copied_run / "front.csv").unlink()
        (copied_run / "population.csv").write_text("arch_id\n")
        run(replace(ROCO, out=copied_run))
        for name in ("front.csv", "population.csv"):
            assert (copied_run / name).read_bytes() == (roco_run / name).read_bytes()


def test_a_run_where_everything_fails_ends_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "failing"
    with pytest.raises(
        SearchFailedError, match=r"^all 2 evaluations failed, .* \(. times\): training diverged"
    ) as failed:
        run(replace(WILD, out=out))
    assert "\n" not in str(failed.value)
    assert str(out / "failures.log") in str(failed.value)
    log = (out / "failures.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert log.count("DivergedError: ") == 1
    assert rows(out / "front.csv") == []
    population = rows(out / "population.csv")
    assert len(population) == 2  # nothing is bred from failures
    assert {(row["status"], row["rank"], row["clean_error"]) for row in population} == {("failed", "", "")}
    assert all(int(row["params"]) > 0 for row in population)
    before = (out / "journal.jsonl").read_bytes()
    with pytest.raises(SearchFailedError, match="all 2 evaluations failed"):
        run(replace(WILD, out=out))
    assert (out / "journal.jsonl").read_bytes() == before  # a failed line replays as failed
    assert (out / "failures.log").read_text() == log
    with pytest.raises(SearchFailedError):
        run(replace(WILD, out=out, retry_failed=True))
    assert len(journal(out)) == 1 + 2 * 2
    assert guarded(lambda: run(replace(WILD, out=out))) == 1


def test_an_infinite_setting_is_the_same_run_when_it_is_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = replace(ROCO.search, population=2, generations=0)
    endless = replace(ROCO, training=replace(ROCO.training, grad_clip=math.inf), search=search, out=tmp_path / "run")
    run(endless)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["grad_clip"] == config["identity"]["training"]["grad_clip"] == "Infinity"
    assert "2 from the journal" in run(endless)
    assert main(["verify", str(tmp_path / "run"), "--retrain", "best"]) == 0
    assert "DIFFERENT" not in capsys.readouterr().out
    with pytest.raises(RunMismatchError, match=r"training\.grad_clip is Infinity there, 5\.0 here"):
        run(replace(endless, training=ROCO.training))


class TestFolders:
    def test_a_second_writer_is_refused_and_a_reader_is_not(self, copied_run: Path) -> None:
        before = contents(copied_run)
        with RunFolder(copied_run).locked():
            assert len(RunFolder(copied_run).entries()) == EVALUATIONS
            assert main(["show", str(copied_run)]) == 0
            assert main(["export", str(copied_run)]) == 2
            with pytest.raises(RunInUseError, match="is being written by another process"):
                run(replace(ROCO, out=copied_run))
        assert contents(copied_run) == before

    def test_a_lock_leaves_nothing_where_nothing_was_written(self, tmp_path: Path) -> None:
        with RunFolder(tmp_path / "deep" / "run").locked():
            assert [path.name for path in (tmp_path / "deep" / "run").iterdir()] == ["run.lock"]
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_was_there_stays(self, tmp_path: Path) -> None:
        (tmp_path / "mine").write_text("mine")
        with RunFolder(tmp_path).locked():
            pass
        assert contents(tmp_path) == {"mine": b"mine"}
        with RunFolder(tmp_path).locked():
            (tmp_path / "config.json").write_text("{}")
        assert set(contents(tmp_path)) == {"mine", "config.json", "run.lock"}

    def test_the_refused_writer_leaves_the_lock_of_the_other(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path / "run")
        with folder.locked():
            with pytest.raises(RunInUseError), folder.locked():
                pytest.fail("two processes have the lock")
            assert (folder.path / "run.lock").exists()

    @pytest.mark.parametrize(
        ("name", "text"), [("config.json", '{"my": 1}'), ("config.json", "[]"), ("front.csv", "mine")]
    )
    def test_files_of_somebody_else_are_not_touched(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(StorageError, match="move"):
            run(replace(ROCO, out=tmp_path))
        assert contents(tmp_path) == {name: text.encode()}

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        for out in (tmp_path / "file", tmp_path / "file" / "run"):
            with pytest.raises(StorageError, match="could not open"):
                run(replace(ROCO, out=out))
        assert contents(tmp_path) == {"file": b"mine"}


def test_another_version_is_said_and_the_first_one_kept(copied_run: Path) -> None:
    found = config(copied_run)
    text = (copied_run / "config.json").read_text()
    (copied_run / "config.json").write_text(text.replace(found["versions"]["torch"], "1.0"))
    screen = run(replace(ROCO, out=copied_run))
    assert "begun with torch 1.0" in screen
    assert config(copied_run)["versions"]["torch"] == "1.0"


def test_a_run_that_is_only_read_writes_nothing(copied_run: Path) -> None:
    before = contents(copied_run)
    with Run.open("roco-nas", replace(ROCO, out=copied_run), reading=True) as reopened:
        data = reopened.load_data()
        candidates = reopened.train_from_scratch(SPACE, data, ROCO.training)
        objectives = reopened.make_objectives(ROCO.search.objectives, data)
        with pytest.raises(ConfigurationError, match="is only looked at"):
            reopened.search(SPACE, candidates, objectives, ROCO.search)
    assert contents(copied_run) == before


def test_objectives_that_nothing_measures_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with Run.open("mine", replace(ROCO, out=tmp_path / "run")) as begun:
        data = begun.load_data()
        candidates = begun.train_from_scratch(SPACE, data, ROCO.training)
        measured = begun.make_objectives(("clean_error",), data)
        with pytest.raises(ConfigurationError, match="among the measured columns clean_error, got macs"):
            begun.search(SPACE, candidates, measured, EvolutionConfig(objectives=("clean_error", "macs")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["rank", "seed", "run"])
def test_an_objective_called_like_a_column_of_the_tables_is_refused(name: str, tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Shadow(CleanError):
        def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
            return *super().columns(space, n_classes), Column(name, reference=1.0)

    with Run.open("mine", replace(ROCO, out=tmp_path / "run")) as begun:
        candidates = begun.train_from_scratch(SPACE, begun.load_data(), ROCO.training)
        with pytest.raises(ConfigurationError, match=f"got {name}, which is a column of every table"):
            begun.search(SPACE, candidates, [Shadow()], EvolutionConfig(objectives=("clean_error",)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("begun", "closed"),
    [
        (None, True),
        ("standard", True),
        ({"name": "trades"}, True),
        ({"name": "trades_yopo", "m": 5, "clamp": "closed"}, True),
        ({"name": "trades_yopo", "m": 5}, False),
    ],
)
def test_trades_yopo_goes_on_as_version_0_1_0_began_it(begun: Any, closed: bool, tmp_path: Path) -> None:
    with Run.open("roco-nas", replace(ROCO, out=tmp_path / "run")) as opened:
        assert opened.recipe_as_begun(TradesYopo(), begun) == TradesYopo(closed=closed)
        assert opened.recipe_as_begun(standard, begun) is standard
        assert len([note for note in opened.notes if "saturated" in note]) == (not closed)


class TestTheSizeOfAPassThatScores:
    def test_is_that_of_the_options_and_stays(self, tmp_path: Path) -> None:
        options = replace(ROCO, out=tmp_path / "run", score_batch_size=7)
        run(options)
        identity = config(tmp_path / "run")["identity"]
        assert identity["score_batch_size"] == identity["objectives"]["clean_error"]["batch_size"] == 7
        before = journal(tmp_path / "run")
        for again in (None, 7):
            run(replace(options, score_batch_size=again))
            assert journal(tmp_path / "run") == before
        with pytest.raises(RunMismatchError, match="score_batch_size is 7 there, 8 here"):
            run(replace(options, score_batch_size=8))

    def test_is_that_of_each_score_on_a_cpu(self, roco_run: Path) -> None:
        identity = config(roco_run)["identity"]
        assert "score_batch_size" not in identity
        assert identity["objectives"]["clean_error"]["batch_size"] == 500
        with pytest.raises(RunMismatchError, match="score_batch_size is nothing there, 500 here"):
            run(replace(ROCO, out=roco_run, score_batch_size=500))

    def test_follows_from_a_gpu_when_the_run_begins(
        self, roco_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options, room = replace(ROCO, out=tmp_path / "run"), iter([512, 1024])
        monkeypatch.setattr(Hardware, "images_at_once", lambda self, gpus, size: next(room))
        said = run(options)
        assert "scores: batches of 512, by the GPU's memory, however many share it" in said
        assert config(tmp_path / "run")["identity"]["objectives"]["clean_error"]["batch_size"] == 512
        before = journal(tmp_path / "run")
        run(options)
        assert journal(tmp_path / "run") == before
        run(replace(ROCO, out=roco_run))  # begun without: it goes on so
        assert next(room) == 1024

    def test_is_that_of_audits_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        given: list[Measured] = []
        monkeypatch.setattr(runs_run, "audit_networks", lambda run, networks, measured, *rest: given.append(measured))
        for size in (None, 7):
            with Run.open("roco-nas", replace(ROCO, out=tmp_path / str(size), score_batch_size=size)) as begun:
                data = begun.load_data()
                training = FinalTraining(space=SPACE, data=data, training=ROCO.training, seed=0)
                network = AuditNetwork("", SPACE.sample(1, np.random.default_rng(0))[0], training)
                begun.audit([network], Measured(measurements=(CLEAN,), batch_size=200), "")
        assert [each.batch_size for each in given] == [200, 7]
