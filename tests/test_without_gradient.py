"""The room `gradient` is optional: everything else works where it is not there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import evonas

SEARCH = """
import importlib.util, sys
sys.meta_path[:] = [each for each in sys.meta_path if "Editable" not in getattr(each, "__name__", "")]
import evonas.cli, evonas.runs
from evonas.runs import RocoSettings, run_roco, ExecutionSettings
from evonas.search import EvolutionConfig
from evonas.training import TrainingConfig
assert importlib.util.find_spec("evonas.gradient") is None
run_roco(RocoSettings(
    data="digits", train_limit=40, val_limit=20, phases=1, nodes=2, channels=2, out=__import__("pathlib").Path("run"),
    training=TrainingConfig(epochs=1, batch_size=20),
    search=EvolutionConfig(population=2, generations=0, objectives=("clean_error", "macs")),
    execution=ExecutionSettings(device="cpu", threads=1),
))
"""


def test_a_search_runs_without_it(tmp_path: Path) -> None:
    shutil.copytree(Path(evonas.__file__).parent, tmp_path / "evonas", ignore=shutil.ignore_patterns("gradient"))
    where = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", SEARCH], cwd=tmp_path, env=where, check=True, timeout=120)
    assert len((tmp_path / "run" / "population.csv").read_text().splitlines()) == 3
