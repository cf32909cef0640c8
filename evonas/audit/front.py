"""Networks of fronts, trained again and scored one after the other; what is finished is recorded, and never redone."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evonas.audit.records import RetrainedRecords, digest
from evonas.audit.retrain import NetworkScoring, NetworkTraining
from evonas.errors import DivergedError
from evonas.types import Genome, Report, arch_id

__all__ = ["FrontNetwork", "RetrainingWork"]

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class FrontNetwork:
    """A network of a front, and how it is trained again."""

    configuration: str
    """The search that found it, as tables name it."""
    genome: Genome
    """Canonical."""
    retraining: NetworkTraining

    @cached_property
    def arch_id(self) -> str:
        return arch_id(self.genome)

    @cached_property
    def macs(self) -> int:
        """Of the network that is trained."""
        return self.retraining.cost(self.genome).macs

    @cached_property
    def training(self) -> str:
        """Digest of what its weights follow from."""
        return digest(self.retraining.identity())

    def scores(self, scoring: NetworkScoring) -> str:
        """Digest of what its scores follow from."""
        return digest({"training": self.training, **scoring.identity()})


@dataclass(frozen=True)
class RetrainingWork:
    """Trains and scores networks, and records every step that is finished.

    The record `trained` has status, seconds and the SHA-256 of the weights, or a reason; `scored` has status and
    values, or a reason. With retry_failed, what is recorded as failed is done again.
    """

    records: RetrainedRecords
    scoring: NetworkScoring
    retry_failed: bool = False

    def left(self, network: FrontNetwork) -> bool:
        """Whether there is something to do for a network."""
        found = self._recorded(network)
        return found is None or (found["status"] == "failed" and self.retry_failed)

    def finish(self, network: FrontNetwork, report: Report, say: Say) -> dict[str, Any]:
        """Train, unless its weights are there, and score; a network that diverges is recorded as failed.

        Args:
            say: told in one line where recorded weights are lost.
        Returns:
            Its last record.
        """
        arch, scores = network.arch_id, network.scores(self.scoring)
        try:
            weights = self._weights(network, report, say)
        except DivergedError as error:
            return self.records.add("trained", arch, network.training, status="failed", reason=str(error))
        try:
            values = self.scoring.score(network.retraining, network.genome, weights, report)
        except DivergedError as error:
            return self.records.add("scored", arch, scores, status="failed", reason=str(error))
        return self.records.add("scored", arch, scores, status="ok", values=values)

    def row(self, network: FrontNetwork) -> dict[str, Any]:
        """What is recorded of a finished network, as tables have it: see `evonas.report.retrained_table`."""
        found = self._recorded(network)
        if found is None:
            raise LookupError(f"{network.arch_id} is not finished")
        trained = self.records.find("trained", network.arch_id, network.training) or {}
        retraining, cost = network.retraining, network.retraining.cost(network.genome)
        return {
            "configuration": network.configuration,
            "arch_id": network.arch_id,
            "status": found["status"],
            **found.get("values", {}),
            "params": cost.params,
            "macs": cost.macs,
            **retraining.settings(),
            "train_seconds": trained.get("seconds"),
            "seed": retraining.seed,
            "data": retraining.data.name,
            "genome": " ".join(map(str, network.genome.tolist())),
            "reason": found.get("reason", ""),
        }

    def _recorded(self, network: FrontNetwork) -> dict[str, Any] | None:
        """Its scores, or that it failed."""
        scored = self.records.find("scored", network.arch_id, network.scores(self.scoring))
        if scored is not None:
            return scored
        trained = self.records.find("trained", network.arch_id, network.training)
        return trained if trained is not None and trained["status"] == "failed" else None

    def _weights(self, network: FrontNetwork, report: Report, say: Say) -> bytes:
        arch, training = network.arch_id, network.training
        trained = self.records.find("trained", arch, training)
        if trained is not None and trained["status"] == "ok":
            kept = self.records.weights(arch, training, trained["sha256"])
            if kept is not None:
                return kept
            say(f"{self.records.weights_path(arch, training)} is gone or damaged: {arch} is trained again")
        weights, seconds = network.retraining.train(network.genome, report)
        sha256 = self.records.keep_weights(arch, training, weights)
        self.records.add("trained", arch, training, status="ok", seconds=round(seconds, 3), sha256=sha256)
        return weights
