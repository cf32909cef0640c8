"""The search: pymoo and the journal. No torch, no Ray: space, evaluator and executor arrive as arguments."""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.executors import LocalExecutor
    from evonas.search.evaluations import EvaluationWork
    from evonas.search.evolution import evolve
    from evonas.search.genealogy import genealogy
    from evonas.search.honesty import Honesty, honesty, rank_correlation
    from evonas.search.journal import Entry, Journal, read_journal
    from evonas.search.pareto import hypervolume, knee, minimised, non_dominated, ranks
    from evonas.search.problem import NASProblem
    from evonas.search.proposals import SearchState
    from evonas.search.scoring import Event, Finished, score
    from evonas.search.settings import ALGORITHMS, SURROGATES, EvolutionConfig
    from evonas.search.stopping import Stops, stops_of

__all__ = [
    "ALGORITHMS",
    "SURROGATES",
    "Entry",
    "EvaluationWork",
    "Event",
    "EvolutionConfig",
    "Finished",
    "Honesty",
    "Journal",
    "LocalExecutor",
    "NASProblem",
    "SearchState",
    "Stops",
    "evolve",
    "genealogy",
    "honesty",
    "hypervolume",
    "knee",
    "minimised",
    "non_dominated",
    "rank_correlation",
    "ranks",
    "read_journal",
    "score",
    "stops_of",
]

import_lazily(__name__)
