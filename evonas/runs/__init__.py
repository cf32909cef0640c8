"""Runs: a run on disk, from its first line on the screen to its tables. It knows no method."""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.runs.command_line import command, guarded, parse
    from evonas.runs.execution import ExecutionOptions, make_executor
    from evonas.runs.folder import RunFolder
    from evonas.runs.needs import Needs
    from evonas.runs.objectives import AttackOptions, CertifyOptions, make_objectives
    from evonas.runs.options import AuditOptions, DataOptions, RunOptions
    from evonas.runs.result import Result
    from evonas.runs.run import Run, SearchSpace
    from evonas.runs.screen import Screen
    from evonas.runs.script import run_search

__all__ = [
    "AttackOptions",
    "AuditOptions",
    "CertifyOptions",
    "DataOptions",
    "ExecutionOptions",
    "Needs",
    "Result",
    "Run",
    "RunFolder",
    "RunOptions",
    "Screen",
    "SearchSpace",
    "command",
    "guarded",
    "make_executor",
    "make_objectives",
    "parse",
    "run_search",
]

import_lazily(__name__)
