"""Measure networks of a run under real attackers."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from evonas.commands.opened import Folder, opened, print_json, print_table, say
from evonas.methods.stored_audit import AuditPlan
from evonas.runs.execution import ExecutionOptions

__all__ = ["AuditCommand"]


@dataclass(frozen=True, kw_only=True)
class AuditCommand(ExecutionOptions, AuditPlan):
    """Measure networks of a run under real attackers, and say what that changes: does its front survive?

    Writes audit.csv and audit.json in the run's folder; the same command goes on where it was stopped.
    """

    example: ClassVar[str] = "evonas audit runs/roco-digits-quick-seed0 --measure standard --epsilon 4/255"

    run: Folder
    """Folder of the run."""
    networks: Annotated[list[str], tyro.conf.Positional, tyro.conf.arg(metavar="ARCH")] = field(default_factory=list)
    """arch_ids of its networks, or best; the front by default."""
    retry_failed: bool = False
    """Do again what is recorded as failed."""
    json: bool = False
    """Print audit.json, with the rows of audit.csv as `rows`, and nothing else."""
    data: str = ""
    """npz:PATH, where the file of the run's images is now; its content is compared."""
    plugin: tuple[str, ...] = ()
    """Python files that the run was begun with."""

    def __post_init__(self) -> None:
        ExecutionOptions.__post_init__(self)
        AuditPlan.__post_init__(self)

    def __call__(self) -> None:
        from rich.console import Console

        from evonas.methods.stored_audit import audit_run

        console = Console(stderr=True) if self.json else None
        result = opened(self.run, self.plugin, self.data, quiet=self.json)
        done = audit_run(
            result,
            self.networks,
            AuditPlan(**_part(self, AuditPlan)),
            ExecutionOptions(**_part(self, ExecutionOptions)),
            plugin=self.plugin,
            data=self.data,
            retry_failed=self.retry_failed,
            console=console,
        )
        if self.json:
            print_json({"damage": result.folder.damage, **done.files.summary, "rows": done.files.rows})
            return
        from evonas.report import Chance, audit_lines, audit_text

        summary = done.files.summary
        chance = Chance(done.n_classes, summary["images"])
        print_table(audit_text(done.title, done.rows, done.columns, chance, summary["on_front"]), kept=1)
        for line in audit_lines(summary, done.checked):
            say(line)
        say(f"written to {Path(self.run)}: audit.csv, audit.json")


def _part(options: object, kind: type) -> dict[str, Any]:
    """Values of the fields of a dataclass that the options extend."""
    return {each.name: getattr(options, each.name) for each in fields(kind)}
