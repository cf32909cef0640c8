"""Parents by replay, against a search whose operators write them down while it runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evonas.errors import RunMismatchError
from evonas.search import EvolutionConfig, Journal, evolve, genealogy
from evonas.spaces import PhaseSpace
from evonas.types import EvaluationResult, Genome, arch_id

SPACE = PhaseSpace(phases=2, nodes=5, channels=2)


class Noting(PhaseSpace):
    """A space that notes every mating, and for every child the genome that it was mutated from."""

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        children = super().crossover(a, b, rng)
        for child in children:
            MATED.setdefault(child.tobytes(), set()).add(frozenset((arch_id(a), arch_id(b))))
        return children

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        found = super().mutate(genome, rng)
        key = arch_id(self.canonical(found))
        MUTATED.setdefault(key, set()).update(MATED.get(genome.tobytes(), ()))
        return found


MATED: dict[bytes, set[frozenset[str]]] = {}
MUTATED: dict[str, set[frozenset[str]]] = {}
"""Key of a child -> every pair that may have had it."""


@pytest.fixture(autouse=True)
def _fresh() -> None:
    MATED.clear()
    MUTATED.clear()


def evaluate(genome: Genome, seed: int) -> EvaluationResult:
    ones = int(genome.sum())
    values = {"clean_error": 1 / (1 + ones), "macs": float(ones * 10 + int(genome[0]))}
    if ones == 3:
        return EvaluationResult.failure(genome, seed, "three")
    return EvaluationResult(tuple(genome), values, seed=seed)


@pytest.mark.parametrize("algorithm", ["nsga2", "nsga3"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_parents_are_those_that_were_mated(algorithm: str, asynchronous: bool) -> None:
    space = Noting(phases=2, nodes=5, channels=2)
    config = EvolutionConfig(population=6, generations=3, algorithm=algorithm, asynchronous=asynchronous, seed=3)
    journal, first = Journal(), [SPACE.canonical(np.arange(22) % 2)]
    list(evolve(space, evaluate, config, journal=journal, first=first))
    noted = {key: {*pairs} for key, pairs in MUTATED.items()}
    found = genealogy(SPACE, config, list(journal), first)
    assert {*found} >= {entry.key for entry in journal}
    bred = {entry.key: found[entry.key] for entry in journal if entry.generation > 0}
    assert len(bred) >= 6
    for key, parents in bred.items():
        assert len(parents) == 2
        assert frozenset(parents) in noted[key]
    alone = [key for key in bred if len(noted[key]) == 1]
    assert len(alone) >= 3  # of these nothing else is possible
    for entry in journal:
        if entry.generation == 0:
            assert found[entry.key] == ()
        for parent in found[entry.key]:
            assert journal.entries[parent].proposal < entry.proposal


def test_of_half_a_search_what_is_there(tmp_path: Path) -> None:
    config = EvolutionConfig(population=5, generations=3, seed=1)
    journal = Journal()
    list(evolve(SPACE, evaluate, config, journal=journal))
    whole = genealogy(SPACE, config, list(journal))
    half = list(journal)[: len(journal) // 2]
    assert {entry.key for entry in half} <= genealogy(SPACE, config, half).keys()
    assert genealogy(SPACE, config, half).items() <= whole.items()


def test_another_path_is_refused() -> None:
    config = EvolutionConfig(population=5, generations=2, seed=1)
    journal = Journal()
    list(evolve(SPACE, evaluate, config, journal=journal))
    entries: list[Any] = list(journal)
    swapped = [type(entry)(entry.result, entry.generation, 4 - entry.proposal) for entry in entries[:5]]
    with pytest.raises(RunMismatchError, match="as the journal has it, got another genome"):
        genealogy(SPACE, config, [*swapped, *entries[5:]])
