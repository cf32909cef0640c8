"""Genome and seed in, measured objectives out; a failure is a result, too."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from evonas.devices import float32
from evonas.errors import StoppedEarly
from evonas.evaluation.host import out_of_memory
from evonas.evaluation.keeping import KeepWeights
from evonas.evaluation.prepare import Prepare, TrainsCandidates
from evonas.evaluation.stages import Staged, measured
from evonas.objectives import Objective
from evonas.types import EvaluationResult, Genome, Reach, Report

__all__ = ["Evaluator"]


@dataclass(frozen=True)
class Evaluator:
    """A factory of evaluations: `make_evaluate(report)` is called once in every worker.

    Args:
        prepare: gives a candidate its weights.
        objectives: measured in order on the same candidate; parameters and MACs are always recorded beside them.
        threads: CPU threads of one evaluation; another number rounds differently.
        keep: which networks' weights a result brings with it; None: those of none.
    """

    prepare: Prepare
    objectives: tuple[Objective, ...]
    threads: int
    keep: KeepWeights | None = None

    def make_evaluate(self, report: Report) -> Callable[[Genome, int], EvaluationResult]:
        """A function (genome, seed) -> EvaluationResult, with data and threads of this process set up.

        What goes wrong is a failed result, but for memory that is used up: that is raised. With a third argument, a
        `Reach`, objectives are measured as early as they can be, and the evaluation ends where that says so.
        """
        torch.set_num_threads(self.threads)
        prepare = self.prepare.start()
        keep = None if self.keep is None else self.keep.start(self.prepare)

        @float32()
        def evaluate(genome: Genome, seed: int, reach: Reach | None = None) -> EvaluationResult:
            started = time.monotonic()
            staged = None if reach is None else Staged(self.objectives, self.prepare.epochs or 0, reach)
            try:
                if staged is not None and isinstance(self.prepare, TrainsCandidates):
                    candidate, seconds = prepare(genome, seed, report, staged.after_epoch)  # type: ignore[call-arg]
                else:
                    candidate, seconds = prepare(genome, seed, report)
                values = measured(self.objectives, candidate) if staged is None else staged.at_end(candidate)
            except StoppedEarly as stop:
                final, spent = {} if staged is None else staged.final, time.monotonic() - started
                return EvaluationResult(tuple(genome), final, "stopped", str(stop), seed, spent)
            except Exception as error:  # whatever happens to one candidate must not end a search
                if out_of_memory(error):
                    raise  # executors try such a candidate again
                return EvaluationResult.failure(genome, seed, error)
            values |= {"params": candidate.cost.params, "macs": candidate.cost.macs}
            broken = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
            if broken:
                return EvaluationResult.failure(genome, seed, "; ".join(broken), seconds)
            result = EvaluationResult(tuple(genome), values, seed=seed, seconds=seconds)
            return result if keep is None else keep(candidate, result)

        return evaluate
