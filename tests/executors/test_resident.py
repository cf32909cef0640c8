"""Work that stays in actors of Ray, where others hold a part of the cluster."""

from collections.abc import Callable
from typing import Any

import pytest

from evonas.executors import Job, Outcome, RayExecutor, ray_tasks, run_jobs


def echo(report: Any) -> Callable[[int], int]:
    return same


def same(payload: int) -> int:
    return payload


class Holder:
    """Holds a CPU as long as it lives."""

    def here(self) -> bool:
        return True


@pytest.mark.slow
def test_jobs_that_wait_for_an_actor_without_a_place_go_to_another(
    ray_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_tasks, "ACTOR_SECONDS", 1.0)
    holder = ray_here.remote(num_cpus=1)(Holder).remote()
    assert ray_here.get(holder.here.remote())
    executor = RayExecutor(resident=True)  # sees two slots, has one
    jobs = [Job(str(number), number) for number in range(5)]
    try:
        finished = dict(run_jobs(executor, echo, jobs))
    finally:
        ray_here.kill(holder)
    assert finished == {job: Outcome(job.payload) for job in jobs}
