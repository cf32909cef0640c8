"""Stages whose jobs run in two processes: one of these or the driver is killed, and the results are as without."""

import contextlib
import io
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_cell_retraining
import test_tam_finalise
from rich.console import Console
from tiny_cells import TINY, searched
from tiny_runs import HERE, rows

from evonas.methods import darts
from evonas.methods.darts import DartsOptions
from evonas.runs import ExecutionOptions
from evonas.training.checkpoints import load_checkpoint, stored_identity

pytestmark = pytest.mark.slow

SLOTS = {1: HERE, 2: ExecutionOptions(device="cpu", threads=1, workers=2)}
EPOCHS = 8
"""So many that a kill after the first one comes before the last one."""
CELLS = DartsOptions(**{**TINY, "levels": replace(TINY["levels"], search_epochs=EPOCHS)}, repeats=2)


def search(out: Path, slots: int) -> str:
    screen = io.StringIO()
    darts.run(replace(CELLS, execution=SLOTS[slots], out=out), Console(file=screen, width=200))
    return screen.getvalue()


def retrain(out: Path, slots: int) -> str:
    after = replace(test_cell_retraining.AFTER, retrain_epochs=EPOCHS)
    return test_cell_retraining.retrain(out, after, execution=SLOTS[slots])


def finalise(out: Path, slots: int) -> str:
    after = replace(test_tam_finalise.AFTER, finalise="both", finalise_top=1, finalise_epochs=EPOCHS)
    if not out.exists():
        out.mkdir()
        test_tam_finalise.searched(out)
    return test_tam_finalise.finalise(out, after, execution=SLOTS[slots])


def of_search(out: Path) -> Any:
    tables = ("search-r1.csv", "search-r2.csv", "sweep.csv", "repeats.csv", "front.csv", "population.csv")
    states = [searched(out, f"-r{number}") for number in (1, 2)]
    supernets = [{name: value.numpy().tobytes() for name, value in state["supernet"].items()} for state in states]
    genotypes = [(out / f"genotype-r{number}.json").read_bytes() for number in (1, 2)]
    return [rows(out / name) for name in tables], supernets, genotypes


def of_audit(name: str) -> Callable[[Path], Any]:
    def found(out: Path) -> Any:
        weights = {path.name: path.read_bytes() for path in (out / name).glob("*.safetensors")}
        assert len(weights) == 2
        return rows(out / name / f"{name}.csv"), weights, (out / name / "tables.md").read_text().split("Search")[0]

    return found


STAGES: dict[str, tuple[Callable[[Path, int], str], str, Callable[[Path], Any]]] = {
    "search": (search, "search-*.pt", of_search),
    "retraining": (retrain, "retrained/*.training.pt", of_audit("retrained")),
    "finalising": (finalise, "finalised/*.training.pt", of_audit("finalised")),
}
"""Stage -> (how it is run, its checkpoints, what it leaves without times)."""


@pytest.fixture(scope="module", params=STAGES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """A stage, and what it leaves with one slot and no kill."""
    run, _, left = STAGES[request.param]
    out = tmp_path_factory.mktemp("killed") / "whole"
    run(out, 1)
    return request.param, left(out)


def wait_for_a_checkpoint(out: Path, pattern: str, ended: Callable[[], bool]) -> None:
    until = time.monotonic() + 300
    while not list(out.glob(pattern)):
        assert not ended()
        assert time.monotonic() < until
        time.sleep(0.002)


def test_a_worker_is_killed(whole: tuple[str, Any], tmp_path: Path) -> None:
    """In a training: it is tried again from its last epoch, and the others have gone on meanwhile."""
    stage, expected = whole
    run, pattern, left = STAGES[stage]
    over = threading.Event()

    def kill() -> None:
        wait_for_a_checkpoint(tmp_path / "out", pattern, over.is_set)
        for worker in multiprocessing.active_children():
            if worker.name == "evonas-worker-0":
                worker.kill()

    killing = threading.Thread(target=kill)
    killing.start()
    try:
        said = run(tmp_path / "out", 2)
    finally:
        over.set()
        killing.join()
    assert "was killed by signal 9 (SIGKILL); it is tried once more" in said
    assert left(tmp_path / "out") == expected


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_killed_stages import STAGES
if __name__ == "__main__":
    STAGES[{stage!r}][0](Path({out!r}), 2)
"""


def test_the_driver_is_killed(whole: tuple[str, Any], tmp_path: Path) -> None:
    stage, expected = whole
    run, pattern, left = STAGES[stage]
    here, out = Path(__file__).parent, tmp_path / "out"
    code = KILLED.format(paths=[str(here), str(here.parent)], stage=stage, out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_for_a_checkpoint(out, pattern, lambda: process.poll() is not None)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (path, *_) = sorted(out.glob(pattern))
    content = load_checkpoint(path, stored_identity(path, "a stage"), "a stage")
    assert content is not None
    assert 1 <= content["state"]["epoch"] < EPOCHS
    with contextlib.suppress(AssertionError):
        assert not left(out)  # it is not finished
    run(out, 2)
    assert left(out) == expected
