"""Attempts as Ray tasks, or in actors that stay."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evonas.errors import ExecutionError
from evonas.executors.attempts import Attempt
from evonas.executors.base import Job, MakeWork, Outcome
from evonas.executors.carried import Carried, carried
from evonas.executors.ray_cluster import Node, RayConnection, first_line, make_board
from evonas.executors.ray_counters import RayCounters
from evonas.executors.ray_worker import Resident, run_attempt
from evonas.executors.supervision import TICK
from evonas.executors.worker import Ended, Host, Kept, Message, Started, WorkerSetup
from evonas.types import Activity, Progress

__all__ = ["RayWorkers"]

GPU_TASKS_PER_WORKER = 16
"""Tasks after which a worker process with a GPU ends: its CUDA context goes with it, and starting costs seconds."""

Call = tuple[int, Job, float, Carried | None]
"""(number of an attempt, its job, its share of a device, the job's checkpoint)."""

ACTOR_SECONDS = 15.0
"""Seconds without a sign of an actor after which its attempt goes to an idle one, if there is one."""

LOOK_SECONDS = 1.0
"""Seconds between two looks at the nodes of the cluster."""


class RayWorkers:
    """Tasks in flight, or actors and their attempts."""

    def __init__(self, connection: RayConnection, cpus: int, gpus: float, host: Host, resident: bool) -> None:
        self.counters = RayCounters()
        self._connection = connection
        self._cpus = cpus
        self._gpus = gpus
        self._host = host
        self._resident = resident
        self._given: Any = None
        """References to the WorkerSetup and the board: both travel once to every node that needs them."""
        self._board: Any = None
        self._refs: dict[Any, int] = {}
        """Reference to the result of a task or call -> its attempt."""
        self._node_of: dict[int, str] = {}
        self._marks: dict[int, Path] = {}
        """Attempt -> the mark beside its checkpoint."""
        self._actor_of: dict[int, tuple[Any, Call, float]] = {}
        """Attempt -> (its actor, the call, the time of the call)."""
        self._asked: Any = None
        """Reference to the next answer of the board."""
        self._idle: list[tuple[Any, str]] = []
        """Actors without an attempt, and their nodes."""
        self._nodes: list[Node] = []
        self._looked = -LOOK_SECONDS
        self._functions: dict[float, Any] = {}

    def open(self, make_work: MakeWork) -> None:
        self._connection.open()
        import ray

        self._board = make_board()
        try:
            setup = ray.put(WorkerSetup(make_work, self._host))
        except TypeError as error:
            raise ExecutionError(
                "expected work that can travel to another process, got some that cannot "
                f"({first_line(error)}); use the executor local"
            ) from error
        self._given = (setup, self._board)
        self.counters.flush()

    @property
    def slots(self) -> int:
        return sum(node.slots(self._cpus, self._gpus) for node in self._alive())

    @property
    def ahead(self) -> int:
        return 0 if self._resident and self.slots else 1

    @property
    def room(self) -> int:
        """Twice the slots, so that a cluster that grows on demand doubles; an actor never waits where others work."""
        slots = self.slots
        return max(1, slots) if self._resident else 2 * slots + 1

    def begin(self, attempt: Attempt) -> None:
        share = min(1.0, self._share(attempt.growth) or 1.0)
        what = (attempt.number, attempt.job, share, self._checkpoint(attempt.number, attempt.job))
        if self._resident and not attempt.alone:
            self._call(self._idle_actor() or self._new_actor(), what)
        else:
            self._end_idle()
            self._refs[self._function(attempt.growth).remote([*self._given], *what)] = attempt.number

    def poll(self, seconds: float) -> Sequence[Message]:
        import ray

        if not self._refs:
            time.sleep(seconds)
            return []
        done, _ = ray.wait(list(self._refs), timeout=seconds)
        if done:
            done, _ = ray.wait(list(self._refs), num_returns=len(self._refs), timeout=0)
        messages = self._fetch()  # first: a worker says that it began before it can come to any end
        ended = [self._ended(ref) for ref in done]
        self._move_to_idle()
        return [*messages, *ended]

    def kill(self, attempt: int) -> None:
        import ray

        ref = next(ref for ref, number in self._refs.items() if number == attempt)
        actor = self._forget(ref)
        if actor is not None:
            ray.kill(actor)
        else:
            ray.cancel(ref, force=True)

    def activity(self, running: Sequence[Attempt], waiting: int, retries: int) -> Activity:
        there = [node for node in self._alive() if node.slots(self._cpus, self._gpus)]
        total = sum(node.gpus for node in there)
        used = sum(self._share(each.growth) for each in running)
        return Activity(len(running), waiting, self.slots, len(there), min(used, total), total, retries)

    def close(self) -> None:
        if self._given is not None:
            import ray

            if ray.is_initialized():
                for attempt in list(self._refs.values()):
                    with contextlib.suppress(ray.exceptions.RayError):
                        self.kill(attempt)
                self._end_idle()
                ray.kill(self._board)
        for mark in self._marks.values():
            mark.unlink(missing_ok=True)
        self._marks.clear()
        self._given = self._board = None
        self._refs.clear()
        self._node_of.clear()
        self._actor_of.clear()
        self._idle.clear()
        self._asked = None

    def _function(self, growth: float) -> Any:
        """The remote function for attempts of one share."""
        if growth not in self._functions:
            import ray

            calls = GPU_TASKS_PER_WORKER if self._gpus else 0
            decorate = ray.remote(  # GPUs belong here, not into .options: only so is their memory freed
                num_cpus=self._cpus, num_gpus=self._share(growth), max_calls=calls, max_retries=0
            )
            self._functions[growth] = decorate(run_attempt)
        return self._functions[growth]

    def _idle_actor(self) -> Any:
        """An idle actor on a living node, or None."""
        alive = {node.id for node in self._alive()}
        while self._idle:
            actor, node = self._idle.pop()
            if node in alive:
                return actor
        return None

    def _new_actor(self) -> Any:
        import ray

        return ray.remote(num_cpus=self._cpus, num_gpus=self._gpus)(Resident).remote([*self._given])

    def _share(self, growth: float) -> float:
        return min(1.0, self._gpus * growth) if self._gpus < 1 else self._gpus

    def _alive(self) -> list[Node]:
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._nodes, self._looked = self._connection.nodes(), time.monotonic()
        return self._nodes

    def _fetch(self) -> list[Started | Progress | Kept]:
        """Messages of workers since the last call."""
        import ray

        self._asked = self._asked or self._board.fetch.remote()  # an answer that is late is not lost
        ready, _ = ray.wait([self._asked], timeout=TICK)
        if not ready:
            return []
        asked, self._asked = self._asked, None
        try:
            messages: list[Started | Progress | Kept] = ray.get(asked)
        except ray.exceptions.RayActorError:  # it is being started again
            return []
        self._node_of |= {each.attempt: each.node for each in messages if isinstance(each, Started)}
        return messages

    def _ended(self, ref: Any) -> Ended:
        attempt = self._refs[ref]
        node = self._node_of.get(attempt, "")
        ended = self._result(ref, attempt, node)
        actor = self._forget(ref)
        if actor is not None and ended.kind in ("finished", "memory"):
            self._idle.append((actor, node))
        return ended

    def _result(self, ref: Any, attempt: int, node: str) -> Ended:
        """Result of an attempt, or what an error of Ray says about its end."""
        import ray
        from ray import exceptions

        try:
            ended: Ended = ray.get(ref)
            return ended
        except exceptions.LocalRayletDiedError as error:
            raise ExecutionError(
                "Ray on this machine has ended; run the same command again (everything recorded so far is kept)"
            ) from error
        except exceptions.OutOfMemoryError:
            full = "its worker was ended by Ray because the machine's memory was used up"
            return Ended(attempt, "memory", Outcome.failed(full))
        except exceptions.NodeDiedError:
            return Ended(attempt, "lost", Outcome.failed("its machine went away"))
        except (exceptions.WorkerCrashedError, exceptions.RayActorError):
            self._looked = -LOOK_SECONDS
            if node and node not in {each.id for each in self._alive()}:
                return Ended(attempt, "lost", Outcome.failed("its machine went away"))
            crashed = "its worker process ended under it: it was killed, or it crashed"
            return Ended(attempt, "died", Outcome.failed(crashed))
        except exceptions.RayTaskError as error:  # the worker lacks a module, or the value cannot travel
            return Ended(attempt, "set_up", Outcome.failed(error.cause))
        except exceptions.RayError as error:
            return Ended(attempt, "set_up", Outcome.failed(first_line(error)))

    def _forget(self, ref: Any) -> Any:
        """Wait no longer for an attempt; returns its actor, or None."""
        attempt = self._refs.pop(ref)
        self._node_of.pop(attempt, None)
        if mark := self._marks.pop(attempt, None):
            mark.unlink(missing_ok=True)
        return self._actor_of.pop(attempt, (None,))[0]

    def _call(self, actor: Any, what: Call) -> None:
        ref = actor.run.remote(*what)
        self._actor_of[what[0]] = (actor, what, time.monotonic())
        self._refs[ref] = what[0]

    def _checkpoint(self, attempt: int, job: Job) -> Carried | None:
        """The checkpoint that is sent with the job; None where it has none."""
        if job.checkpoint is None:
            return None
        sent = carried(job.checkpoint)
        self._marks[attempt] = sent.mark
        return sent

    def _move_to_idle(self) -> None:
        """Give attempts whose actor has found no place in the cluster to idle actors."""
        import ray

        places = {attempt: ref for ref, attempt in self._refs.items()}
        late = time.monotonic() - ACTOR_SECONDS
        for attempt, (never, what, given) in list(self._actor_of.items()):
            if attempt in self._node_of or given > late:
                continue
            idle = self._idle_actor()
            if idle is None:
                return
            self._forget(places[attempt])
            ray.kill(never)
            self._call(idle, (*what[:3], self._checkpoint(attempt, what[1])))

    def _end_idle(self) -> None:
        import ray

        for actor, _ in self._idle:
            ray.kill(actor)
        self._idle.clear()
