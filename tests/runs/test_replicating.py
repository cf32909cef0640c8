"""Replicates of a front: what they cost, their journals, front.csv, and the same again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import ROCO, config, journal, rows, run

from evonas.errors import ConfigurationError, StorageError
from evonas.report import Searched
from evonas.runs.folder import RunFolder
from evonas.runs.replicating import plan
from evonas.runs.status import read_status
from evonas.search import Entry, EvolutionConfig, Journal, read_journal
from evonas.search.evaluations import evaluation_seed
from evonas.seeding import derive_seed
from evonas.types import EvaluationResult, arch_id

OPTIONS = replace(ROCO, search=replace(ROCO.search, population=10, generations=3, replicates=3))


def test_the_plan_spends_its_budget_and_no_more() -> None:
    front = [Entry(EvaluationResult((number,)), 0, number) for number in range(5)]

    def planned(replicates: int, budget: int) -> dict[int, list[int]]:
        return {number: [e.proposal for e in found] for number, found in plan(front, replicates, budget).items()}

    assert planned(3, 100) == {2: [0, 1, 2, 3, 4], 3: [0, 1, 2, 3, 4]}
    assert planned(3, 7) == {2: [0, 1, 2, 3, 4], 3: [0, 4]}
    assert planned(9, 3) == {2: [0, 2, 4]}
    assert planned(2, 1) == {2: [0]}


def test_a_tenth_of_the_evaluations_is_kept_back() -> None:
    whole = EvolutionConfig(population=10, generations=3)
    assert (whole.evaluations, whole.again) == (40, 0)
    kept = replace(whole, replicates=3)
    assert (kept.evaluations, kept.again) == (36, 4)
    assert (replace(kept, max_evaluations=25).evaluations, replace(kept, max_evaluations=25).again) == (23, 2)
    assert kept.identity() == whole.identity()


@pytest.mark.parametrize("given", [{"population": 1, "generations": 0}, {"max_evaluations": 1}])
def test_one_evaluation_is_too_few(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected at least 2 evaluations with replicates"):
        EvolutionConfig(**given, replicates=2)
    assert replace(EvolutionConfig(max_evaluations=2), replicates=2).evaluations == 1


def test_only_this_run_s_own_evaluations_count(tmp_path: Path) -> None:
    identity, genome = {"seed": 0}, (1, 2)
    folder, key = RunFolder(tmp_path), arch_id(genome)
    with Journal(folder.journal, identity):
        pass
    assert folder.replicated(2) == []
    seeds = [evaluation_seed(derive_seed(0, "replicate", number), key) for number in (2, 3)]
    lines = [Entry(EvaluationResult(genome, {"clean_error": 0.5}, seed=seed), 0, 0) for seed in seeds]
    for number in (2, 3):  # both with the lines of the second seed
        with Journal(folder.replicate_journal(number), identity) as journal:
            journal.append(lines[0])
    assert folder.replicated(2) == lines[:1]
    assert folder.replicated(3) == []
    folder.replicate_journal(2).unlink()
    with Journal(folder.replicate_journal(2), {"seed": 1}) as journal:
        journal.append(lines[0])
    with pytest.raises(StorageError, match=r"expected further evaluations of this run in .*2.jsonl, got another"):
        folder.replicated(2)


@pytest.mark.parametrize("first", [b"#damaged\n", b'{"format":"evonas-jou', b""])
def test_a_damaged_first_line_loses_nothing(first: bytes, tmp_path: Path) -> None:
    identity, genome = {"seed": 0}, (1, 2)
    folder = RunFolder(tmp_path)
    with Journal(folder.journal, identity):
        pass
    seed = evaluation_seed(derive_seed(0, "replicate", 2), arch_id(genome))
    entry = Entry(EvaluationResult(genome, {"clean_error": 0.5}, seed=seed), 0, 0)
    path = folder.replicate_journal(2)
    with Journal(path, identity) as journal:
        journal.append(entry)
    _, line = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + (b"\n" if first and not first.endswith(b"\n") else b"") + line)
    assert folder.replicated(2) == [entry]
    path.write_bytes(first.rstrip(b"\n"))
    if first.startswith(b"#"):  # nothing left that tells whose it is
        with pytest.raises(StorageError, match="expected a journal of evonas"):
            folder.replicated(2)
    else:
        assert folder.replicated(2) == []


def again(folder: Path) -> list[tuple[str, int, Any]]:
    """Key, seed and clean error of every line by the second seed."""
    _, entries = read_journal(folder / "replicates" / "2.jsonl")
    return [(entry.key, entry.result.seed, entry.result.objectives["clean_error"]) for entry in entries]


@pytest.mark.slow
def test_a_run_with_replicates(tmp_path: Path) -> None:
    said = run(replace(OPTIONS, out=tmp_path / "run"))
    assert len(journal(tmp_path / "run")) == 37
    further = again(tmp_path / "run")
    front = rows(tmp_path / "run" / "front.csv")
    assert len(further) == min(4, len(front))
    own = {row["arch_id"]: int(row["seed"]) for row in front}
    assert all(key in own and seed != own[key] for key, seed, _ in further)
    found = {row["arch_id"]: row for row in front}
    for key, _, error in further:
        if found[key]["replicates"] == "1":  # the mean of one
            assert float(found[key]["clean_error_mean"]) == error
    assert sum(int(row["replicates"] or 0) for row in front) == 4
    assert config(tmp_path / "run")["results"]["replicates"]["trainings"] == 4
    assert said.rstrip().splitlines()[-1].startswith("replicates: 4 further evaluations of ")
    before = (tmp_path / "run" / "front.csv").read_bytes()
    run(replace(OPTIONS, out=tmp_path / "run"))  # nothing is evaluated again
    assert again(tmp_path / "run") == further
    assert (tmp_path / "run" / "front.csv").read_bytes() == before
    second = tmp_path / "run" / "replicates" / "2.jsonl"
    lines = second.read_bytes().splitlines(keepends=True)
    second.write_bytes(b"".join(lines[:-1]))  # killed before the last one was written
    status = read_status(tmp_path / "run")
    assert [(stage.name, stage.done, stage.total) for stage in status.stages] == [
        ("search", 36, 36),
        ("replicates", 3, 4),
    ]
    assert not status.complete
    run(replace(OPTIONS, out=tmp_path / "run"))
    assert read_status(tmp_path / "run").complete
    assert again(tmp_path / "run") == further
    searched = Searched("m", "d", ("clean_error", "macs"), reference=(1.0, 1.0))
    assert RunFolder(tmp_path / "run").replicates(searched) is not None
