"""RoCo-NAS runs in this process: files, resuming, refusing, verifying; adversarial sets found, built and refused."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from evonas.adversarial_sets import (
    SET_PRESETS,
    AdversarialSet,
    BuildPlan,
    SetSettings,
    load_adversarial_set,
    save_adversarial_set,
)
from evonas.attacks import FGSM, PGD
from evonas.cli import main
from evonas.data import Dataset, load_data
from evonas.errors import ConfigurationError, DataError, RunMismatchError, StorageError
from evonas.evaluation import TrainFromScratch
from evonas.objectives import AdversarialSetError, CleanError, FGSMError, Macs, PGDError
from evonas.runs import RetrainSettings, RocoSettings, RunFolder, roco_from_config, run_roco
from evonas.runs.objectives import AttackSettings, identity_of, make_objectives
from evonas.runs.roco import plan_roco, prepare_roco
from evonas.search import EvolutionConfig
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig

TINY = RocoSettings(
    data="digits",
    train_limit=60,
    val_limit=50,
    channels=2,
    phases=2,
    nodes=3,
    training=TrainingConfig(epochs=1, batch_size=30, lr=0.1),
    search=EvolutionConfig(population=4, generations=2),
)


def run(settings: RocoSettings) -> str:
    screen = io.StringIO()
    run_roco(settings, Console(file=screen, width=200))
    return screen.getvalue()


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def lines_without_timing(path: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in ("seconds", "checksum")} for record in records]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "finished"
    run(replace(TINY, out=out))
    return out


def test_a_run_leaves_its_files(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        "config.json",
        "front.csv",
        "front.png",
        "history.csv",
        "history.png",
        "journal.jsonl",
        "population.csv",
    ]
    assert len(rows(finished / "population.csv")) == 12
    assert [row["generation"] for row in rows(finished / "history.csv")] == ["0", "1", "2"]
    assert {row["rank"] for row in rows(finished / "front.csv")} == {"0"}


def test_every_row_has_the_costs_of_its_network(finished: Path) -> None:
    space = PhaseSpace(phases=2, nodes=3, channels=2)
    for row in rows(finished / "population.csv"):
        network = space.build([int(gene) for gene in row["genome"].split()])
        assert int(row["params"]) == sum(p.numel() for p in network.parameters())


def test_the_configuration_says_what_was_run(finished: Path) -> None:
    config = json.loads((finished / "config.json").read_text())
    assert config["identity"]["training"]["precision"] in ("fp32", "bf16")
    assert config["identity"]["threads"] >= 1
    assert config["identity"]["data"]["name"] == "digits"
    assert len(config["identity"]["data"]["fingerprint"]) == 32
    assert config["reference_point"]["clean_error"] == 1.0
    assert set(config["versions"]) >= {"evonas", "torch", "pymoo"}
    assert any(note.startswith("precision: ") for note in config["notes"])
    assert roco_from_config(config) == replace(TINY, out=finished)


def test_the_same_run_elsewhere_gives_the_same_journal_bit_for_bit(finished: Path, tmp_path: Path) -> None:
    run(replace(TINY, out=tmp_path / "again"))
    again = tmp_path / "again" / "journal.jsonl"
    assert lines_without_timing(again) == lines_without_timing(finished / "journal.jsonl")


def test_a_finished_run_evaluates_nothing_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (finished / "journal.jsonl").read_bytes()
    monkeypatch.setattr(TrainFromScratch, "start", None)
    screen = run(replace(TINY, out=finished))
    assert (finished / "journal.jsonl").read_bytes() == before
    assert "12 evaluations (12 from the journal, 0 failed)" in screen


def test_generations_may_grow(finished: Path, tmp_path: Path) -> None:
    short = replace(TINY, out=tmp_path / "run", search=EvolutionConfig(population=4, generations=1))
    run(short)
    run(replace(TINY, out=tmp_path / "run"))
    grown = lines_without_timing(tmp_path / "run" / "journal.jsonl")
    assert grown == lines_without_timing(finished / "journal.jsonl")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"channels": 4}, "space.channels is 2 there, 4 here"),
        ({"train_limit": 70}, "data.fingerprint"),
        ({"training": replace(TINY.training, lr=0.2)}, "training.lr is 0.1 there, 0.2 here"),
        ({"search": replace(TINY.search, seed=1)}, "seed is 0 there, 1 here"),
        ({"search": replace(TINY.search, objectives=("clean_error", "params"))}, "search.objectives"),
    ],
)
def test_another_identity_is_refused_with_the_difference(finished: Path, change: dict[str, Any], named: str) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(RunMismatchError) as refused:
        run(replace(TINY, out=finished, **change))
    assert named in str(refused.value)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_choices_made_at_the_start_stay(finished: Path) -> None:
    """A run that was started with `auto` keeps what that meant then."""
    plan, _ = plan_roco(replace(TINY, data="auto", out=finished))
    assert plan.data_name == "digits"
    assert "data: digits, as this run was started with" in plan.notes
    assert any(note.startswith("precision: ") and "as this run was started with" in note for note in plan.notes)


def test_auto_says_which_data_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the default folder of a run may hold another one
    plan, folder = plan_roco(replace(TINY, data="auto", data_root=tmp_path))
    assert plan.data_name == "digits"
    assert any("because CIFAR-10 is not below" in note and "--data cifar10" in note for note in plan.notes)
    assert folder.path == Path("runs/roco-digits-quick-seed0")


def test_a_first_population_from_an_earlier_run(finished: Path, tmp_path: Path) -> None:
    best = [row["genome"] for row in rows(finished / "population.csv")]
    heir = replace(TINY, out=tmp_path / "heir", init_from=str(finished), search=replace(TINY.search, seed=9))
    plan, _ = plan_roco(heir)
    assert [" ".join(map(str, genome)) for genome in plan.first] == best[:4]
    run(heir)
    first = [line for line in lines_without_timing(tmp_path / "heir" / "journal.jsonl")[1:] if line["generation"] == 0]
    assert [" ".join(map(str, line["genome"])) for line in first] == best[:4]
    from_table = replace(heir, init_from=str(finished / "front.csv"))
    front = [row["genome"] for row in rows(finished / "front.csv")]
    assert [" ".join(map(str, g)) for g in plan_roco(replace(from_table, out=tmp_path / "n"))[0].first] == front[:4]


def test_the_heir_continues_when_its_ancestor_has_changed(finished: Path, tmp_path: Path) -> None:
    table = tmp_path / "first.csv"
    table.write_text((finished / "front.csv").read_text())
    heir = replace(TINY, out=tmp_path / "heir", init_from=str(table))
    run(heir)
    table.unlink()
    assert "(12 from the journal" in run(heir)


def test_genomes_of_another_space_are_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a genome of shape"):
        run(replace(TINY, nodes=4, out=tmp_path / "other", init_from=str(finished)))


def test_designs_open_the_first_population(tmp_path: Path) -> None:
    plan, _ = plan_roco(replace(TINY, designs=("chain", "pair"), out=tmp_path / "designs"))
    space = PhaseSpace(phases=2, nodes=3, channels=2)
    designs = space.designs()
    assert plan.first == tuple(tuple(space.canonical(designs[name]).tolist()) for name in ("chain", "pair"))


def test_show_export_and_verify(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(finished)]) == 0
    assert rows(finished / "front.csv")[0]["arch_id"] in capsys.readouterr().out
    population = (finished / "population.csv").read_bytes()
    history = (finished / "history.csv").read_bytes()
    (finished / "population.csv").unlink()
    assert main(["export", str(finished)]) == 0
    assert (finished / "population.csv").read_bytes() == population
    assert (finished / "history.csv").read_bytes() == history
    assert main(["verify", str(finished), "--retrain", "best"]) == 0
    said = capsys.readouterr().out
    assert "12 networks counted anew, 0 failed ones left out: all counts are equal" in said
    assert "clean_error: recorded" in said
    assert "DIFFERENT" not in said


def test_verify_finds_a_recorded_value_that_is_wrong(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from evonas.files import seal

    liar = tmp_path / "liar"
    liar.mkdir()
    (liar / "config.json").write_text((finished / "config.json").read_text())
    header, *lines = (finished / "journal.jsonl").read_bytes().splitlines(keepends=True)
    record = json.loads(lines[0])
    del record["checksum"]
    record["objectives"] = {**record["objectives"], "clean_error": 0.123, "params": 1}
    (liar / "journal.jsonl").write_bytes(header + seal(record) + b"".join(lines[1:]))
    assert main(["verify", str(liar), "--retrain", record["key"]]) == 2
    said = capsys.readouterr()
    assert "1 counts differ" in said.out
    assert "clean_error: recorded 0.123" in said.out
    assert "were not found again" in said.err


def test_damage_is_mended_and_told(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "damaged"
    run(replace(TINY, out=out))
    journal = out / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[6] = lines[6].replace(b'"clean_error":0.', b'"clean_error":1.')
    journal.write_bytes(b"".join(lines))
    screen = run(replace(TINY, out=out))
    assert "was damaged after line 6" in screen
    assert (out / "journal.jsonl.damaged-1").read_bytes() == b"".join(lines)
    assert lines_without_timing(journal) == lines_without_timing(finished / "journal.jsonl")


def test_a_run_where_everything_fails_ends_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "failing"
    screen = run(replace(TINY, out=out, training=replace(TINY.training, lr=1e30, grad_clip=1e30)))
    assert "every evaluation failed, so the front is empty; the last one: training diverged" in screen
    assert rows(out / "front.csv") == []
    population = rows(out / "population.csv")
    assert {(row["status"], row["rank"], row["clean_error"]) for row in population} == {("failed", "", "")}
    assert all(int(row["params"]) > 0 for row in population)
    assert "12 from the journal, 12 failed" in run(
        replace(TINY, out=out, training=replace(TINY.training, lr=1e30, grad_clip=1e30))
    )


def test_a_folder_can_be_read_while_it_is_written(finished: Path) -> None:
    """Another process holds the lock: reading goes on, exporting is refused."""
    with RunFolder(finished).locked():
        assert len(RunFolder(finished).entries()) == 12
        assert main(["export", str(finished)]) == 2


def test_a_damaged_first_line_loses_nothing_and_lets_nobody_else_in(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(replace(TINY, out=out))
    journal = out / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole.replace(b"roco-nas", b"roco-nax", 1))
    with pytest.raises(RunMismatchError, match="belongs to another run"):
        run(replace(TINY, out=out, search=replace(TINY.search, seed=5)))
    screen = run(replace(TINY, out=out))
    assert "was damaged in its first line, which is written again; 12 evaluations are kept" in screen
    assert "12 evaluations (12 from the journal" in screen
    assert journal.read_bytes() == whole


@pytest.mark.parametrize(("name", "text"), [("config.json", '{"my": 1}'), ("front.csv", "mine")])
def test_files_of_somebody_else_are_not_touched(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(StorageError, match="move"):
        run(replace(TINY, out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == text


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".front.csv.123.tmp").write_text("half")
    run(replace(TINY, out=out, search=EvolutionConfig(population=2, generations=0)))
    assert not [path for path in out.iterdir() if path.name.endswith(".tmp")]


def test_a_run_may_grow_but_not_shrink(finished: Path) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(ConfigurationError, match="expected at least the 2 generations"):
        run(replace(TINY, out=finished, search=replace(TINY.search, generations=1)))
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_more_phases_than_the_image_has_room_for(tmp_path: Path) -> None:
    run(replace(TINY, out=tmp_path / "run", phases=7, search=EvolutionConfig(population=3, generations=1)))
    assert len(rows(tmp_path / "run" / "population.csv")) == 6


def test_nobody_starts_from_a_run_without_networks(tmp_path: Path) -> None:
    empty = tmp_path / "front.csv"
    empty.write_text("arch_id,status,genome\n")
    with pytest.raises(ConfigurationError, match="expected genomes to start from"):
        run(replace(TINY, out=tmp_path / "heir", init_from=str(empty)))


# With an adversarial set.


TRIPLE = ("clean_error", "macs", "adversarial_set_error")
SMALL = replace(
    TINY,
    search=EvolutionConfig(population=2, generations=1, objectives=TRIPLE),
    val_limit=None,
)
QUICK_SET = SetSettings(
    targets=("LeNet",),
    widths=(0.5,),
    target_epochs=(4,),
    target_batch_size=20,
    target_lr=0.02,
    thresholds=(20,),
    attacked_images=20,
    attack_population=10,
    attack_generations=2,
)

MakeSet = Callable[[Dataset, Mapping[str, Sequence[int]]], AdversarialSet]


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    """A build sets the threads of its process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, digits_set: AdversarialSet) -> tuple[Path, RocoSettings, str]:
    """(folder, settings, screen) of a run with a set in a file."""
    folder = tmp_path_factory.mktemp("given")
    save_adversarial_set(folder / "mine", digits_set)
    settings = replace(SMALL, adversarial_set=str(folder / "mine.safetensors"), out=folder / "run")
    return folder / "run", settings, run(settings)


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where sets without a name are kept, with a quick preset that is quicker still."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SET_PRESETS, "quick", QUICK_SET)
    return tmp_path / "adversarial_sets"


