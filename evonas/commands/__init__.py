"""Commands on what is there: runs, adversarial sets, the machine.

A command is a frozen dataclass in a file of its own: its fields are its options, its docstring is its help, and calling
it runs it. A new one is a file, and a line in `COMMANDS`. What is heavy is imported where it is used.
"""

from typing import Any

from evonas.lazy import Table

__all__ = ["COMMANDS"]

COMMANDS: Table[type[Any]] = Table(
    {
        "audit": "evonas.commands.audit:AuditCommand",
        "choose": "evonas.commands.choose:Choose",
        "doctor": "evonas.commands.doctor:Doctor",
        "export": "evonas.commands.export:Export",
        "front": "evonas.commands.front:Front",
        "latency": "evonas.commands.latency:Latency",
        "report": "evonas.commands.report:Report",
        "set": "evonas.commands.set_card:AdversarialSetCard",
        "ship": "evonas.commands.ship:Ship",
        "show": "evonas.commands.show:Show",
        "status": "evonas.commands.status:RunStatus",
        "study": "evonas.commands.study:StudyCommand",
        "verify": "evonas.commands.verify:Verify",
    }
)
"""Name -> command on what is there; methods are in `evonas.methods.METHODS`."""
