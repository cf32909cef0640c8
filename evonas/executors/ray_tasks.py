"""Evaluations as Ray tasks and actors: every GPU of a machine or of a cluster."""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from evonas.errors import ConfigurationError, ExecutionError
from evonas.executors.base import Job, MakeEvaluate
from evonas.executors.ray_cluster import Node, RayConnection, first_line, make_board
from evonas.executors.ray_counters import RayCounters
from evonas.executors.ray_worker import Resident, run_attempt
from evonas.executors.supervision import TICK, Attempt, SupervisedExecutor
from evonas.executors.worker import Happening, Host, Outcome, PlainHost, Started, WorkerSetup
from evonas.types import Activity, Progress

__all__ = ["RayExecutor"]

GPU_TASKS_PER_WORKER = 16
"""A worker process with a GPU ends after so many tasks: its CUDA context goes with it, and starting costs seconds."""

Call = tuple[int, Job, float]
"""Number of an attempt, its job, its share of a device."""

ACTOR_SECONDS = 15.0
"""After so long without a sign of an actor its attempt goes to one that is idle, if there is one."""

LOOK_SECONDS = 1.0
"""How often the driver looks which nodes there are."""


class RayExecutor(SupervisedExecutor):
    """Evaluations on a Ray cluster, or on every GPU of this machine. The driver alone decides what runs again.

    Args:
        connection: to a cluster, or its address; None: RAY_ADDRESS, else Ray is started on this machine.
        cpus: of an evaluation; its threads.
        gpus: of an evaluation; a fraction shares a device.
        timeout: seconds an evaluation may take; None: any.
        host: prepares each worker for its machine.
        resident: for an evaluator that keeps something large, such as a supernet, in its process: one actor a slot,
            kept until the search ends, instead of a task an evaluation.
    """

    def __init__(
        self,
        connection: RayConnection | str | None = None,
        cpus: int = 1,
        gpus: float = 0.0,
        timeout: float | None = None,
        host: Host | None = None,
        resident: bool = False,
    ) -> None:
        if cpus < 1:
            raise ConfigurationError(f"expected at least one CPU an evaluation, got {cpus}")
        if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
            raise ConfigurationError(f"expected a fraction of one GPU, or whole GPUs, an evaluation, got {gpus:g}")
        self._connection = connection if isinstance(connection, RayConnection) else RayConnection(connection)
        self._tasks = _RayWorkers(self._connection, cpus, gpus, host or PlainHost(), resident)
        super().__init__(self._tasks, timeout)

    def count(self, cached: bool, ok: bool) -> None:
        """Count a finished evaluation in Ray's metrics."""
        self._tasks.counters.count(cached, ok)

    def close(self) -> None:
        self._connection.close()  # first: leaving ends all tasks, and Ray may crash where Ctrl-C and a cancel meet
        super().close()


