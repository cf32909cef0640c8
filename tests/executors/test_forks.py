"""Processes of the fork server: whose code they run, what they inherit, and how they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evonas.runs.execution import WORKERS_IMPORT

PARTS = """
import os, sys
from evonas.executors import Job, ProcessExecutor, run_jobs

print("the script runs")


class Answer:
    def __init__(self, value):
        self.value = value


def make_work(report):
    return lambda payload: Answer(payload.value * factor)


factor = 7
jobs = [Job(str(number), Answer(number)) for number in range(3)]
found = run_jobs(ProcessExecutor(2), make_work, jobs)
print(sorted(outcome.value.value if isinstance(outcome.value, Answer) else outcome.failure for _, outcome in found))
"""
"""Work, payloads and values are of the script itself, which begins processes whenever it runs."""

SEARCH = """
import sys
from dataclasses import dataclass
from multiprocessing import forkserver

import evonas
from evonas.data import load_data
from evonas.objectives import Column
from evonas.search import EvolutionConfig
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig


@dataclass(frozen=True)
class Layers:
    name = "layers"

    def columns(self, space, n_classes):
        return (Column("layers", reference=1000.0),)

    def __call__(self, candidate):
        return {"layers": float(sum(1 for _ in candidate.network.modules()))}


found = evonas.run_search(
    PhaseSpace(phases=1, nodes=2, channels=2),
    load_data("digits", None, 0, 40, 20),
    ("clean_error", Layers()),
    out=sys.argv[1],
    training=TrainingConfig(epochs=1, batch_size=20, precision="fp32"),
    search=EvolutionConfig(population=2, generations=0),
    execution=evonas.runs.ExecutionOptions(device="cpu", workers=2),
)
print(found.front.status.tolist())
print("forked" if forkserver._forkserver._forkserver_pid else "nothing was forked")
"""


def run(*arguments: str, script: str | None = None, folder: Path, **environment: str) -> list[str]:
    """Lines on standard output of a Python process that ends well; no other process of its group is left."""
    done = subprocess.run(
        [sys.executable, *arguments],
        input=script,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env=os.environ | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.lengthy
@pytest.mark.parametrize("way", ["file", "standard input", "module"])
def test_a_script_without_a_guard_runs_once_and_its_parts_travel(way: str, tmp_path: Path) -> None:
    (tmp_path / "guardless.py").write_text(PARTS)
    arguments = {"file": ["guardless.py"], "standard input": ["-"], "module": ["-m", "guardless"]}[way]
    lines = run(*arguments, script=PARTS, folder=tmp_path)
    assert lines == ["the script runs", "[0, 7, 14]"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["search.py", "-"])
def test_a_search_in_a_script_without_a_guard(way: str, tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text(SEARCH)
    lines = run(way, str(tmp_path / "run"), script=SEARCH, folder=tmp_path)
    assert lines[-2] in ("['ok', 'ok']", "['ok']")
    assert lines[-1] == "forked"
    assert sum("executor: process" in line for line in lines) == 1
    again = run(way, str(tmp_path / "run"), script=SEARCH, folder=tmp_path)
    assert any("(2 from the journal, 0 failed)" in line for line in again)
    assert again[-1] == "nothing was forked"


@pytest.mark.lengthy
def test_workers_import_what_the_driver_imports_and_see_its_environment(tmp_path: Path) -> None:
    """A module of the same name in the working folder is another one, and a change after the server began counts."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
        (folder / "twice.py").write_text(f"place = {folder.name!r}")
    script = """
import os, sys
sys.path.remove("")
from evonas.executors import Job, ProcessExecutor, forks, run_jobs
import twice

def make_work(report):
    return lambda payload: (twice.place, sys.modules["twice"].place, os.environ["SAID"], "PYTHONSAFEPATH" in os.environ)

forks.warm_up(["twice"])
os.environ["SAID"] = "late"
print(*(outcome.value for _, outcome in run_jobs(ProcessExecutor(1, modules=["twice"]), make_work, [Job("a", 1)])))
"""
    path = os.pathsep.join([str(mine), os.environ.get("PYTHONPATH", "")])
    assert run("-", script=script, folder=other, PYTHONPATH=path) == ["('mine', 'mine', 'late', False)"]


@pytest.mark.lengthy
def test_what_workers_import_asks_no_gpu_and_starts_no_thread(tmp_path: Path) -> None:
    """Both would be broken in a forked process."""
    script = f"""
import importlib, torch

def refuse(*arguments):
    raise AssertionError("the fork server must not touch a GPU")

for name in ("is_available", "device_count", "current_device", "_lazy_init"):
    setattr(torch.cuda, name, refuse)
for name in {WORKERS_IMPORT!r}:
    importlib.import_module(name)
print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("Threads")])
"""
    assert run("-", script=script, folder=tmp_path, OPENBLAS_NUM_THREADS="1") == ["1"]


HANGS = """
import sys, time
from evonas.executors import Job, ProcessExecutor, run_jobs

def make_work(report):
    print("works", flush=True)
    return lambda payload: time.sleep(600)

print("begins", flush=True)
try:
    list(run_jobs(ProcessExecutor(2, modules=["evonas.evaluation.evaluator"]), make_work, [Job("a", 1), Job("b", 2)]))
except KeyboardInterrupt:
    sys.exit("stopped")
"""


def members(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(of) == session and state != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("after", "number"), [("begins", signal.SIGINT), ("works", signal.SIGINT), ("works", signal.SIGKILL)]
)
def test_nothing_outlives_the_driver_or_complains(after: str, number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C reaches the whole group, while the server imports, too; a kill reaches the driver alone."""
    (tmp_path / "hangs.py").write_text(HANGS)
    with open(tmp_path / "out", "wb") as out, open(tmp_path / "err", "wb") as err:
        driver = subprocess.Popen(
            [sys.executable, "hangs.py"], stdout=out, stderr=err, cwd=tmp_path, start_new_session=True
        )
    deadline = time.monotonic() + 240
    while after not in (tmp_path / "out").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    if after == "begins":
        time.sleep(0.5)  # the server imports torch meanwhile
    (os.killpg if number == signal.SIGINT else os.kill)(driver.pid, number)
    assert driver.wait(timeout=240) == (1 if number == signal.SIGINT else -number)
    while members(driver.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert members(driver.pid) == []
    assert (tmp_path / "err").read_text() == ("stopped\n" if number == signal.SIGINT else "")
