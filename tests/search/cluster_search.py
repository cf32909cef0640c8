"""A search on a cluster of three nodes that loses one in mid-generation and gets another; run as a script, because a
process can be connected to one Ray only. Prints what it saw as JSON.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from sleepy_search import Sleepy, logged, search

from evonas.executors import RayExecutor
from evonas.types import Activity, Note

SECONDS = 0.7


class Weather:
    """Watches the search; kills a node while it evaluates, and adds one later."""

    def __init__(self, cluster: Any, victim: Any, log: Path) -> None:
        self.cluster, self.victim, self.log = cluster, victim, log
        self.killed_at = self.joined_at = 0.0
        self.cut_short: list[str] = []
        """Architectures that ran on the victim when it was killed."""
        self.joined = ""
        self.notes: list[str] = []
        self.nodes: list[int] = []
        self.slots: list[int] = []
        self.retries = 0

    def __call__(self, event: object) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)
        if isinstance(event, Activity):
            self.nodes.append(event.nodes)
            self.slots.append(event.slots)
            self.retries = event.retries
            self.change()

    def change(self) -> None:
        lines = logged(self.log)
        if not self.killed_at and len(lines) > 20:
            there = [name for what, name, _, node in lines if what == "begun" and node == self.victim.node_id]
            ended = {name for what, name, *_ in lines if what == "ended"}
            self.cut_short = [name for name in there if name not in ended]
            if self.cut_short:
                lose(self.victim)
                self.killed_at = time.monotonic()
        elif self.killed_at and not self.joined and time.monotonic() - self.killed_at > 2 * SECONDS:
            self.joined = self.cluster.add_node(num_cpus=1, include_dashboard=False).node_id


def lose(node: Any) -> None:
    """Its raylet is killed, and all that runs there: the machine is gone."""
    (raylet,) = node.all_processes["raylet"]
    number = raylet.process.pid
    workers = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    for process in [number, *map(int, workers)]:
        os.kill(process, signal.SIGKILL)


def main(out: Path) -> None:
    log = out / "evaluations.log"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        _, victim = (cluster.add_node(num_cpus=1) for _ in range(2))
        begun = time.monotonic()
        weather = Weather(cluster, victim, log)
        search(out, RayExecutor(cluster.address), Sleepy(log, SECONDS), weather)
        seconds = time.monotonic() - begun
        seen = {
            "cut_short": weather.cut_short,
            "victim": victim.node_id,
            "joined": weather.joined,
            "seconds": seconds,
            "notes": weather.notes,
            "nodes": weather.nodes,
            "slots": weather.slots,
            "retries": weather.retries,
            "connected": ray.is_initialized(),
        }
        print(json.dumps(seen))
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
