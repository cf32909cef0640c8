"""Runs: where the rooms are put together, one function a method."""

from evonas.runs.adversarial_sets import BUILD_PRESETS, BuildSettings, run_build
from evonas.runs.command_line import command, guarded, parse
from evonas.runs.execution import ExecutionSettings, make_executor
from evonas.runs.folder import RunFolder
from evonas.runs.retrain import RetrainSettings, retrain_front
from evonas.runs.roco import plan_roco, run_roco
from evonas.runs.roco_settings import ROCO_PRESETS, RocoSettings, roco_from_config
from evonas.runs.search import Plan, run_search

__all__ = [
    "BUILD_PRESETS",
    "ROCO_PRESETS",
    "BuildSettings",
    "ExecutionSettings",
    "Plan",
    "RetrainSettings",
    "RocoSettings",
    "RunFolder",
    "command",
    "guarded",
    "make_executor",
    "parse",
    "plan_roco",
    "retrain_front",
    "roco_from_config",
    "run_build",
    "run_roco",
    "run_search",
]
