"""Checkpoints of jobs on machines that do not see the driver's files."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evonas.executors import Job, RayExecutor, Work, ray_tasks, run_jobs
from evonas.executors.carried import Carried, carried, checkpoint_here
from evonas.files import replace_file, sweep


def test_a_worker_that_sees_the_folder_takes_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "new" / "search.pt"
    sent, sends = carried(path), list[bytes]()
    with checkpoint_here(replace(sent, seconds=0.01), sends.append) as here:
        here.write_bytes(b"1")
        time.sleep(0.1)
    assert (here, sent.content, sends) == (path, None, [])
    assert carried(path).content == b"1"
    sweep(path.parent)  # marks of a driver that was killed
    assert [each.name for each in path.parent.iterdir()] == ["search.pt"]


def elsewhere(path: Path) -> Carried:
    """What is sent to a worker on another machine, which tells often."""
    sent = carried(path)
    sent.mark.unlink()
    return replace(sent, seconds=0.05)


def test_another_worker_goes_on_from_a_copy_and_sends_what_changes(tmp_path: Path) -> None:
    path = tmp_path / "search.pt"
    path.write_bytes(b"1")
    sends: list[bytes] = []
    with checkpoint_here(elsewhere(path), sends.append) as here:
        assert here.read_bytes() == b"1"
        time.sleep(0.2)  # unchanged: nothing is sent
        for content in (b"2", b"3"):
            replace_file(here, lambda file, content=content: file.write(content))  # type: ignore[misc]
            until = time.monotonic() + 30
            while content not in sends:
                assert time.monotonic() < until
                time.sleep(0.01)
    assert sends == [b"2", b"3"]
    assert path.read_bytes() == b"1"
    assert not here.exists()


def make_work(report: Any) -> Work:
    return work


def work(driver: Path, checkpoint: Path) -> list[int]:
    """Four steps, each kept with its process; the first one ends after two of them, once the driver has these."""
    taken = checkpoint.read_text().splitlines() if checkpoint.exists() else []
    assert checkpoint != driver
    while len(taken) < 4:
        taken.append(str(os.getpid()))
        replace_file(checkpoint, lambda file: file.write("\n".join(taken).encode()))
        if taken == 2 * [str(os.getpid())]:
            while not driver.exists() or driver.read_bytes() != checkpoint.read_bytes():
                time.sleep(0.01)
            os._exit(1)
    return [taken.count(process) for process in dict.fromkeys(taken)]


@pytest.mark.slow
@pytest.mark.parametrize("resident", [False, True])
def test_a_lost_worker_costs_no_more_than_what_was_not_sent(
    resident: bool, ray_here: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_tasks, "carried", elsewhere)
    path = tmp_path / "search.pt"
    ((_, outcome),) = run_jobs(RayExecutor(resident=resident), make_work, [Job("search", path, checkpoint=path)])
    assert (outcome.value, outcome.failure) == ([2, 2], "")
    assert len(path.read_text().splitlines()) == 4  # the last one comes with the end, however soon that is
    assert [each.name for each in tmp_path.iterdir()] == ["search.pt"]
