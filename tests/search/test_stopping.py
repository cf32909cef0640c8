"""Early stopping: what it allows for, what it ends, and that a search with it repeats itself."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curved import CONFIG, EPOCHS, OBJECTIVES, Curved
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import repeats_its_record, same_journal_when_killed
from learnable import Ladder, error, learnable

from evonas.errors import ConfigurationError, StoppedEarly
from evonas.executors import ProcessExecutor
from evonas.report import Searched, history, population_table
from evonas.report.table import front, history_table
from evonas.search import (
    Entry,
    EvolutionConfig,
    Finished,
    Journal,
    Stops,
    evolve,
    genealogy,
    non_dominated,
    read_journal,
    stops_of,
)
from evonas.search.problem import penalised
from evonas.search.stopping import FINISHED, Limits, Stopping, Watch
from evonas.search.surrogate import Surrogate
from evonas.types import Curve, EvaluationResult, arch_id

SEARCHED = Searched("m", "d", OBJECTIVES, reference=(1.0, 600.0))
GP = replace(CONFIG, surrogate="gp")
ASYNCHRONOUS = replace(CONFIG, asynchronous=True)
KINDS = pytest.mark.parametrize(
    "config",
    [CONFIG, ASYNCHRONOUS, pytest.param(GP, marks=pytest.mark.slow)],
    ids=["generations", "asynchronous", "surrogate"],
)


def searched(evaluate: Any, config: EvolutionConfig, **given: Any) -> list[Entry]:
    """Entries in the order of proposals."""
    journal = Journal()
    list(evolve(Ladder(), evaluate, config, journal=journal, **given))
    return sorted(journal.lines, key=lambda entry: entry.proposal)


def stopped(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.result.status == "stopped"]


# What it allows for


def finished(number: int, start: float, end: float, params: int = 100) -> EvaluationResult:
    """A finished training whose error was `start` after epoch 1 of 2."""
    curve = Curve(2, ((1, {"clean_error": start, "params": params}),))
    return EvaluationResult((number,), {"clean_error": end, "params": params, "pgd_error": end + 0.3}, curve=curve)


def limits(results: list[EvaluationResult], objectives: tuple[str, ...] = OBJECTIVES, maximize: Any = ()) -> Limits:
    stopping = Stopping(replace(CONFIG, objectives=objectives), maximize)
    for result in results:
        stopping.tell(result)
    return stopping.limits()


def test_falls_by_hand() -> None:
    """Falls of .01, .02, ...: of 9 and of 18 the largest, of 19 the 18th, which a 20th exceeds 2 times in 20."""
    for count, largest in ((9, 0.09), (18, 0.18), (19, 0.18), (29, 0.27)):
        found = limits([finished(i, 0.5 + 0.01 * i, 0.5) for i in range(1, count + 1)])
        assert found.falls[1]["clean_error"] == pytest.approx(largest)
        assert found.falls[1]["params"] == 0
    assert limits([finished(i, 0.6, 0.5) for i in range(8)]).falls == {1: {}}  # too few
    assert limits([]).front == ()


def test_the_optimistic_end_by_hand() -> None:
    found = limits([finished(i, 0.6, 0.5) for i in range(9)])
    assert found.front == ((0.5, 100),) * 9
    at_rung = {"clean_error": 0.65, "params": 90}
    assert found.optimistic(1, at_rung) == pytest.approx([0.55, 90], abs=1e-8)
    assert found.optimistic(2, at_rung) == [-np.inf, -np.inf]  # nothing is known of that rung
    assert found.admits([0.55, 90])
    assert found.admits([0.5, 100])  # equal ones are on the front together
    assert not found.admits([0.55, 100])
    assert found.admits(found.optimistic(1, {"clean_error": 0.6, "params": 100}))  # as those before: not by rounding
    assert not found.admits(found.optimistic(1, {"clean_error": 0.65, "params": 100}))  # equal costs are equal


def test_an_error_that_is_measured_at_the_end_follows_from_the_clean_one() -> None:
    """pgd_error ends .2 above the clean error of the rung, so it falls by -.2; clean_error is not searched."""
    found = limits([finished(i, 0.6, 0.5) for i in range(9)], ("pgd_error", "params"))
    assert found.optimistic(1, {"clean_error": 0.7, "params": 100}) == pytest.approx([0.9, 100], abs=1e-8)
    assert found.optimistic(1, {"params": 100})[0] == -np.inf
    up = limits([finished(i, 0.6, 0.5) for i in range(9)], ("pgd_error", "params"), ("pgd_error",))
    assert up.optimistic(1, {"clean_error": 0.7, "params": 100})[0] == pytest.approx(-0.7, abs=1e-8)  # .8 or less


def test_a_watch_records_what_is_finite_and_stops_once() -> None:
    known = limits([finished(i, 0.6, 0.5) for i in range(9)])
    watch = Watch(replace(known, finish=True))
    watch.reach(1, 2, {"clean_error": 0.9, "params": 200, "broken": float("nan")})
    watch.reach(2, 2, {"clean_error": 0.4, "params": 200})
    values = {"clean_error": 0.4, "params": 200}
    curve = watch.closed(EvaluationResult((0,), values)).curve
    assert curve == Curve(2, ((1, {"clean_error": 0.9, "params": 200}), (2, values)), 1, True)  # a wrong stop
    assert watch.closed(EvaluationResult.failure((0,), 0, "x")).curve is None
    assert Watch(known).closed(EvaluationResult((0,), values)).curve is None


def test_with_all_objectives_known_at_its_end_nothing_is_stopped() -> None:
    """As where the error under attack that is left is measured, but not searched."""
    known = limits([finished(i, 0.6, 0.5) for i in range(9)])
    watch = Watch(known)
    values = {"clean_error": 0.9, "params": 200}
    watch.reach(2, 2, values)
    assert watch.closed(EvaluationResult((0,), {**values, "pgd_error": 1.0})).curve == Curve(2, ((2, values),))
    with pytest.raises(StoppedEarly, match="stopped after 1 of 2 epochs"):
        Watch(known).reach(1, 2, values)
    attacked = limits([finished(i, 0.6, 0.5) for i in range(9)], (*OBJECTIVES, "pgd_error"))
    for rung in (1, 2):  # what follows from the clean error is not known exactly
        falls = replace(attacked, falls={rung: attacked.falls[1]})
        with pytest.raises(StoppedEarly):
            Watch(falls).reach(rung, 2, values)


# What it ends


def test_hopeless_trainings_end(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl", {}) as journal:
        states = list(evolve(Ladder(), Curved(), CONFIG, journal=journal))
        entries = list(journal)
    assert read_journal(tmp_path / "journal.jsonl")[1] == entries
    ended = stopped(entries)
    assert 5 <= len(ended) <= 40
    assert all(entry.generation > 0 for entry in ended)
    for entry in entries:
        curve = entry.result.curve
        assert curve is not None
        assert curve.epochs == EPOCHS
    for entry in ended:
        result, curve = entry.result, entry.result.curve
        assert curve is not None
        assert curve.rungs[-1][0] == curve.stopped
        assert result.objectives == {}
        assert result.reason == f"stopped after {curve.stopped} of 4 epochs: it cannot enter the front"
        assert penalised(result, 0, OBJECTIVES, ()) == ([1e9, 1e9], 1.0)
    keys = {entry.key for entry in ended}
    for state in states:
        rows = [arch_id(genome) in keys for genome in state.genomes]
        assert np.isnan(state.objectives[rows]).all()
        assert (state.rank[rows] > 0).all()
    line = next(json.loads(x) for x in (tmp_path / "journal.jsonl").read_text().splitlines() if '"stopped"' in x)
    assert line["curve"].keys() == {"epochs", "rungs", "stopped", "entered"}


def test_tables_tell_them_apart() -> None:
    entries = searched(Curved(fails=True), CONFIG)
    table = population_table(entries, SEARCHED)
    ended = table[table["status"] == "stopped"]
    assert len(ended) == len(stopped(entries)) > 0
    assert ended["rank"].isna().all()
    assert ended["clean_error"].isna().all()
    assert ended["stopped_after"].isin([1, 2, 3]).all()
    assert ended["partial_clean_error"].notna().all()
    others = table[table["status"] != "stopped"]
    assert others[["stopped_after", "partial_clean_error"]].isna().all(axis=None)
    assert (front(table)["status"] == "ok").all()
    last = history_table(history(entries, SEARCHED)).iloc[-1]
    found = stops_of(entry.result for entry in entries)
    assert found is not None
    assert (last["stopped"], last["failed"]) == (len(ended), (table["status"] == "failed").sum())
    assert last["epochs_saved"] == sum(4 - after for after in ended["stopped_after"]) == found.epochs_saved
    assert (last["wrong_stops_low"], last["wrong_stops_high"]) == found.interval


def test_a_function_that_knows_no_rungs_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"expected a function \(genome, seed, reach\) with early_stop"):
        searched(learnable, CONFIG)

    class Factory:
        def make_evaluate(self, report: Any) -> Any:
            return learnable

    with pytest.raises(ConfigurationError, match=r"expected a function \(genome, seed, reach\) with early_stop"):
        searched(Factory(), CONFIG)


def test_without_it_nothing_changes() -> None:
    plain = replace(CONFIG, early_stop=False)
    assert plain.identity() == {k: v for k, v in CONFIG.identity().items() if k != "early_stop"}
    entries = searched(learnable, plain)  # a function of two arguments
    assert all(entry.result.curve is None for entry in entries)
    table = population_table(entries, SEARCHED)
    assert not {"stopped_after", "partial_clean_error"} & {*table.columns}
    assert "stopped" not in history_table(history(entries, SEARCHED))
    assert stops_of(entry.result for entry in entries) is None


@pytest.mark.lengthy
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([CONFIG, ASYNCHRONOUS]))
def test_with_known_curves_no_stop_is_wrong(seed: int, config: EvolutionConfig) -> None:
    """Every training falls alike: the front is that of all networks trained to the end, and it saves epochs."""
    entries = searched(Curved(), replace(config, seed=seed))
    rows = [(error(np.array(e.result.genome)), Ladder().cost(np.array(e.result.genome)).params) for e in entries]
    best = {entries[i].key for i in non_dominated(rows)}
    assert not best & {entry.key for entry in stopped(entries)}
    found = stops_of(entry.result for entry in entries)
    assert found is not None
    assert found.wrong == 0
    assert found.stopped > 0


@pytest.mark.lengthy
def test_a_tenth_is_finished_all_the_same() -> None:
    """Whether a network is, follows from its key: about a tenth of what would be stopped, and it is counted."""
    tried = ended = 0
    for seed in range(10):
        found = stops_of(entry.result for entry in searched(Curved(), replace(CONFIG, seed=seed)))
        assert found is not None
        tried, ended = tried + found.finished, ended + found.stopped
    expected = FINISHED * (tried + ended)
    assert tried == pytest.approx(expected, abs=3 * np.sqrt(0.9 * expected))  # three standard errors


def test_the_share_of_wrong_stops_has_its_interval() -> None:
    assert Stops(5, 9, 0, 0).interval == (0.0, 1.0)
    assert Stops(5, 9, 0, 0).share is None
    none = Stops(5, 9, 10, 0)
    assert none.share == 0
    assert none.interval == pytest.approx((0, 1 - 0.025**0.1), abs=1e-6)  # closed form of 0 of n
    assert Stops(5, 9, 10, 10).interval == pytest.approx((0.025**0.1, 1), abs=1e-6)
    assert str(none).startswith("5 stopped, 9 epochs saved; of 10 that were finished all the same 0 entered the front")


def test_a_surrogate_takes_a_stop_for_no_failure() -> None:
    """With stopped networks told as well, it predicts the same, and has no model of failures."""

    def told(status: Any) -> Any:
        surrogate = Surrogate(Ladder(), GP, (), Ladder().cost)
        for genome in Ladder().sample(20, np.random.default_rng(0)):
            surrogate.tell(learnable(genome, 0))
        if status:
            for genome in Ladder().sample(5, np.random.default_rng(1)):
                surrogate.tell(EvaluationResult(tuple(genome), {}, status, "x"))
        pool = [*Ladder().sample(50, np.random.default_rng(2))]
        return [(genome.tolist(), gain) for genome, gain in surrogate.choose(pool, 5)]

    assert told("stopped") == told(None)
    assert told("failed") != told(None)


# The same again


@pytest.mark.lengthy
@KINDS
def test_killed_and_continued_the_journal_is_the_same(config: EvolutionConfig, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(1, 5, size=20).tolist()
    whole = same_journal_when_killed(counts, config, tmp_path, Curved(spread=0.5, fails=True))
    entries = read_journal(whole)[1]
    assert {entry.result.status for entry in entries} == {"ok", "failed", "stopped"}
    assert genealogy(Ladder(), config, entries).keys() == {entry.key for entry in entries}


@pytest.mark.slow
def test_asynchronous_with_a_surrogate_killed_twenty_times(tmp_path: Path) -> None:
    same_journal_when_killed([3] * 20, replace(GP, asynchronous=True), tmp_path, Curved(spread=0.5, fails=True))


@pytest.mark.slow
def test_processes_write_the_journal_of_one_slot(tmp_path: Path) -> None:
    evaluate = Curved(spread=0.5, fails=True)
    same_journal_when_killed([20, 20], CONFIG, tmp_path, evaluate, lambda: ProcessExecutor(workers=2))


@pytest.mark.lengthy
def test_three_slots_repeat_their_own_record(tmp_path: Path) -> None:
    repeats_its_record(ASYNCHRONOUS, tmp_path, Curved(spread=0.5))


@pytest.mark.lengthy
def test_failures_are_tried_again_and_stops_are_not(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, {}, sync=False) as journal:
        list(evolve(Ladder(), Curved(fails=True), CONFIG, journal=journal))
        before = list(journal)
    fresh: list[str] = []

    def see(event: Any) -> None:
        if isinstance(event, Finished) and not event.cached:
            fresh.append(event.entry.key)

    with Journal(path, {}, sync=False) as journal:
        list(evolve(Ladder(), Curved(fails=True), CONFIG, journal=journal, retry_failed=True, report=see))
    assert sorted(fresh) == sorted(entry.key for entry in before if entry.result.status == "failed")
