"""Runs: where the rooms are put together, one function a method."""

from evonas.runs.adversarial_sets import BUILD_PRESETS, BuildSettings, run_build
from evonas.runs.command_line import command, guarded, parse
from evonas.runs.execution import ExecutionSettings, make_executor
from evonas.runs.folder import RunFolder
from evonas.runs.retrain import RetrainSettings, retrain_front
from evonas.runs.roco import plan_roco, run_roco
from evonas.runs.roco_settings import ROCO_PRESETS, RocoSettings, roco_from_config
from evonas.runs.search import Plan, run_search
from evonas.runs.tam import run_tam
from evonas.runs.tam_settings import TAM_PRESETS, TamSettings

__all__ = [
    "BUILD_PRESETS",
    "ROCO_PRESETS",
    "TAM_PRESETS",
    "BuildSettings",
    "ExecutionSettings",
    "Plan",
    "RetrainSettings",
    "RocoSettings",
    "RunFolder",
    "TamSettings",
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
    "run_tam",
]
