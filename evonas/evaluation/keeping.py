"""Weights that an evaluation gives to the driver beside its result: of networks that may be kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evonas.objectives import Candidate
from evonas.ship import Provenance, WeightsCard, weights_file
from evonas.types import EvaluationResult

if TYPE_CHECKING:
    from evonas.evaluation.prepare import Prepare

__all__ = ["KeepWeights", "Leaders"]


@dataclass(frozen=True)
class KeepWeights:
    """The networks whose weights come with their results.

    Args:
        objectives: what the front is about; empty: the weights of all networks are kept.
        maximize: those of them that are maximised.
    """

    provenance: Provenance
    objectives: tuple[str, ...] = ()
    maximize: tuple[str, ...] = ()

    def start(self, prepare: "Prepare") -> Callable[[Candidate, EvaluationResult], EvaluationResult]:
        """A function that adds its weights to a result; called once in every worker.

        A network that another one of the same worker dominates will never be on the front, so that its weights stay.
        """
        leaders = Leaders(self.objectives, self.maximize)
        shape = prepare.data.train.images.shape[1:]

        def keep(candidate: Candidate, result: EvaluationResult) -> EvaluationResult:
            if self.objectives and not leaders.add(result.objectives):
                return result
            n_classes, normalization = candidate.data.n_classes, prepare.normalization
            card = WeightsCard.of(
                candidate.network, candidate.space, candidate.genome, n_classes, shape, normalization, self.provenance
            )
            return result.with_weights(weights_file(candidate.network, card))

        return keep


class Leaders:
    """Results that no other one dominates, one after another."""

    def __init__(self, objectives: Sequence[str], maximize: Sequence[str]) -> None:
        self._signs = [(name, -1 if name in maximize else 1) for name in objectives]
        self._values: list[tuple[float, ...]] = []

    def add(self, objectives: Mapping[str, float]) -> bool:
        """Take in a result; whether none so far dominates it."""
        new = tuple(sign * objectives[name] for name, sign in self._signs)
        if any(_dominates(each, new) for each in self._values):
            return False
        self._values = [each for each in self._values if not _dominates(new, each)]
        if new not in self._values:
            self._values.append(new)
        return True


def _dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first != second and all(a <= b for a, b in zip(first, second, strict=True))
