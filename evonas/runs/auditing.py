"""The audit of a run's networks, on its screen and on the slots of its executor."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evonas.audit import Audit, AuditNetwork, AuditRecords, FinalTraining, Measured
from evonas.errors import ConfigurationError
from evonas.evaluation import Prepare, TrainsCandidates
from evonas.report import shown
from evonas.runs.begun import BegunRun
from evonas.runs.screen import Pace
from evonas.types import Progress

__all__ = ["audit_networks", "training_to_the_end"]


def audit_networks(
    run: BegunRun, networks: Sequence[AuditNetwork], measured: Measured, opening: str, folder: str
) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of the records, and a row for every network; see `Run.audit`."""
    with AuditRecords.opened(run.path / folder) as records:
        shared = run.hardware.connection is None  # workers on other machines do not see the folder
        audit = Audit(networks, measured, records, run.options.retry_failed, checkpoints=shared)
        pending = audit.pending()
        run.screen.say(f"{opening}; {len(pending)} pending")
        if records.damaged:
            path = records.path
            run.screen.say(f"{path} has {records.damaged} damaged line(s); what they recorded is done again")
        if pending:
            macs = {network.label: network.macs for network in audit.untrained()}
            pace, shares = Pace(sum(macs.values())), dict[str, float]()

            def work(shares: Mapping[str, float]) -> float:
                return sum(cost * shares.get(label, 0.0) for label, cost in macs.items())

            def watch(event: object) -> None:
                if isinstance(event, Progress):
                    share = event.done / event.total
                    if event.unit == "epoch" and event.key not in shares:  # an earlier process got so far
                        pace.before += work({event.key: share})
                    if event.unit != "image":  # of its training, which takes most of the time
                        shares[event.key] = share
                    run.screen.show(f"{event.key} {event.note}, {pace.words(work(shares))}")

            def told(network: AuditNetwork, record: Mapping[str, Any]) -> None:
                shares[network.label] = 1.0
                run.screen.say(f"  {network.label}: {_outcome(record)}")

            with run.screen:
                audit.run(run.executor(deadline=False), watch, run.screen.say, told)
        audit.forget_checkpoints()
        return records.folder, audit.rows()


def training_to_the_end(run: BegunRun, candidates: Prepare, epochs: int | None) -> FinalTraining:
    """Training of a search's networks as its candidates are trained, for another number of epochs; None: the same.

    Raises:
        ConfigurationError: candidates are not trained one by one.
    """
    if not isinstance(candidates, TrainsCandidates):
        raise ConfigurationError(
            "expected a search that trains its candidates one by one, got one whose candidates share weights; "
            "its own method trains its front to the end"
        )
    return FinalTraining(
        space=candidates.space,
        data=candidates.data,
        training=replace(candidates.training, epochs=epochs or candidates.training.epochs),
        recipe=candidates.recipe,
        seed=run.seed,
        device=run.device,
        threads=run.threads,
    )


def _outcome(record: Mapping[str, Any]) -> str:
    if record["status"] == "failed":
        return f"failed: {record['reason']}"
    if record["kind"] == "trained":
        return f"trained in {record['seconds']:.0f} s"
    return ", ".join(f"{name} {shown(name, value)}" for name, value in record["values"].items())
