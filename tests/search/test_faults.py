"""Evaluations that raise, exit, hang, eat memory, are killed, and give NaN: each fails, and nothing else changes."""

import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from conftest import TinySpace, objectives_of

from evonas.executors import Executor, LocalExecutor, ProcessExecutor, RayExecutor
from evonas.search import EvolutionConfig, Journal, evolve, non_dominated
from evonas.types import EvaluationResult, Genome, Note, arch_id

pytestmark = pytest.mark.slow

SPACE = TinySpace()
CONFIG = EvolutionConfig(population=10, generations=2, objectives=("clean_error", "macs"), seed=4)
TIMEOUT = 2.0
FAULTS = ("raises", "exits", "hangs", "eats", "is killed", "gives NaN")
MAKERS: dict[str, Callable[[], Executor]] = {
    "process": lambda: ProcessExecutor(timeout=TIMEOUT),
    "ray": lambda: RayExecutor(timeout=TIMEOUT),
    "ray resident": lambda: RayExecutor(timeout=TIMEOUT, resident=True),
}
ENDED = "its worker process ended under it: it was killed, or it crashed"
REASONS = {
    "raises": "RuntimeError: a broken layer",
    "exits": "its worker process ended with exit code 3",
    "hangs": "it took longer than its 2 seconds",
    "eats": "MemoryError",
    "is killed": "its worker process was killed by signal 9 (SIGKILL)",
    "gives NaN": "clean_error is nan",
}


@dataclass(frozen=True)
class Faulty:
    """Looks objectives up, but for genomes with a fault."""

    faults: dict[tuple[int, ...], str]
    only_raise: bool = False

    def __call__(self, genome: Genome, seed: int) -> EvaluationResult:
        fault = self.faults.get(tuple(genome.tolist()), "")
        found = objectives_of(genome)
        if fault == "raises" or (fault and self.only_raise):
            raise RuntimeError("a broken layer")
        if fault == "exits":
            os._exit(3)
        if fault == "hangs":
            time.sleep(300)
        if fault == "eats":
            eat(2**28)
        if fault == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "gives NaN":
            found["clean_error"] = float("nan")
        return EvaluationResult(tuple(genome.tolist()), found, seed=seed)


def eat(most: int) -> None:
    """Allocate until there is no more: `most` bytes beyond what this process has."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + most, before[1]))
    eaten = []
    try:
        for _ in range(64):
            eaten.append(np.ones(most // 16, dtype=np.uint8))
    except MemoryError:
        raise MemoryError from None
    finally:
        eaten.clear()
        resource.setrlimit(resource.RLIMIT_AS, before)


@dataclass(frozen=True)
class Found:
    """What a search has left."""

    entries: dict[str, Any]
    notes: list[str]
    states: list[Any]


def search(evaluate: Any, executor: Executor) -> Found:
    journal, notes = Journal(), []

    def watch(event: object) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    states = list(evolve(SPACE, evaluate, CONFIG, executor, journal, report=watch))
    assert len(journal.lines) == len(journal.entries), "one line each"
    return Found(dict(journal.entries), notes, states)


@pytest.fixture(scope="module")
def undisturbed() -> Found:
    return search(Faulty({}), LocalExecutor())


@pytest.fixture(scope="module")
def faults(undisturbed: Found) -> dict[tuple[int, ...], str]:
    """Genomes of generation 1, so that there is a generation before and one after it."""
    genomes = [e.result.genome for e in undisturbed.entries.values() if e.generation == 1]
    return dict(zip(genomes, FAULTS, strict=False))


@pytest.fixture(scope="module", params=sorted(MAKERS))
def disturbed(request: pytest.FixtureRequest, faults: dict[tuple[int, ...], str]) -> tuple[str, Found]:
    if "ray" in request.param:
        request.getfixturevalue("ray_here")
    return request.param, search(Faulty(faults), MAKERS[request.param]())


def test_each_fails_with_its_reason(disturbed: tuple[str, Found], faults: dict[tuple[int, ...], str]) -> None:
    name, found = disturbed
    failed = {entry.result.genome: entry.result for entry in found.entries.values() if not entry.result.ok}
    expected = {**REASONS, **({} if name == "process" else {"exits": ENDED, "is killed": ENDED})}
    assert {genome: result.reason for genome, result in failed.items()} == {
        genome: expected[fault] for genome, fault in faults.items()
    }
    assert all(result.objectives == {} or result.reason == REASONS["gives NaN"] for result in failed.values())


def test_what_may_be_the_machines_fault_is_tried_once_more(
    disturbed: tuple[str, Found], faults: dict[tuple[int, ...], str]
) -> None:
    again = [note for note in disturbed[1].notes if "it is tried once more, alone" in note]
    twice = ("exits", "eats", "is killed")
    assert sorted(note.split(":")[0] for note in again) == sorted(arch_id(g) for g, f in faults.items() if f in twice)
    assert len(disturbed[1].notes) == len(again)


def test_the_others_are_untouched(
    disturbed: tuple[str, Found], undisturbed: Found, faults: dict[tuple[int, ...], str]
) -> None:
    """Until the end of the faulty generation they are those of a search without faults; after it, those of a search
    in which the same networks fail in the plainest way."""
    entries = disturbed[1].entries
    plain = search(Faulty(faults, only_raise=True), LocalExecutor()).entries
    assert {key for key, e in entries.items() if e.generation < 2} == {
        key for key, e in undisturbed.entries.items() if e.generation < 2
    }
    assert entries.keys() == plain.keys()
    for key, entry in entries.items():
        if entry.result.ok:
            assert entry == plain[key]
            assert entry.generation == 2 or entry == undisturbed.entries[key]


def test_the_search_ends_and_no_failed_network_is_on_a_front(
    disturbed: tuple[str, Found], faults: dict[tuple[int, ...], str]
) -> None:
    found = disturbed[1]
    assert len(found.states) == CONFIG.generations + 1
    for state in found.states:
        front = {tuple(genome) for genome in state.genomes[state.rank == 0].tolist()}
        assert front
        assert not front & set(faults)
    good = [e.result for e in found.entries.values() if e.result.ok]
    values = np.array([[r.objectives[name] for name in CONFIG.objectives] for r in good])
    best = {good[i].genome for i in non_dominated(values)}
    assert best == {tuple(g) for g in found.states[-1].genomes[found.states[-1].rank == 0].tolist()}