@pytest.fixture
def no_building(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "evonas.runs.adversarial_sets.build_adversarial_set", lambda *arguments: pytest.fail("a set was built")
    )


def test_roco_searches_three_objectives_and_baseline_two() -> None:
    assert RocoSettings().search.objectives == TRIPLE
    assert RocoSettings().needs_set
    baseline = replace(SMALL, search=replace(SMALL.search, objectives=("clean_error", "macs")))
    assert not baseline.needs_set
    assert replace(baseline, after=RetrainSettings(retrain=True)).needs_set  # it is scored on one


def test_a_run_with_a_set_measures_it_and_its_parts(given: tuple[Path, RocoSettings, str], digits_set: Any) -> None:
    out, settings, screen = given
    table = rows(out / "population.csv")
    names = ["adversarial_set_error", "adversarial_set_error_L0", "adversarial_set_error_Linf"]
    assert [name for name in table[0] if name.startswith("adversarial")] == names
    for row in table:
        whole, l0, linf = (float(row[name]) for name in names)
        assert 0 <= whole <= 1
        assert (whole * 12).is_integer()  # twelve images, eight in each part, four in both
        assert max(l0, linf) * 8 <= whole * 12 <= (l0 + linf) * 8
    joined = "".join(screen.split())  # as wide as the screen is
    assert "".join(f"adversarial set: by-hand, 12 images, found at {settings.adversarial_set}".split()) in joined
    assert not (out / "adversarial_sets").exists()


