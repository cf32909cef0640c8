"""The room `gradient` is optional: everything else works where it is not there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import evonas
from evonas.methods import METHODS

NEED_IT = {"darts", "dsrna", "e2rnas"}
"""Methods that search by gradient."""

SCRIPT = """
import importlib.util, json, sys
sys.meta_path[:] = [each for each in sys.meta_path if "Editable" not in getattr(each, "__name__", "")]
assert importlib.util.find_spec("evonas.gradient") is None
from evonas.cli import main
from evonas.errors import ConfigurationError
from evonas.methods import METHODS, method_module
from evonas.runs import parse

reached = []
for name in METHODS:
    try:
        parse(method_module(name).PRESETS, [])
    except ConfigurationError as error:
        assert "expected the room evonas.gradient" in str(error), error
    else:
        reached.append(name)
words = "roco --data digits --train-limit 40 --val-limit 20 --phases 1 --nodes 2 --channels 2 --epochs 1"
words += " --batch-size 20 --population 2 --generations 0 --objectives clean_error,macs --device cpu --threads 1"
words += " --out run"
codes = [main(words.split()), main(["show", "run"]), main(["verify", "run", "--retrain", "best"])]
json.dump({"reached": reached, "codes": codes}, open("found.json", "w"))
"""


@pytest.mark.lengthy
@pytest.mark.slow
def test_a_search_runs_without_it(tmp_path: Path) -> None:
    shutil.copytree(Path(evonas.__file__).parent, tmp_path / "evonas", ignore=shutil.ignore_patterns("gradient"))
    where = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, env=where, check=True, timeout=300)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["codes"] == [0, 0, 0]
    assert len((tmp_path / "run" / "population.csv").read_text().splitlines()) == 3
    assert {*found["reached"]} == METHODS.keys() - NEED_IT
