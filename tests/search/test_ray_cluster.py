"""A search on a real Ray cluster of three nodes, one of which goes away in mid-generation while another one joins."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from searches import rows
from sleepy_search import CONFIG, Sleepy, logged, search

from evonas.executors import LocalExecutor
from evonas.search import read_journal

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("cluster_search.py")


@dataclass(frozen=True)
class Searched:
    """What a search on the cluster left, and what the script saw."""

    out: Path
    seen: dict[str, Any]

    def begun(self) -> list[list[str]]:
        """[architecture, process, node] of every evaluation that began."""
        return [rest for what, *rest in logged(self.out / "evaluations.log") if what == "begun"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    pytest.importorskip("ray")
    out = tmp_path_factory.mktemp("cluster")
    paths = os.pathsep.join([str(SCRIPT.parent), str(SCRIPT.parents[1])])
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(out)],
        env={**environment, "PYTHONPATH": paths},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = process.communicate(timeout=150)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said
    return Searched(out, json.loads(next(line for line in said.splitlines() if line.startswith('{"cut_short"'))))


def test_the_front_is_the_local_executors_in_every_field_but_timings(searched: Searched, tmp_path: Path) -> None:
    search(tmp_path, LocalExecutor(), Sleepy(tmp_path / "evaluations.log"))
    for name in ("front.csv", "population.csv"):
        assert rows(searched.out / name) == rows(tmp_path / name)


def test_each_architecture_has_one_line(searched: Searched) -> None:
    keys = [entry.key for entry in read_journal(searched.out / "journal.jsonl")[1]]
    assert len(keys) == len(set(keys)) == CONFIG.evaluations
    assert len((searched.out / "journal.jsonl").read_text().splitlines()) == 1 + CONFIG.evaluations


def test_what_ran_on_the_lost_node_ran_again_and_nothing_else_did(searched: Searched) -> None:
    cut_short, victim = searched.seen["cut_short"], searched.seen["victim"]
    assert len(cut_short) == 1, "the node has one CPU"
    begun = searched.begun()
    times = Counter(name for name, _, _ in begun)
    assert {name: n for name, n in times.items() if n > 1} == {cut_short[0]: 2}
    nodes = [node for name, _, node in begun if name == cut_short[0]]
    assert nodes[0] == victim
    assert nodes[1] != victim
    assert searched.seen["retries"] == 1
    assert searched.seen["notes"] == [f"{cut_short[0]}: its machine went away; it runs again"]


def test_the_node_that_joined_got_work_and_the_lost_one_no_more(searched: Searched) -> None:
    nodes = [node for _, _, node in searched.begun()]
    assert len(set(nodes)) == 4
    assert nodes.count(searched.seen["joined"]) >= 3
    assert searched.seen["nodes"][0] == searched.seen["slots"][0] == 3
    last = len(nodes) - nodes[::-1].index(searched.seen["victim"])
    assert last <= nodes.index(searched.seen["joined"])


def test_leaving_the_cluster_disconnects(searched: Searched) -> None:
    assert not searched.seen["connected"]