def test_the_configuration_says_what_was_measured(
    given: tuple[Path, RocoSettings, str], digits_set: AdversarialSet
) -> None:
    out, settings, _ = given
    config = json.loads((out / "config.json").read_text())
    assert config["identity"]["objectives"]["adversarial_set_error"] == {
        "adversarial_set": {"fingerprint": digits_set.fingerprint},
        "batch_size": 500,
    }
    assert config["measured"]["adversarial_set_error_L0"] == {
        "about": "transferred: precomputed set of 8 images",
        "threat": "transfer",
        "set": "by-hand",
        "fingerprint": digits_set.fingerprint,
        "images": 8,
        "targets": ["LeNet"],
    }
    assert list(config["measured"]) == config["columns"]
    assert config["reference_point"]["adversarial_set_error"] == 1.0
    assert roco_from_config(config) == settings


def test_show_and_verify_a_run_with_a_set(
    given: tuple[Path, RocoSettings, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _, _ = given
    assert main(["show", str(out)]) == 0
    assert "adversarial_set_error: transferred: precomputed set of 12 images" in capsys.readouterr().out
    assert main(["verify", str(out), "--retrain", "best"]) == 0
    said = capsys.readouterr().out
    assert "adversarial_set_error: recorded" in said
    assert "DIFFERENT" not in said
    before = (out / "population.csv").read_bytes()
    assert main(["export", str(out)]) == 0
    assert (out / "population.csv").read_bytes() == before


def test_another_set_in_the_same_folder_is_refused(
    given: tuple[Path, RocoSettings, str], make_set: MakeSet, tmp_path: Path, digits_set: AdversarialSet
) -> None:
    out, settings, _ = given
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    save_adversarial_set(tmp_path / "other", make_set(load_data("digits"), {"L0": range(9)}))
    with pytest.raises(RunMismatchError) as refused:
        run(replace(settings, adversarial_set=str(tmp_path / "other")))
    assert "objectives.adversarial_set_error.adversarial_set.fingerprint" in str(refused.value)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    save_adversarial_set(tmp_path / "copy", digits_set)  # the same images under another name are the same set
    assert "4 from the journal" in run(replace(settings, adversarial_set=str(tmp_path / "copy")))


def test_a_run_goes_on_with_its_set_however_often_it_is_not_named(
    digits_set: AdversarialSet, tmp_path: Path, no_building: None
) -> None:
    file, out = str(tmp_path / "mine.safetensors"), tmp_path / "run"
    save_adversarial_set(tmp_path / "mine", digits_set)
    run(replace(SMALL, adversarial_set=file, out=out))
    for _ in range(2):
        assert "4 from the journal" in run(replace(SMALL, out=out))
        assert json.loads((out / "config.json").read_text())["settings"]["adversarial_set"] == file


def test_the_second_run_finds_the_set_that_the_first_one_built(sets: Path, tmp_path: Path) -> None:
    first = run(replace(SMALL, out=tmp_path / "first"))
    (file,) = sets.glob("*.safetensors")
    assert f"adversarial set: none at adversarial_sets/{file.name} yet, building it: LeNet" in first
    built = (file.read_bytes(), file.stat().st_mtime_ns)
    second = run(replace(SMALL, out=tmp_path / "second", search=replace(SMALL.search, seed=1), split_seed=0))
    assert f"foundatadversarial_sets/{file.name}" in "".join(second.split())
    assert "building" not in second
    assert (file.read_bytes(), file.stat().st_mtime_ns) == built
    fingerprint = load_adversarial_set(file).fingerprint
    for name in ("first", "second"):
        identity = json.loads((tmp_path / name / "config.json").read_text())["identity"]
        assert identity["objectives"]["adversarial_set_error"]["adversarial_set"]["fingerprint"] == fingerprint
    again = run(replace(SMALL, out=tmp_path / "first"))
    assert "4 from the journal" in again
    assert main(["verify", str(tmp_path / "first")]) == 0
    file.unlink()
    assert main(["verify", str(tmp_path / "first")]) == 2  # it looks, and builds nothing
    assert not file.exists()


def test_another_seed_is_another_split_and_another_set(digits_set: AdversarialSet, tmp_path: Path) -> None:
    """Without --split-seed; with it all runs share one. Neither decides anything else about the set."""
    plans: list[BuildPlan] = []

    def find(build: BuildPlan) -> tuple[AdversarialSet, str]:
        plans.append(build)
        return digits_set, "found here"

    def prepare(seed: int, split_seed: int | None) -> AdversarialSet | None:
        search = replace(SMALL.search, seed=seed)
        settings = replace(SMALL, search=search, split_seed=split_seed, out=tmp_path / "run")
        return prepare_roco(settings, find).adversarial_set

    assert prepare(0, None) is prepare(3, 0) is digits_set
    with pytest.raises(ConfigurationError, match="give --split-seed 0"):
        prepare(3, None)
    first, shared, other = plans
    assert first.name == shared.name != other.name
    assert (first.split_seed, shared.split_seed, other.split_seed) == (0, 0, 3)
    assert first.settings == SET_PRESETS["quick"]
    assert first.data.adversarial.fingerprint == shared.data.adversarial.fingerprint


def test_objectives_without_a_set_need_none(no_building: None, sets: Path, tmp_path: Path) -> None:
    run(replace(SMALL, out=tmp_path / "run", search=replace(SMALL.search, objectives=("clean_error", "macs"))))
    assert not sets.exists()


def test_a_set_of_another_split_is_refused_with_the_flag_to_give(
    given: tuple[Path, RocoSettings, str], tmp_path: Path
) -> None:
    """The set was made with split seed 0, this run splits with its own seed 1."""
    _, settings, _ = given
    other = replace(settings, out=tmp_path / "run", search=replace(settings.search, seed=1))
    with pytest.raises(ConfigurationError, match="give --split-seed 0"):
        run(other)
    assert not (tmp_path / "run").exists()
    plan, _ = plan_roco(replace(other, split_seed=0))
    assert plan.identity["seed"] == 1


@pytest.mark.parametrize("damage", ["cut", "foreign", "missing"])
def test_a_set_that_cannot_be_read_is_one_line_and_exit_code_2(
    damage: str, given: tuple[Path, RocoSettings, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Path(given[1].adversarial_set).read_bytes()
    file = tmp_path / "set.safetensors"
    if damage != "missing":
        file.write_bytes(whole[:-3] if damage == "cut" else b"PK" + whole)
    words = ["roco", "--data", "digits", "--adversarial-set", str(file), "--out", str(tmp_path / "run")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: expected an adversarial set in {file}: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"init_from": "/no/such/run"},
        {"designs": ("tree",)},
        {"search": replace(SMALL.search, objectives=(*TRIPLE, "nothing"))},
    ],
    ids=lambda change: "-".join(change),
)
def test_what_is_wrong_is_told_before_a_set_is_built(
    change: dict[str, Any], no_building: None, sets: Path, tmp_path: Path
) -> None:
    with pytest.raises((ConfigurationError, StorageError, DataError, KeyError), match=r"unknown|could not|expected"):
        run(replace(SMALL, out=tmp_path / "run", **change))


def test_a_run_that_is_refused_builds_no_set(finished: Path, no_building: None, sets: Path) -> None:
    """The folder belongs to a run of two objectives."""
    with pytest.raises(RunMismatchError, match=r"search\.objectives"):
        run(replace(TINY, out=finished, search=replace(TINY.search, objectives=TRIPLE)))


# Objectives by name.


def test_attack_objectives_take_the_numbers_of_the_settings() -> None:
    attacks = AttackSettings(
        attack_epsilon=0.1, attack_steps=3, attack_step_size=0.05, stop_when_fooled=False, attack_images=40
    )
    names = ("pgd_error", "macs", "fgsm_error", "clean_error")
    assert make_objectives(names, attacks, "bf16", None) == (
        PGDError(attack=PGD(epsilon=0.1, step_size=0.05, steps=3, precision="bf16"), images=40),
        Macs(),
        FGSMError(attack=FGSM(epsilon=0.1, precision="bf16"), images=40),
        CleanError(),
    )
    assert make_objectives(("pgd_error", "fgsm_error"), AttackSettings(), "fp32", None) == (PGDError(), FGSMError())


def test_a_set_is_given_to_its_objective_alone(digits_set: AdversarialSet) -> None:
    found = make_objectives(TRIPLE, AttackSettings(), "fp32", digits_set)
    assert found == (CleanError(), Macs(), AdversarialSetError(digits_set))
    with pytest.raises(ConfigurationError, match="expected an adversarial set for adversarial_set_error, got none"):
        make_objectives(TRIPLE, AttackSettings(), "fp32", None)
    assert make_objectives(("macs",), AttackSettings(), "fp32", digits_set) == (Macs(),)


@pytest.mark.parametrize(
    "settings", [{"attack_epsilon": -1.0}, {"attack_steps": 0}, {"attack_step_size": 0.0}, {"attack_images": 0}]
)
def test_attacks_that_make_no_sense_are_refused_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="expected"):
        AttackSettings(**settings)


def test_identities_are_plain_values(digits_set: AdversarialSet) -> None:
    """Tensors go by their fingerprint, attacks by their name and every number."""
    assert identity_of(AdversarialSetError(digits_set)) == {
        "adversarial_set": {"fingerprint": digits_set.fingerprint},
        "batch_size": 500,
    }
    pgd = identity_of(PGDError())
    assert pgd["attack"]["name"] == "pgd"
    assert pgd["attack"]["steps"] == 10
    assert pgd["images"] is None
    others = [
        PGDError(attack=replace(PGDError().attack, steps=11)),
        PGDError(images=5),
        PGDError(attack=PGD(norm="l2")),
        FGSMError(),
    ]
    texts = {json.dumps(identity_of(each), sort_keys=True, allow_nan=False) for each in (PGDError(), *others)}
    assert len(texts) == 5


def test_a_run_under_attack_keeps_the_attacks_numbers(tmp_path: Path) -> None:
    search = EvolutionConfig(population=2, generations=0, objectives=("pgd_error", "fgsm_error"))
    attacks = AttackSettings(attack_epsilon=0.05, attack_steps=2, attack_images=20)
    settings = replace(TINY, search=search, attacks=attacks, out=tmp_path / "run")
    run(settings)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    pgd, fgsm = config["measured"]["pgd_error"], config["measured"]["fgsm_error"]
    assert (pgd["threat"], pgd["epsilon"], pgd["steps"], pgd["images"]) == ("white-box", 0.05, 2, 20)
    assert (fgsm["about"], fgsm["epsilon"]) == ("white-box: FGSM, linf 0.05", 0.05)
    for row in rows(tmp_path / "run" / "population.csv"):
        assert (float(row["pgd_error"]) * 20).is_integer()
    assert roco_from_config(config) == settings
    with pytest.raises(RunMismatchError, match=r"objectives\.pgd_error\.attack\.steps is 2 there, 3 here"):
        run(replace(settings, attacks=replace(attacks, attack_steps=3)))
    assert main(["verify", str(tmp_path / "run"), "--retrain", "best"]) == 0
