"""The search: pymoo's algorithms, the journal, executors. No torch; space and evaluator arrive as arguments."""

from collections.abc import Callable

from evonas.search.evolution import Event, EvolutionConfig, Finished, Note, SearchState, evolve
from evonas.search.executors import Executor, Job, LocalExecutor
from evonas.search.journal import Entry, Journal, read_journal, refuse_another_run
from evonas.search.operators import ALGORITHMS
from evonas.search.pareto import hypervolume, non_dominated, ranks
from evonas.search.problem import NASProblem, minimised

__all__ = [
    "ALGORITHMS",
    "EXECUTORS",
    "Entry",
    "Event",
    "EvolutionConfig",
    "Executor",
    "Finished",
    "Job",
    "Journal",
    "LocalExecutor",
    "NASProblem",
    "Note",
    "SearchState",
    "evolve",
    "hypervolume",
    "minimised",
    "non_dominated",
    "ranks",
    "read_journal",
    "refuse_another_run",
]

EXECUTORS: dict[str, Callable[[], Executor]] = {"local": LocalExecutor}
"""Name -> class."""
