"""A set built by jobs: the same on any slots, and after the end of whatever runs; what fails, and what is told."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from helpers import KeepingExecutor

from evonas.adversarial_sets import AdversarialSet, BuildPlan, SetSettings, build_adversarial_set
from evonas.data import load_data
from evonas.errors import ExecutionError, StorageError
from evonas.executors import Job, MakeWork, Outcome, ProcessExecutor, RayExecutor, Work
from evonas.executors.carried import Carried, carried
from evonas.training import Training
from evonas.types import Activity, Note, Progress, Report, Watch

SETTINGS = SetSettings(
    targets=("LeNet", "ResNet"),
    widths=(0.5, 0.25),
    depths=(0, 8),
    target_epochs=(4, 4),
    target_batch_size=20,
    target_lr=0.02,
    thresholds=(20,),
    attacked_images=20,
    attack_population=10,
    attack_generations=2,
    attack_block=10,
)
PARTS = 2 * (1 + 2 * 2)
"""Two targets, each trained and attacked in two ways, whose twenty images are two blocks."""
TRAINING, ATTACK = "ResNet, training", "ResNet, Linf th 20, block 2"


def plan(settings: SetSettings = SETTINGS) -> BuildPlan:
    data = load_data("digits", train_limit=100, val_limit=50)
    return BuildPlan(data=data, split_seed=0, settings=settings, preset="t", seed=0, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> AdversarialSet:
    """Built one job after another, undisturbed."""
    return build_adversarial_set(plan(), tmp_path_factory.mktemp("expected") / "set")


def parts(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "set.parts").glob("*.safetensors")}


@pytest.mark.lengthy
def test_each_training_and_each_attack_on_a_block_is_a_job(expected: AdversarialSet, tmp_path: Path) -> None:
    """A training, which its attacks wait for, counts with all of them: those begin first."""
    executor = KeepingExecutor()
    assert build_adversarial_set(plan(), tmp_path / "set", executor=executor) == expected
    assert executor.closed == 1
    assert len({job.key for job in executor.jobs}) == len(executor.jobs) == PARTS
    trainings = [job for job in executor.jobs if not job.payload.step.attack]
    assert [job.key for job in trainings] == ["LeNet, training", "ResNet, training"]
    macs = {target.name: target.macs for target in expected.card.targets}
    for job in executor.jobs:
        step = job.payload.step
        attack = macs[step.target] * 10 * (10 * 3)  # ten images, ten individuals in three generations
        training = 3 * macs[step.target] * 4 * 100
        assert job.predicted == (attack if step.attack else training + 4 * attack)
        assert bool(job.payload.weights) == bool(step.attack)
        assert (job.checkpoint is None) == bool(step.attack)


def process() -> ProcessExecutor:
    return ProcessExecutor(2)


@pytest.mark.slow
def test_two_processes_give_the_same_set(expected: AdversarialSet, tmp_path: Path) -> None:
    watched: list[object] = []
    found = build_adversarial_set(plan(), tmp_path / "set", executor=process(), watch=watched.append)
    assert found == expected
    assert found.card.targets == expected.card.targets
    assert max(each.running for each in watched if isinstance(each, Activity)) == 2
    assert [path.name for path in tmp_path.glob("*.parts")] == []


@pytest.mark.slow
def test_ray_gives_the_same_set(ray_here: Any, expected: AdversarialSet, tmp_path: Path) -> None:
    assert build_adversarial_set(plan(), tmp_path / "set", executor=RayExecutor()) == expected


# What ends while it runs.


@pytest.mark.lengthy
def test_a_training_goes_on_with_the_epoch_that_was_begun(
    expected: AdversarialSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[int] = []
    run_epoch = Training.run_epoch

    def counted(self: Training, *arguments: Any) -> float:
        epochs.append(self.epoch)
        return run_epoch(self, *arguments)

    def after_two(event: object) -> None:
        if isinstance(event, Progress) and (event.key, event.done, event.total) == (TRAINING, 2, 4):
            raise KeyboardInterrupt

    monkeypatch.setattr(Training, "run_epoch", counted)
    with pytest.raises(KeyboardInterrupt):
        build_adversarial_set(plan(), tmp_path / "set", watch=after_two)
    assert parts(tmp_path) == {"target-LeNet"}
    assert [path.name for path in (tmp_path / "set.parts").glob("*.training.pt")] == [
        f"target-ResNet-{plan().digits}.training.pt"
    ]
    said: list[Any] = []
    again = build_adversarial_set(plan(), tmp_path / "set", watch=said.append)
    assert again == expected
    assert again.card.targets == expected.card.targets
    assert epochs == [0, 1, 2, 3, 0, 1, 2, 3]
    progress = [(each.key, each.done, each.total, each.unit, each.note) for each in said if isinstance(each, Progress)]
    assert progress[0] == ("LeNet, training", 1, 1, "epoch", "kept")  # which a screen leaves out of its estimate
    assert (TRAINING, 2, 4, "epoch", "continued after epoch 2/4") in progress


@pytest.mark.slow
def test_a_worker_that_does_not_see_the_folder_sends_its_checkpoints(
    expected: AdversarialSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_here: Any
) -> None:
    """Send them to the driver, for the next attempt, wherever it is."""

    def elsewhere(path: Path) -> Carried:
        """The checkpoint as a worker of another machine has it, sent a hundred times a second."""
        return replace(carried(path), mark=tmp_path / "not here", seconds=0.01)

    monkeypatch.setattr("evonas.executors.ray_tasks.carried", elsewhere)
    seen: set[str] = set()

    def look(event: object) -> None:
        seen.update(path.name for path in (tmp_path / "set.parts").glob("target-*.pt"))

    assert build_adversarial_set(plan(), tmp_path / "set", RayExecutor(), look) == expected
    assert seen


@dataclass(frozen=True)
class Dying:
    """Work whose process is killed, once, when this is reported; what is reported is written down."""

    make: MakeWork
    job: str
    done: int
    log: Path

    def make_work(self, report: Report) -> Work:
        mark = self.log.with_name("died")

        def reported(progress: Progress) -> None:
            if progress.unit in ("image", "epoch"):  # steps within an epoch depend on the time
                with open(self.log, "a") as file:
                    file.write(f"{progress.key}: {progress.note.partition(', loss')[0]}\n")
                if (progress.key, progress.done) == (self.job, self.done) and not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            report(progress)

        return self.make(reported)


class DyingExecutor(ProcessExecutor):
    def __init__(self, job: str, done: int, log: Path) -> None:
        super().__init__(2)
        self.given = (job, done, log)

    def start(self, make_work: MakeWork, report: Watch) -> None:
        super().start(Dying(make_work, *self.given).make_work, report)


@pytest.mark.slow
@pytest.mark.parametrize(("job", "done"), [(TRAINING, 2), (ATTACK, 0)], ids=["training", "attack"])
def test_a_killed_worker_costs_at_most_an_epoch_or_a_block(
    job: str, done: int, expected: AdversarialSet, tmp_path: Path
) -> None:
    """An epoch is reported once it is kept."""
    watched: list[object] = []
    log = tmp_path / "log"
    executor = DyingExecutor(job, done, log)
    assert build_adversarial_set(plan(), tmp_path / "set", executor=executor, watch=watched.append) == expected
    notes = [each.text for each in watched if isinstance(each, Note)]
    killed = f"{job}: its worker process was killed by signal 9 (SIGKILL); it is tried once more, alone"
    assert any(note.startswith(killed) for note in notes)
    lines = log.read_text().splitlines()
    of_job = [line.removeprefix(f"{job}: ") for line in lines if line.startswith(job)]
    if job == TRAINING:
        first, second = ["", "epoch 1/4", "epoch 2/4"], ["epoch 3/4", "epoch 4/4"]
        assert of_job == [*first, "continued after epoch 2/4", *second]
    else:
        assert of_job == ["10 images"] * 2
    assert len({*lines}) == len(lines) - (job == ATTACK)  # nothing else was done twice


LONG = replace(SETTINGS, target_epochs=(4, 200))
DRIVER = """
import os, signal, sys
from pathlib import Path
from evonas.adversarial_sets import build_adversarial_set
from evonas.executors import ProcessExecutor
from test_set_jobs import LONG, SETTINGS, plan

