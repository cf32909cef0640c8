"""Evaluators that stay in actors of Ray, where others hold a part of the cluster."""

from typing import Any

import pytest

from evonas.executors import as_factory, ignore, ray_tasks
from evonas.search import Job, RayExecutor
from evonas.types import EvaluationResult, Genome


def echo(genome: Genome, seed: int) -> EvaluationResult:
    return EvaluationResult(tuple(genome), {"first": int(genome[0])})


class Holder:
    """Holds a CPU as long as it lives."""

    def here(self) -> bool:
        return True


def test_what_waits_for_an_actor_without_a_place_goes_to_another(
    ray_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_tasks, "ACTOR_SECONDS", 1.0)
    holder = ray_here.remote(num_cpus=1)(Holder).remote()
    assert ray_here.get(holder.here.remote())
    executor = RayExecutor(resident=True)  # sees two slots, has one
    executor.start(as_factory(echo), ignore)
    try:
        for number in range(5):
            executor.submit(Job((number,), number, number))
        finished = [executor.next_finished() for _ in range(5)]
    finally:
        executor.close()
        ray_here.kill(holder)
    assert sorted(result.objectives["first"] for _, result in finished) == [0, 1, 2, 3, 4]
