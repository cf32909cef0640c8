"""Genomes evaluated in order, each once: answered by the journal, or run and recorded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from evonas.executors import Executor, Job, LocalExecutor, ignore
from evonas.search.evaluations import (
    Evaluate,
    EvaluationWork,
    EvaluatorFactory,
    Predict,
    check_objectives,
    evaluation_job,
    evaluation_result,
    evaluation_seed,
)
from evonas.search.journal import Entry, Journal, Prediction
from evonas.types import Activity, Genome, Note, Progress

__all__ = ["Evaluations", "Event", "Finished", "answers", "score"]


@dataclass(frozen=True)
class Finished:
    """An evaluation is in the journal."""

    entry: Entry
    cached: bool
    """It was there before: nothing was evaluated."""


Event = Progress | Activity | Finished | Note


def score(
    genomes: Sequence[Genome] | npt.NDArray[np.int64],
    evaluate: Evaluate | EvaluatorFactory,
    objectives: Sequence[str],
    seed: int = 0,
    executor: Executor | None = None,
    journal: Journal | None = None,
    retry_failed: bool = False,
    report: Callable[[Event], None] = ignore,
    predict: Predict | None = None,
) -> list[Entry]:
    """Evaluate a list of genomes, without a search. A failed evaluation is an entry, too.

    The journal gets the lines of a search whose only generation these genomes are: generation 0, proposals in the
    order of the list, the same seeds.

    Args:
        genomes: (n, n_genes) canonical, distinct and feasible.
        evaluate: a plain function (genome, seed) -> EvaluationResult, or a factory whose make_evaluate(report) each
            worker calls once.
        objectives: columns that every result must have.
        seed: seed of the run.
        executor: place of the evaluations; None: one after another in this process. Closed at the end.
        journal: known results, not evaluated again, and the record of the others; None: in memory.
        retry_failed: evaluate recorded failures again.
        report: receives finished evaluations, and the messages of the executor: progress, activity, notes.
        predict: predicted cost of an evaluation, in any unit; executors with several slots start the dearest first.
    Returns:
        One entry a genome, in the order of `genomes`.
    Raises:
        ValueError: two genomes are equal.
    """
    check_objectives(objectives)
    executor = LocalExecutor() if executor is None else executor
    jobs = [evaluation_job(np.asarray(genome), seed, predict) for genome in genomes]
    numbers = {job.key: number for number, job in enumerate(jobs)}
    if len(numbers) < len(jobs):
        raise ValueError(f"expected {len(jobs)} different genomes, got {len(numbers)}")
    journal = Journal() if journal is None else journal
    evaluations = Evaluations(executor, journal, objectives, seed, retry_failed, report)
    executor.start(EvaluationWork(evaluate), report)
    try:
        evaluations.run(jobs, numbers, generation=0)
        journal.sort()
    finally:
        executor.close()
    return [evaluations.known[job.key] for job in jobs]


class Evaluations:
    """The entries of a run: recorded ones that answer for its evaluations, and those of the jobs it has run."""

    def __init__(
        self,
        executor: Executor,
        journal: Journal,
        objectives: Sequence[str],
        seed: int,
        retry_failed: bool,
        report: Callable[[Event], None],
    ) -> None:
        self.known = {entry.key: entry for entry in journal if answers(entry, objectives, seed, retry_failed)}
        """Key of a genome -> its entry."""
        self._executor = executor
        self._journal = journal
        self._objectives = objectives
        self._report = report

    def run(
        self,
        jobs: Sequence[Job],
        numbers: Mapping[str, int],
        generation: int,
        predicted: Mapping[str, Prediction] = MappingProxyType({}),
    ) -> None:
        """Evaluate one generation: first the jobs whose entries are known, then the others as they finish.

        Args:
            numbers: key of a job -> number of its proposal.
            predicted: key of a job -> what a surrogate says of it.
        """
        missing = [job for job in jobs if job.key not in self.known]
        for job in jobs:
            if job.key in self.known:
                self._report(Finished(self.known[job.key], True))
        for job in missing:
            self._executor.submit(job)
        for _ in missing:
            job, outcome = self._executor.next_finished()
            result = evaluation_result(job, outcome, self._objectives)
            entry = Entry(result, generation, numbers[job.key], None, None, *predicted.get(job.key, Prediction()))
            self._journal.append(entry)
            self.known[job.key] = entry
            self._report(Finished(entry, False))


def answers(entry: Entry, objectives: Sequence[str], seed: int, retry_failed: bool) -> bool:
    """Whether a recorded result stands for an evaluation of a run: of its seed, with its objectives."""
    if entry.result.seed != evaluation_seed(seed, entry.key):
        return False
    if entry.result.status == "stopped":
        return True
    measured = all(name in entry.result.objectives for name in objectives)
    return measured if entry.result.ok else not retry_failed
