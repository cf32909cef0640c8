"""The search: pymoo and the journal. No torch, no Ray: space, evaluator and executor arrive as arguments."""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.executors import LocalExecutor
    from evonas.search.evaluations import EvaluationWork
    from evonas.search.evolution import evolve
    from evonas.search.genealogy import genealogy
    from evonas.search.journal import Entry, Journal, read_journal
    from evonas.search.pareto import hypervolume, knee, minimised, non_dominated, ranks
    from evonas.search.problem import NASProblem
    from evonas.search.proposals import SearchState
    from evonas.search.scoring import Event, Finished, score
    from evonas.search.settings import ALGORITHMS, EvolutionConfig

__all__ = [
    "ALGORITHMS",
    "Entry",
    "EvaluationWork",
    "Event",
    "EvolutionConfig",
    "Finished",
    "Journal",
    "LocalExecutor",
    "NASProblem",
    "SearchState",
    "evolve",
    "genealogy",
    "hypervolume",
    "knee",
    "minimised",
    "non_dominated",
    "ranks",
    "read_journal",
    "score",
]

import_lazily(__name__)
