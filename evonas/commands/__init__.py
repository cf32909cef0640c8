"""Commands on what is there: runs, adversarial sets, the machine.

A command is a frozen dataclass in a file of its own: its fields are its options, its docstring is its help, and calling
it runs it. A new one is a file, and a line in `COMMANDS`. What is heavy is imported where it is used.
"""

from typing import Any

from evonas.lazy import Table

__all__ = ["COMMANDS"]

COMMANDS: Table[type[Any]] = Table(
    {
        "choose": "evonas.commands.choose:Choose",
        "doctor": "evonas.commands.doctor:Doctor",
        "export": "evonas.commands.export:Export",
        "front": "evonas.commands.front:Front",
        "latency": "evonas.commands.latency:Latency",
        "set": "evonas.commands.set_card:AdversarialSetCard",
        "study": "evonas.commands.study:StudyCommand",
        "show": "evonas.commands.show:Show",
        "verify": "evonas.commands.verify:Verify",
    }
)
"""Name -> command on what is there; methods are in `evonas.methods.METHODS`."""
