"""docs/tutorial.md: a smaller copy of its blocks runs in one shell, as a reader pastes them."""

import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import FLAGS

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "tutorial.py"
SMALLER = {
    "evonas roco --data digits": " ".join(
        [
            *("evonas", "roco", *FLAGS),
            "--train-limit 150 --val-limit 50 --phases 2 --nodes 3 --channels 2 --designs= --epochs 1 --batch-size 5",
            "--population 4 --generations 1 --objectives clean_error,macs,pgd_error --attack-images 20",
        ]
    ),
    'params < 50k and clean_error < 30%"': 'params < 50k and clean_error <= 100%"',
    'audit.clean_error < 25%"': 'audit.clean_error <= 100%"',
    "evonas audit runs/digits": "evonas audit runs/digits --executor local --images 20 --measure clean,pgd20",
    "--epochs 10": "--epochs 1",
    "--int8": "--int8 --images 50 --calibration-images 20 --attacked-images 5 --queries 3",
    "evonas latency runs/digits": "evonas latency runs/digits --runs 3 --warm-up 1",
}
"""Words of the page -> words of its smaller copy; all else is as it stands there."""


@pytest.fixture
def tutorial() -> Any:
    spec = importlib.util.spec_from_file_location("tutorial", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_script_without_evonas_imports_none(tutorial: Any) -> None:
    (script,) = re.findall(r'^```python title="check_net.py"\n(.*?)^```', tutorial.PAGE.read_text(), re.M | re.S)
    assert re.findall(r"^(?:import|from) (\w+)", script, re.M) == ["numpy", "onnxruntime"]


@pytest.mark.slow
def test_a_smaller_copy_of_the_tutorial_runs(tutorial: Any, tmp_path: Path) -> None:
    for extra in ("onnxruntime", "onnxscript", "altair", "vl_convert"):
        pytest.importorskip(extra)
    script: str = tutorial.prepared(tutorial.PAGE.read_text(), tmp_path)
    for words, fewer in SMALLER.items():
        assert words in script, words
        script = re.sub(rf"(?<!\$ ){re.escape(words)}", lambda _: fewer, script)  # noqa: B023
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(SCRIPT.parents[1])}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / "digits"
    for name in ("front.csv", "report.html", "audit.csv", "audit.json"):
        assert (run / name).stat().st_size > 0
    card = json.loads((tmp_path / "net.card.json").read_text())
    (chosen,) = re.findall(r"^([0-9a-f]{16})$", done.stdout, re.M)
    assert card["network"]["arch_id"] == chosen
    assert [line.split(":")[0] for line in done.stdout.splitlines() if "test images wrong" in line] == [
        "net.onnx",
        "net.int8.onnx",
    ]