name, path = sys.argv[1], Path(sys.argv[2])
folder = path.with_name("set.parts")
pattern, settings = {"training": ("target-ResNet-*.pt", LONG), "attack": ("attack-*", SETTINGS)}[name]

def watch(event):
    if any(folder.glob(pattern)):
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    build_adversarial_set(plan(settings), path, executor=ProcessExecutor(2), watch=watch)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["training", "attack"])
def test_a_killed_driver_goes_on(name: str, expected: AdversarialSet, tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    ended = subprocess.run(
        [sys.executable, str(script), name, str(tmp_path / "set")], env=environment, capture_output=True, timeout=600
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGKILL, b"")
    kept, said = parts(tmp_path), list[Any]()
    assert len(kept) < PARTS
    if name == "training":
        assert not any(part.startswith("attack-ResNet") for part in kept)
        whole = build_adversarial_set(plan(LONG), tmp_path / "whole")
        again = build_adversarial_set(plan(LONG), tmp_path / "set", watch=said.append)
        assert again == whole
        notes = [each.note for each in said if isinstance(each, Progress)]
        assert any(note.startswith("continued after epoch ") for note in notes)
    else:
        assert {"target-LeNet", "target-ResNet"} & kept
        executor = KeepingExecutor()
        assert build_adversarial_set(plan(), tmp_path / "set", executor=executor) == expected
        assert not {job.payload.step.part for job in executor.jobs} & kept  # nothing kept was made again


# What fails.


class Failing(KeepingExecutor):
    """Attacks fail, as they do past their deadline."""

    def next_finished(self) -> tuple[Job, Outcome]:
        job, outcome = super().next_finished()
        late = Outcome.failed("it took longer than its 3 seconds", 3.0)
        return job, late if job.payload.step.attack else outcome


@pytest.mark.lengthy
def test_a_part_that_fails_ends_the_building_in_one_line(expected: AdversarialSet, tmp_path: Path) -> None:
    executor = Failing()
    with pytest.raises(ExecutionError, match="L0 th 20, block 1 failed: it took longer than its 3 seconds; ") as ended:
        build_adversarial_set(plan(), tmp_path / "set", executor=executor)
    assert "\n" not in str(ended.value)
    assert executor.closed == 1
    assert parts(tmp_path) == {"target-LeNet", "target-ResNet"}
    assert build_adversarial_set(plan(), tmp_path / "set") == expected


@pytest.mark.lengthy
def test_a_defect_in_a_job_has_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("no such layer")

    monkeypatch.setattr("evonas.adversarial_sets.jobs.train_target", broken)
    with pytest.raises(ExecutionError, match="LeNet, training failed: RuntimeError: no such layer; ") as ended:
        build_adversarial_set(plan(), tmp_path / "set")
    assert "in broken" in ended.value.__notes__[0]


@pytest.mark.lengthy
def test_a_full_disk_of_a_worker_is_the_same_error_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise StorageError("could not write: no space left; free some space")

    monkeypatch.setattr("evonas.training.checkpoints.save_checkpoint", full)
    with pytest.raises(StorageError, match=r"^could not write: no space left; free some space$"):
        build_adversarial_set(plan(), tmp_path / "set")


# Blocks.


@pytest.mark.slow
def test_blocks_and_chunks_are_a_part_of_the_plan(expected: AdversarialSet, tmp_path: Path) -> None:
    """Each block draws from a seed of its own, so others give other images; the usual ones name a set as ever."""
    other = plan(replace(SETTINGS, attack_block=20))
    found = build_adversarial_set(other, tmp_path / "set")
    assert found != expected
    assert [cell.tried for cell in found.card.cells] == [cell.tried for cell in expected.card.cells]
    assert other.name != plan().name


def test_the_usual_blocks_and_chunks_leave_the_name_as_it_was() -> None:
    usual = replace(SETTINGS, attack_block=64, attack_chunk=128)
    assert not {"attack_block", "attack_chunk"} & usual.identity().keys()
    assert replace(usual, attack_chunk=256).identity() == {**usual.identity(), "attack_chunk": 256}
    assert usual.attack("L0", 1).chunk == 128
    assert replace(usual, attack_chunk=256).attack("Linf", 1).chunk == 256
