"""The files for clusters: what Ray and bash make of them; and the commands in them and in the documentation."""

import copy
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from evonas.cli import _parse, main
from evonas.commands import COMMANDS
from evonas.methods import METHODS, method_module
from evonas.methods.roco import PRESETS, RocoOptions
from evonas.runs import parse
from evonas.search import EvolutionConfig, Journal, evolve
from evonas.studies import STUDIES
from evonas.studies.options import PRESETS as STUDY_PRESETS
from evonas.types import Note

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SCRIPT = "experiments/roco_cifar10.py"
SCRIPTS = {
    "build_adversarial_set": "build-set",
    "darts_cifar10": "darts",
    "dsrna_cifar10": "dsrna",
    "e2rnas_cifar10": "e2rnas",
    "imagenet_cells": "imagenet",
    "roco_cifar10": "roco",
    "tam_cifar10": "tam",
    **{f"study_{name.replace('-', '_')}": f"study {name}" for name in STUDIES},
}
"""Experiment -> the command that is the same."""

WITH_COMMANDS = sorted(
    path
    for pattern in ("examples/*.*", "experiments/*.py", "*.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)


def commands(path: Path, program: str) -> list[list[str]]:
    """The arguments of each call of a program in code: comments, continued lines and YAML's folded lines joined.

    Variables that the same block sets are filled in.
    """
    lines = path.read_text().splitlines()
    if path.suffix == ".md":
        blocks = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
        lines = [line for language, code in blocks if language in ("", "bash") for line in code.splitlines()]
    text = "\n".join(re.sub(r"^#\s?", "", line).strip() for line in lines)
    text = re.sub(r"\\+\n|\n(?=--)", " ", text)
    for name, value in re.findall(r'^(\w+)="(.*)"$', text, re.MULTILINE):
        text = text.replace(f"${name} ", f"{value} ")
    calls = re.findall(rf"(?:^|python (?:/\S*/)?){re.escape(program)}(?![\w./-])(.*)", text, re.MULTILINE)
    return [shlex.split(re.split(r" [&#|>]|`", call)[0]) for call in calls]


def shown(path: Path) -> list[tuple[str, list[str]]]:
    """(method or command of `evonas`, its arguments) of every call in a file that names no plugin."""
    found = [
        *((words[0], words[1:]) for words in commands(path, "evonas") if words),
        *(
            (name.split()[0], [*name.split()[1:], *words])
            for script, name in SCRIPTS.items()
            for words in commands(path, f"experiments/{script}.py")
        ),
    ]
    return [(name, words) for name, words in found if not {"--help", "--help-all", "--plugin"} & {*words}]


def searched(path: Path) -> list[RocoOptions]:
    return [parse(PRESETS, words) for words in commands(path, SCRIPT)]


def loaded(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((EXAMPLES / name).read_text())
    return content


@pytest.mark.lengthy
@pytest.mark.parametrize("path", WITH_COMMANDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_shown_can_be_called(path: Path) -> None:
    for name, words in shown(path):
        if name in METHODS:
            parse(method_module(name).PRESETS, words)
        elif (path.name, name) != ("method.md", "random"):  # the command that this guide adds
            _parse([name, *words])


@pytest.mark.parametrize("name", [*METHODS, *COMMANDS])
def test_the_help_of_every_command_ends_with_an_example_that_can_be_called(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = method_module(name).OPTIONS if name in METHODS else COMMANDS[name]
    program, called, *words = shlex.split(kind.example)
    assert (program, called) == ("evonas", name)
    if name in METHODS:
        parse(method_module(name).PRESETS, words)
    else:
        _parse([name, *words])
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert capsys.readouterr().out.rstrip().endswith(f"example: {kind.example}")


def test_commands_are_found_where_they_are_shown(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        f'Not `evonas none`.\n\n```bash\nD="--seed 3"\npython {SCRIPT} --executor ray \\\n    --renamed 4 $D --top 2\n'
        "evonas show runs/* | head  # a look\nevonas verify RUN --plugin p.py\n```\n"
    )
    words = ["--executor", "ray", "--renamed", "4", "--seed", "3", "--top", "2"]
    assert shown(page) == [("show", ["runs/*"]), ("roco", words)]
    with pytest.raises(ValueError, match="--renamed"):
        searched(page)
    counted = {name for path in WITH_COMMANDS for name, _ in shown(path)}
    assert counted >= {*METHODS, *COMMANDS}


def test_there_is_a_script_for_every_experiment_of_the_table_and_for_no_other() -> None:
    assert {path.stem for path in (ROOT / "experiments").glob("*.py")} == {*SCRIPTS}


@pytest.mark.parametrize("name", STUDIES)
def test_the_script_of_a_study_takes_the_options_of_the_command(name: str) -> None:
    script = ROOT / "experiments" / f"study_{name.replace('-', '_')}.py"
    assert len(script.read_text().splitlines()) < 60
    module = runpy.run_path(str(script))
    made: list[Any] = []
    module["main"].__globals__["make_study"] = lambda study, options: made.append((study.name, options))
    module["main"](parse(STUDY_PRESETS, ["--preset", "small", "--seeds", "2", "--slots", "2"]))
    ((found, options),) = made
    assert (found, options.preset, options.seeds, options.slots) == (name, "small", 2, 2)


@pytest.mark.parametrize("name", ["ray-cluster.yaml", "kuberay.yaml", "slurm.sh"])
def test_a_cluster_that_grows_is_told_device_and_threads(name: str) -> None:
    """Left on auto, they would follow from the machines that are there when the search begins: perhaps none."""
    (settings,) = searched(EXAMPLES / name)
    assert settings.execution.device == "cuda"
    assert settings.execution.threads is not None
    assert settings.execution.timeout is not None
    assert settings.out is not None


@pytest.mark.lengthy
def test_ray_accepts_its_cluster_file() -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    config = loaded("ray-cluster.yaml")
    util.validate_config(util.prepare_config(copy.deepcopy(config)))
    for broken in ({"max_workers": "eight"}, {"head_node_type": "nobody"}, {"gpu_workers": 8}):
        with pytest.raises(Exception, match=r"eight|head_node_type|gpu_workers"):
            util.validate_config(util.prepare_config(copy.deepcopy({**config, **broken})))


def test_the_machines_of_the_cluster_file_have_room_for_what_it_runs() -> None:
    config = loaded("ray-cluster.yaml")
    (settings,) = searched(EXAMPLES / "ray-cluster.yaml")
    assert config["available_node_types"][config["head_node_type"]]["resources"] == {"CPU": 0}
    worker = config["available_node_types"]["gpu_worker"]
    there = worker["resources"]
    at_once = int(there["GPU"] / settings.execution.gpus_per_task)
    assert at_once >= 1
    assert at_once * (settings.execution.threads or 0) <= there["CPU"]
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_kuberay_keeps_the_run_on_a_volume_of_the_head_alone() -> None:
    job = loaded("kuberay.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52)  # the operator refuses a token with older ones
    head, (group,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    (container,), (volume,) = head["template"]["spec"]["containers"], head["template"]["spec"]["volumes"]
    (mount,) = container["volumeMounts"]
    assert mount["name"] == volume["name"]
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[0] == "python"
    out = parse(PRESETS, words[2:]).out
    assert out is not None
    assert out.is_relative_to(mount["mountPath"])
    (worker,) = group["template"]["spec"]["containers"]
    assert worker["image"] == container["image"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for each in (container, worker):  # Ray reads its CPUs and GPUs from the limits
        assert each["resources"]["requests"] == each["resources"]["limits"]


STUBS = {
    "srun": 'echo "srun $*" >>"$LOG"; exec sleep 60',
    "ray": 'test "$1" = health-check',
    "scontrol": 'echo "scontrol $*" >>"$LOG"',
    "python": """\
if [ "$1" = -c ]; then echo token; exit; fi
echo "python $1 $RAY_ADDRESS" >>"$LOG"
trap 'exit 143' TERM
until [ "$(grep -c ^srun "$LOG")" = 2 ]; do sleep 0.05; done
if [ "$ENDS" = yes ]; then exit 0; fi
kill -TERM "$PPID"
for _ in $(seq 100); do sleep 0.1; done""",
}


@pytest.mark.parametrize(("ends", "code"), [("yes", 0), ("no", 143)])
def test_slurm_starts_a_cluster_searches_and_stops_it(ends: str, code: int, tmp_path: Path) -> None:
    """With stubs for what SLURM and Ray would do; where the time is up, the job is queued again."""
    for name, body in STUBS.items():
        stub = tmp_path / name
        stub.write_text(f"#!/usr/bin/env bash\n{body}\n")
        stub.chmod(0o755)
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "activate").touch()
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "LOG": str(tmp_path / "log"),
        "ENDS": ends,
        "EVONAS_VENV": str(tmp_path / "venv"),
        "SLURM_JOB_ID": "1234567",
        "SLURM_JOB_NUM_NODES": "3",
    }
    done = subprocess.run(["bash", EXAMPLES / "slurm.sh"], env=environment, timeout=30, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, "")
    lines = (tmp_path / "log").read_text().splitlines()
    calls = sorted(line for line in lines if line.startswith("srun"))  # they start beside each other
    assert len(calls) == 2
    assert any("--nodes=1 " in call and "ray start --head" in call and "--port=24567" in call for call in calls)
    assert any("--nodes=2 " in call and "ray start --block" in call for call in calls)
    (search,) = [line for line in lines if line.startswith("python")]
    assert re.fullmatch(rf"python {SCRIPT} [\w.:]+:24567", search)
    again = [line for line in lines if line.startswith("scontrol")]
    assert again == ([] if code == 0 else ["scontrol requeue 1234567"])


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with the modules of the guide to executors."""
    page = (ROOT / "docs" / "how-to" / "executor.md").read_text()
    for name, code in re.findall(r'^```python title="(\w+\.py)"\n(.*?)^```', page, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.lengthy
def test_jobs_of_the_guide_that_are_no_genomes(guide: Path) -> None:
    command = [sys.executable, str(guide / "squares.py")]
    child = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert child.stdout.splitlines() == ["number 1 1", "number 2 ValueError: two is not allowed", "number 3 9"]


@pytest.mark.lengthy
def test_supervised_executor_of_the_guide_works(guide: Path, tiny_space: Any) -> None:
    """What one network does to its process is one failure; deadlines hold."""
    (guide / "deadly.py").write_text(
        "import os, time\n"
        "from evonas.types import EvaluationResult\n"
        "def evaluate(genome, seed):\n"
        "    if tuple(genome) == (0, 0, 0, 1): os._exit(1)\n"
        "    if tuple(genome) == (0, 0, 1, 0): time.sleep(600)\n"
        "    return EvaluationResult(tuple(genome), {'macs': int(sum(genome))}, seed=seed)\n"
    )
    config = EvolutionConfig(population=3, generations=1, objectives=("macs",))
    first = [np.array(genes) for genes in ((0, 0, 0, 1), (0, 0, 1, 0))]
    journal, said = Journal(), list[object]()
    executor = import_module("fresh_process").FreshProcessExecutor(timeout=1.5)
    evaluate = import_module("deadly").evaluate
    list(evolve(tiny_space, evaluate, config, executor, journal, first=first, report=said.append))
    reasons = {entry.result.genome: entry.result.reason for entry in journal}
    assert reasons.pop((0, 0, 0, 1)) == "its process ended under it"
    assert reasons.pop((0, 0, 1, 0)) == "it took longer than its 1.5 seconds"
    assert set(reasons.values()) == {""}
    (note,) = [event.text for event in said if isinstance(event, Note)]
    assert "its process ended under it; it is tried once more, alone" in note


def test_script_of_the_guide_works_with_its_other_executor(guide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = (guide / "search_fresh.py").read_text()
    script = script.replace("fresh_process", "newest_first").replace("FreshProcessExecutor(timeout=60)", "Newest()")
    script = script.replace("FreshProcessExecutor", "NewestFirstExecutor as Newest").replace("os._exit(1)", "1 / 0")
    exec(compile(script, "search_fresh.py", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "failed: ZeroDivisionError: division by zero\n0 2\n1 2\n"


def test_slurm_script_has_no_fault_that_tools_see() -> None:
    subprocess.run(["bash", "-n", EXAMPLES / "slurm.sh"], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", EXAMPLES / "slurm.sh"], check=True)
