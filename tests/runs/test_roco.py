"""RoCo-NAS runs in this process: files, resuming, refusing, verifying."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evonas.cli import main
from evonas.errors import ConfigurationError, RunMismatchError, StorageError
from evonas.evaluation import TrainFromScratch
from evonas.runs import RocoSettings, RunFolder, roco_from_config, run_roco
from evonas.runs.roco import plan_roco
from evonas.search import EvolutionConfig
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig

TINY = RocoSettings(
    data="digits", train_limit=60, val_limit=50, channels=2, phases=2, nodes=3,
    training=TrainingConfig(epochs=1, batch_size=30, lr=0.1), search=EvolutionConfig(population=4, generations=2),
)  # fmt: skip


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
        "config.json", "front.csv", "front.png", "history.csv", "history.png", "journal.jsonl", "population.csv",
    ]  # fmt: skip
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


def test_auto_says_which_data_and_why(tmp_path: Path) -> None:
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
    with pytest.raises(RunMismatchError, match="its first line is damaged"):
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
