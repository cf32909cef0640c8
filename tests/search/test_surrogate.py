"""Searches with a surrogate: better than without, honest, within their limits, and the same after every kill."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import repeats_its_record, same_journal_when_killed
from learnable import CONFIG, OBJECTIVES, Ladder, learnable, noise
from threadpoolctl import threadpool_limits

from evonas.errors import ConfigurationError, UnknownNameError
from evonas.executors import ProcessExecutor
from evonas.report import Searched, history
from evonas.report.table import history_table
from evonas.search import (
    SURROGATES,
    Entry,
    EvolutionConfig,
    Journal,
    evolve,
    genealogy,
    honesty,
    hypervolume,
    read_journal,
)
from evonas.search.surrogate import Surrogate
from evonas.search.surrogate_models import Skill, Views
from evonas.types import Cost, EvaluationResult, Genome, Note

LADDER = Ladder()
PLAIN = replace(CONFIG, surrogate=None)
ASYNCHRONOUS = replace(CONFIG, asynchronous=True)
SEARCHED = Searched("m", "d", OBJECTIVES, reference=(1.0, 600.0))


def searched(
    evaluate: Any, config: EvolutionConfig, space: Any = LADDER, **given: Any
) -> tuple[list[Entry], list[str]]:
    """Entries in the order of proposals, and what was said."""
    journal, notes = Journal(), []

    def hear(event: Any) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    list(evolve(space, evaluate, config, journal=journal, report=hear, **given))
    return sorted(journal.lines, key=lambda entry: entry.proposal), notes


def volume(entries: list[Entry]) -> float:
    return hypervolume([[*entry.result.objectives.values()] for entry in entries if entry.result.ok], (1.0, 600.0))


# What it gains


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIG, ASYNCHRONOUS], ids=["batches", "asynchronous"])
def test_it_finds_more_than_evolution_alone(config: EvolutionConfig) -> None:
    """60 evaluations, 4 seeds: each of them ends higher with the surrogate, by chance once in 16 times."""
    for seed in range(4):
        with_it, _ = searched(learnable, replace(config, seed=seed))
        without, _ = searched(learnable, replace(config, seed=seed, surrogate=None))
        assert len(with_it) == len(without) == 60
        assert [entry.key for entry in with_it[:12]] == [entry.key for entry in without[:12]]  # the first population
        assert volume(with_it) > volume(without)
        assert sum(entry.assisted for entry in with_it) >= 30


@pytest.mark.lengthy
def test_a_region_that_fails_is_left() -> None:
    """Networks fail where gene 3 is 2 or 3, half of the space: of the last 24 that are chosen few do."""

    def evaluate(genome: Genome, seed: int) -> EvaluationResult:
        if genome[3] >= 2:
            raise RuntimeError("diverged")
        return learnable(genome, seed)

    entries, _ = searched(evaluate, CONFIG)
    failed = [not entry.result.ok for entry in entries]
    assert 3 <= sum(failed[:12]) <= 9
    assert sum(failed[-24:]) <= 4


def test_costs_are_computed_unless_the_results_say_otherwise() -> None:
    def told(evaluate: Any, objectives: tuple[str, ...] = OBJECTIVES) -> list[Any]:
        """Predictions of the cheapest network and of the dearest one."""
        surrogate = Surrogate(Ladder(), replace(CONFIG, objectives=objectives), (), Ladder().cost)
        for genome in Ladder().sample(20, np.random.default_rng(0)):
            surrogate.tell(evaluate(genome, 0))
        return surrogate.predict([np.zeros(8, dtype=np.int64), np.full(8, 3)])

    def doubled(genome: Genome, seed: int) -> EvaluationResult:
        values = learnable(genome, seed).objectives
        return EvaluationResult(tuple(genome), {**values, "params": 2 * values["params"]})

    assert [found.keys() for found in told(learnable)] == [{"clean_error"}] * 2
    cheapest, dearest = told(doubled)
    assert cheapest.keys() == {"clean_error", "params"}
    assert cheapest["params"][0] < 450 < 700 < dearest["params"][0]  # 200 and 1160; the others are around 580
    assert told(learnable, ("params",)) == [{}, {}]


@pytest.mark.lengthy
def test_maximised_objectives_are_predicted_in_natural_values() -> None:
    def accuracy(genome: Genome, seed: int) -> EvaluationResult:
        values = learnable(genome, seed).objectives
        return EvaluationResult(tuple(genome), {"accuracy": 1 - values["clean_error"], "params": values["params"]})

    objectives = ("accuracy", "params")
    entries, _ = searched(accuracy, replace(CONFIG, objectives=objectives), maximize=("accuracy",))
    again, _ = searched(learnable, CONFIG)
    assert [entry.key for entry in entries] == [entry.key for entry in again]
    for entry, other in zip(entries[20:], again[20:], strict=True):
        assert entry.predicted is not None
        assert other.predicted is not None
        assert entry.predicted["accuracy"][0] == pytest.approx(1 - other.predicted["clean_error"][0], abs=1e-6)


def test_a_space_declares_its_own_features() -> None:
    class Declared(Ladder):
        def features(self, genomes: Any) -> Any:
            return Ladder.prices[genomes] / 60

    genomes = [np.array([0, 1, 2, 3, 0, 0, 0, 0])]
    assert Views.of(Declared(), genomes, None).groups[0].tolist() == [[0, 10 / 60, 25 / 60, 1, 0, 0, 0, 0]]
    one_hot = Views.of(Ladder(), genomes, [Ladder().cost(genomes[0])])
    assert one_hot.groups[0].sum() == 8
    assert one_hot.groups[0].shape == (1, 32)
    assert one_hot.groups[1] == pytest.approx(np.log1p([[195, 0]]))
    other = Views.of(Ladder(), [np.array([1, 1, 2, 3, 0, 0, 0, 1])], [Cost(195, 0)])
    assert one_hot.distances(other)[0].tolist() == [[4.0]]  # two genes differ


# Its honesty


def test_honesty_by_hand() -> None:
    def entry(mean: float, deviation: float, value: float, ok: bool = True) -> Entry:
        result = EvaluationResult((0,), {"clean_error": value}) if ok else EvaluationResult.failure((0,), 0, "x")
        return Entry(result, 0, 0, predicted={"clean_error": (mean, deviation)})

    entries = [entry(0.1, 0.01, 0.11), entry(0.2, 0.01, 0.25), entry(0.3, 0.1, 0.2), entry(0.4, 0.1, 0.4)]
    found = honesty([*entries, entry(0.5, 1, 0, ok=False), Entry(EvaluationResult((0,)), 0, 0)])
    assert found == {"clean_error": (0.8, 0.75)}
    assert honesty(entries[:2]) == {"clean_error": (None, 0.5)}
    assert honesty([Entry(EvaluationResult((0,)), 0, 0)]) == {}


@pytest.mark.lengthy
def test_predictions_stand_in_journal_and_history(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl", {}) as journal:
        list(evolve(Ladder(), learnable, CONFIG, journal=journal))
        entries = list(journal)
    assert read_journal(tmp_path / "journal.jsonl")[1] == entries
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()[1:]]
    assert all("predicted" not in line for line in lines[:12])
    assert {*lines[-1]["predicted"]} == {"clean_error"}
    table = history_table(history(entries, SEARCHED))
    assert table["assisted"].tolist()[0] == 0
    assert table["assisted"].sum() == sum(entry.assisted for entry in entries) == sum(x["assisted"] for x in lines[12:])
    assert (table["predicted_rank_correlation_clean_error"][2:] > 0).all()
    assert table["predicted_coverage_clean_error"][1:].between(0, 1).all()
    plain = history_table(history(searched(learnable, PLAIN)[0], SEARCHED))
    assert plain.columns.tolist() == ["generation", "evaluations", "hypervolume", "seconds"]


@pytest.mark.lengthy
def test_it_stands_back_while_it_predicts_nothing() -> None:
    entries, notes = searched(noise, CONFIG)
    assert not any(entry.assisted for entry in entries)
    assert any("plain evolution until it predicts better" in note for note in notes)
    line = "  6 by evolution; rank correlation of predicted and found (within 90% intervals): clean_error"
    assert any(note.startswith(line) for note in notes)
    _, notes = searched(learnable, CONFIG)
    assert any("chooses from here on" in note for note in notes)
    assert any(note.startswith(line.replace("evolution", "the surrogate")) for note in notes)


@pytest.mark.lengthy
def test_an_asynchronous_search_says_who_chooses() -> None:
    _, notes = searched(learnable, ASYNCHRONOUS)
    assert sum("surrogate gp: chooses from here on" in note for note in notes) == 1
    held = [note for note in notes if "; rank correlation of predicted and found" in note]
    assert 3 <= len(held) <= 6  # of 10 results each; before the first 8 nothing is predicted
    assert any(note.startswith("  10 by the surrogate; ") for note in held)


def test_the_parameter_count_is_the_mark() -> None:
    assert Skill(0.8, 0.5, 50).suffices
    assert not Skill(0.5, 0.8, 50).suffices
    assert Skill(0.75, 0.8, 50).suffices  # within two standard errors, 2 (1 - 0.64) / 7 = 0.103
    assert not Skill(0.3, 0.0, 50).suffices  # chance: 2.33 / 7 = 0.333
    assert Skill(1.0, 0.0, 8).suffices


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIG, ASYNCHRONOUS], ids=["batches", "asynchronous"])
def test_parents_of_what_it_chose(config: EvolutionConfig) -> None:
    entries, _ = searched(learnable, config)
    found = genealogy(Ladder(), config, entries)
    assert found.keys() == {entry.key for entry in entries}
    born = {entry.key: entry.proposal for entry in entries}
    genomes = {entry.key: entry.result.genome for entry in entries}
    bred = {key: parents for key, parents in found.items() if parents}
    assert sum(entry.assisted and entry.key in bred for entry in entries) >= 20
    for key, (one, other) in bred.items():
        assert max(born[one], born[other]) < born[key]
        genes = zip(genomes[key], genomes[one], genomes[other], strict=True)
        assert sum(gene not in (a, b) for gene, a, b in genes) <= 4  # a mutation changes one of eight on average


# Its limits


def test_limits_are_checked() -> None:
    with pytest.raises(UnknownNameError, match="unknown surrogate 'forest'; known: gp"):
        EvolutionConfig(surrogate="forest")
    with pytest.raises(ConfigurationError, match="only a surrogate expects gains"):
        EvolutionConfig(min_gain=0.1)
    with pytest.raises(ConfigurationError, match="expected max_evaluations >= 1, got 0"):
        EvolutionConfig(max_evaluations=0)
    assert sorted(SURROGATES) == ["gp"]


def test_the_identity_has_what_changes_the_path_and_nothing_else() -> None:
    limited = replace(PLAIN, max_evaluations=7)
    assert limited.identity() == PLAIN.identity() == {k: v for k, v in CONFIG.identity().items() if k != "surrogate"}
    assert replace(CONFIG, max_evaluations=7, min_gain=0.1).identity() == CONFIG.identity()
    assert CONFIG.identity()["surrogate"] == "gp"
    assert replace(CONFIG, surrogate_batch=3).identity()["surrogate_batch"] == 3


@pytest.mark.parametrize(
    "config",
    [PLAIN, replace(PLAIN, asynchronous=True), CONFIG, pytest.param(ASYNCHRONOUS, marks=pytest.mark.slow)],
    ids=["plain", "plain asynchronous", "batches", "asynchronous"],
)
@pytest.mark.lengthy
def test_the_most_evaluations_are_a_prefix(config: EvolutionConfig, tmp_path: Path) -> None:
    """So many and no more; with a higher limit the same search goes on."""
    whole = Journal()
    list(evolve(Ladder(), learnable, config, journal=whole))
    for most in (5, 31, 48):
        limited = replace(config, max_evaluations=most)
        assert limited.evaluations == most
        with Journal(tmp_path / "journal.jsonl", {}, sync=False) as journal:
            *_, last = evolve(Ladder(), learnable, limited, journal=journal)
            assert journal.lines == whole.lines[:most]
            assert last.generation == (most - 1) // 12


@pytest.mark.lengthy
@pytest.mark.parametrize("surrogate", [None, "gp"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_limits_may_change_when_a_search_is_continued(
    surrogate: str | None, asynchronous: bool, tmp_path: Path
) -> None:
    config = replace(CONFIG, surrogate=surrogate, asynchronous=asynchronous)
    whole = Journal()
    list(evolve(Ladder(), learnable, config, journal=whole))
    for change, expected in (
        ({"max_evaluations": 36}, 36),
        ({"max_evaluations": 20}, 36),
        ({"min_gain": 1.0} if surrogate else {"max_evaluations": 1}, 36),
        ({"max_evaluations": 40}, 40),
        ({}, 60),
    ):
        with Journal(tmp_path / "journal.jsonl", {}, sync=False) as journal:
            list(evolve(Ladder(), learnable, replace(config, **change), journal=journal))
            assert (change, len(journal.lines)) == (change, expected)
            assert journal.lines == whole.lines[:expected]


@pytest.mark.lengthy
def test_it_ends_when_little_is_expected() -> None:
    entries, notes = searched(learnable, replace(CONFIG, generations=20, min_gain=3e-3))
    assert 32 <= len(entries) < 200
    assert sum("as --min-gain asks" in note for note in notes) == 1
    further, _ = searched(learnable, replace(CONFIG, generations=20, max_evaluations=len(entries) + 20))
    assert [entry.key for entry in further[: len(entries)]] == [entry.key for entry in entries]
    assert volume(further) - volume(entries) < 0.06 * volume(entries)  # 20 evaluations of less than 0.3 % each


@pytest.mark.lengthy
def test_a_space_that_runs_dry_ends_with_a_reason() -> None:
    class Small(Ladder):
        n_genes = 2
        upper = np.full(2, 3, dtype=np.int64)

        def sample(self, n: int, rng: np.random.Generator) -> Any:
            return rng.integers(4, size=(n, 2), dtype=np.int64)

        def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
            return a, b

        def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
            return (genome + rng.integers(4, size=2)) % 4

    def evaluate(genome: Genome, seed: int) -> EvaluationResult:
        return EvaluationResult(tuple(genome), {"clean_error": 1 - genome.sum() / 9, "params": 100 + genome[0]})

    for asynchronous in (False, True):
        config = replace(CONFIG, population=8, generations=4, asynchronous=asynchronous)
        entries, notes = searched(evaluate, config, Small())
        assert len(entries) == 16
        assert sum("the search ends after 16 of 40 networks" in note for note in notes) == 1


# The same again


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIG, ASYNCHRONOUS], ids=["batches", "asynchronous"])
def test_killed_twenty_times_the_journal_is_the_same(config: EvolutionConfig, tmp_path: Path) -> None:
    def some_fail(genome: Genome, seed: int) -> EvaluationResult:
        return EvaluationResult.failure(genome, seed, "diverged") if genome[3] == 2 else learnable(genome, seed)

    counts = np.random.default_rng(0).integers(1, 5, size=20).tolist()
    same_journal_when_killed(counts, config, tmp_path, some_fail)


@pytest.mark.slow
def test_killed_in_processes_the_journal_is_that_of_one_slot(tmp_path: Path) -> None:
    counts = np.random.default_rng(1).integers(1, 5, size=20).tolist()
    same_journal_when_killed(counts, CONFIG, tmp_path, learnable, lambda: ProcessExecutor(workers=2))


@pytest.mark.slow
def test_three_slots_repeat_their_own_record(tmp_path: Path) -> None:
    repeats_its_record(replace(ASYNCHRONOUS, generations=3), tmp_path, learnable)


@pytest.mark.lengthy
def test_threads_change_nothing(tmp_path: Path) -> None:
    written = []
    for threads in (1, 2):
        with threadpool_limits(threads), Journal(tmp_path / f"{threads}.jsonl", {}, sync=False) as journal:
            list(evolve(Ladder(), learnable, CONFIG, journal=journal))
        written.append((tmp_path / f"{threads}.jsonl").read_bytes())
    assert written[0] == written[1]
