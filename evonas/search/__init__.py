"""The search: pymoo's algorithms, the journal, executors. No torch; space and evaluator arrive as arguments."""

from evonas.executors import EXECUTORS, Executor, Job, LocalExecutor, ProcessExecutor, RayConnection, RayExecutor
from evonas.search.evolution import evolve
from evonas.search.journal import Entry, Journal, read_journal, refuse_another_run
from evonas.search.operators import ALGORITHMS
from evonas.search.pareto import hypervolume, non_dominated, ranks
from evonas.search.problem import NASProblem, minimised
from evonas.search.proposals import Event, EvolutionConfig, Finished, SearchState

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
    "ProcessExecutor",
    "RayConnection",
    "RayExecutor",
    "SearchState",
    "evolve",
    "hypervolume",
    "minimised",
    "non_dominated",
    "ranks",
    "read_journal",
    "refuse_another_run",
]