class _RayWorkers:
    """Tasks in flight, or actors and what they do."""

    def __init__(self, connection: RayConnection, cpus: int, gpus: float, host: Host, resident: bool) -> None:
        self.counters = RayCounters()
        self._connection = connection
        self._cpus = cpus
        self._gpus = gpus
        self._host = host
        self._resident = resident
        self._given: Any = None
        """Evaluator and board, as references: they travel once to every node that needs them."""
        self._board: Any = None
        self._refs: dict[Any, int] = {}
        """What a task or call will return -> its attempt."""
        self._node_of: dict[int, str] = {}
        self._actor_of: dict[int, tuple[Any, Call, float]] = {}
        """Attempt -> the actor that it was given to, with what, and when."""
        self._asked: Any = None
        """What the board will answer."""
        self._idle: list[tuple[Any, str]] = []
        """Actors that have nothing to do, and their nodes."""
        self._nodes: list[Node] = []
        self._looked = -LOOK_SECONDS
        self._functions: dict[float, Any] = {}

    def open(self, make_evaluate: MakeEvaluate) -> None:
        self._connection.open()
        import ray

        self._board = make_board()
        try:
            setup = ray.put(WorkerSetup(make_evaluate, self._host))
        except TypeError as error:
            raise ExecutionError(
                "expected an evaluator that can travel to another process, got one that cannot "
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
        what = (attempt.number, attempt.job, min(1.0, self._share(attempt.growth) or 1.0))
        if self._resident and not attempt.alone:
            self._call(self._idle_actor() or self._new_actor(), what)
        else:
            self._end_idle()
            self._refs[self._function(attempt.growth).remote([*self._given], *what)] = attempt.number

    def poll(self, seconds: float) -> Sequence[Happening]:
        import ray

        if not self._refs:
            time.sleep(seconds)
            return []
        done, _ = ray.wait(list(self._refs), timeout=seconds)
        if done:
            done, _ = ray.wait(list(self._refs), num_returns=len(self._refs), timeout=0)
        told = self._fetch()  # first: a worker tells that it began before it can come to any end
        ended = [self._ended(ref) for ref in done]
        self._move_to_idle()
        return [*told, *ended]

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
        self._given = self._board = None
        self._refs.clear()
        self._node_of.clear()
        self._actor_of.clear()
        self._idle.clear()
        self._asked = None

    def _function(self, growth: float) -> Any:
        """The remote function of one class of resources."""
        if growth not in self._functions:
            import ray

            calls = GPU_TASKS_PER_WORKER if self._gpus else 0
            decorate = ray.remote(  # GPUs belong here, not into .options: only so is their memory freed
                num_cpus=self._cpus, num_gpus=self._share(growth), max_calls=calls, max_retries=0
            )
            self._functions[growth] = decorate(run_attempt)
        return self._functions[growth]

    def _idle_actor(self) -> Any:
        """One on a node that is alive, or None."""
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

    def _fetch(self) -> list[Started | Progress]:
        """What workers have told since the last time."""
        import ray

        self._asked = self._asked or self._board.fetch.remote()  # an answer that is late is not lost
        ready, _ = ray.wait([self._asked], timeout=TICK)
        if not ready:
            return []
        asked, self._asked = self._asked, None
        try:
            told: list[Started | Progress] = ray.get(asked)
        except ray.exceptions.RayActorError:  # it is being started again
            return []
        self._node_of |= {each.attempt: each.node for each in told if isinstance(each, Started)}
        return told

    def _ended(self, ref: Any) -> Outcome:
        attempt = self._refs[ref]
        node = self._node_of.get(attempt, "")
        outcome = self._outcome(ref, attempt, node)
        actor = self._forget(ref)
        if actor is not None and outcome.kind in ("result", "memory"):
            self._idle.append((actor, node))
        return outcome

    def _outcome(self, ref: Any, attempt: int, node: str) -> Outcome:
        import ray
        from ray import exceptions

        try:
            outcome: Outcome = ray.get(ref)
            return outcome
        except exceptions.LocalRayletDiedError as error:
            raise ExecutionError(
                "Ray on this machine has ended; run the same command again (everything recorded so far is kept)"
            ) from error
        except exceptions.OutOfMemoryError:
            return Outcome(attempt, "memory", "its worker was ended by Ray because the machine's memory was used up")
        except exceptions.NodeDiedError:
            return Outcome(attempt, "lost", "its machine went away")
        except (exceptions.WorkerCrashedError, exceptions.RayActorError):
            self._looked = -LOOK_SECONDS
            if node and node not in {each.id for each in self._alive()}:
                return Outcome(attempt, "lost", "its machine went away")
            return Outcome(attempt, "died", "its worker process ended under it: it was killed, or it crashed")
        except exceptions.RayError as error:
            return Outcome(attempt, "set_up", first_line(error))

    def _forget(self, ref: Any) -> Any:
        """No outcome of it is waited for any more; returns its actor, if it has one."""
        attempt = self._refs.pop(ref)
        self._node_of.pop(attempt, None)
        return self._actor_of.pop(attempt, (None,))[0]

    def _call(self, actor: Any, what: Call) -> None:
        ref = actor.run.remote(*what)
        self._actor_of[what[0]] = (actor, what, time.monotonic())
        self._refs[ref] = what[0]

    def _move_to_idle(self) -> None:
        """What waits for an actor that Ray has no place for goes to one that has nothing to do."""
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
            self._call(idle, what)

    def _end_idle(self) -> None:
        import ray

        for actor, _ in self._idle:
            ray.kill(actor)
        self._idle.clear()
