"""The audit of a run's networks, on its screen and on the slots of its executor."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evonas.audit import Audit, AuditNetwork, AuditRecords, FinalTraining, Measured
from evonas.errors import ConfigurationError
from evonas.evaluation import Prepare, TrainsCandidates
from evonas.executors import Job
from evonas.report import said
from evonas.runs.begun import BegunRun
from evonas.runs.jobs_screen import JobsScreen

__all__ = ["audit_networks", "training_to_the_end"]

SHOWN = 4
"""Values of a measurement that fit into a line; of more, the first one is shown."""


def audit_networks(
    run: BegunRun, networks: Sequence[AuditNetwork], measured: Measured, opening: str, folder: str
) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of the records, and a row for every network; see `Run.audit`."""
    with AuditRecords.opened(run.path / folder) as records:
        audit = Audit(networks, measured, records, run.options.retry_failed)
        audit.adopt()
        pending = audit.pending()
        run.screen.say(f"{opening}; {len(pending)} pending")
        if records.damaged:
            path = records.path
            run.screen.say(f"{path} has {records.damaged} damaged line(s); what they recorded is done again")
        if pending:
            jobs = JobsScreen(run.screen, audit.work())

            def lost(job: Job, why: str) -> None:
                run.screen.say(why)
                jobs.add(job.key, job.predicted)

            def told(job: Job, network: AuditNetwork, record: Mapping[str, Any]) -> None:
                if (record["kind"], record["status"]) == ("trained", "failed"):
                    jobs.leave_out(audit.after_training(network))
                jobs.finish(job.key, f"  {network.label}: {_outcome(record)}")

            with run.screen:
                audit.run(run.executor(deadline=False), jobs.see, lost, told)
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
    values = dict(record["values"])
    if len(values) > SHOWN:
        values = dict([next(iter(values.items()))])
    return ", ".join(said(values))
