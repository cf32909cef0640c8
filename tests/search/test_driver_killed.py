"""The process that searches is killed and interrupted; the same command goes on, and nothing is left over.

Processes of a search are known by a mark in their environment, which what they start inherits: others' are not looked
at. Shared memory is known by what those processes have open or mapped.
"""

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from searches import rows
from sleepy_search import CONFIG, Sleepy, logged, search

from evonas.executors import LocalExecutor
from evonas.search import read_journal

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("sleepy_search.py")
SECONDS = 0.15
RAISES = 78
"""MACs of the one network whose evaluation raises."""
MARK = "EVONAS_TEST_SEARCH"
GRACE = 20.0
"""Seconds in which everything must have ended."""
KILLS = {"process": 1, "ray": 2}
AGENTS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
"""Two processes of Ray itself: where Ray is killed, they try to report that for one minute, and end then."""


@dataclass
class Driver:
    """A search in a process of its own, and all processes that it started."""

    out: Path
    executor: str
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    shared: set[str] = field(default_factory=set)
    """Shared memory that its processes had."""
    known: dict[int, int] = field(default_factory=dict)
    """Process -> when it began: the number alone may be given to another one."""

    def start(self) -> "subprocess.Popen[str]":
        paths = os.pathsep.join([str(SCRIPT.parent), str(SCRIPT.parents[1])])
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), str(self.out), self.executor, str(SECONDS), str(RAISES)],
            env={**environment, "PYTHONPATH": paths, MARK: self.mark},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def processes(self) -> dict[int, str]:
        """Those that are alive: process -> command line. Found by the mark, or by their parent: a process that gives
        itself a name may write over its environment."""
        alive, parents = _alive(), {}
        for process, (parent, begun, marked) in alive.items():
            parents[process] = parent
            if marked.get(MARK) == self.mark:
                self.known[process] = begun
        for process in sorted(alive):
            if self.known.keys() & _line_of(process, parents):
                self.known[process] = alive[process][1]
        self.known = {k: begun for k, begun in self.known.items() if k in alive and alive[k][1] == begun}
        found = {}
        for process in self.known:
            with contextlib.suppress(OSError):  # it has just ended
                folder = Path("/proc", str(process))
                found[process] = (folder / "cmdline").read_text().replace("\0", " ").strip()
                self.shared |= _shared_memory(folder)
        return found

    def left_over(self) -> list[str]:
        """Command lines of what is still there after the grace, and names of shared memory."""
        deadline = time.monotonic() + GRACE
        while (left := set(self.processes().values()) - AGENTS) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [*left, *(name for name in self.shared if os.path.exists(name))]

    def lines(self) -> int:
        journal = self.out / "journal.jsonl"
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    def kill_all(self) -> None:
        for process in self.processes():
            os.kill(process, signal.SIGKILL)


def _alive() -> dict[int, tuple[int, int, dict[str, str]]]:
    """Processes that I may look at: parent, beginning, environment."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it has just ended, or is somebody else's
                status = (folder / "stat").read_text().rpartition(")")[2].split()
                pairs = [pair.partition("=") for pair in (folder / "environ").read_text(errors="replace").split("\0")]
                if status[0] not in "ZX":
                    environment = {name: value for name, _, value in pairs}
                    found[int(folder.name)] = (int(status[1]), int(status[19]), environment)
    return found


def _line_of(process: int, parents: dict[int, int]) -> set[int]:
    """Its parents, theirs, and so on."""
    line: set[int] = set()
    while (process := parents.get(process, 0)) and process not in line:
        line.add(process)
    return line


def _shared_memory(folder: Path) -> set[str]:
    maps = (folder / "maps").read_text().splitlines()
    mapped = {line.split(maxsplit=5)[5] for line in maps if "/dev/shm/" in line}
    opened = {os.readlink(end) for end in (folder / "fd").iterdir()}
    return {name for name in mapped | opened if name.startswith("/dev/shm/") and not name.endswith("(deleted)")}


@dataclass(frozen=True)
class Stop:
    """What a search left when it stopped."""

    how: str
    code: int
    recorded: list[str]
    """Architectures in the journal, in order."""
    begun: int
    """Lines of the evaluation log."""
    processes: int
    """That it had at the moment before."""
    left_over: list[str]
    said: str


@dataclass(frozen=True)
class Told:
    out: Path
    stops: list[Stop]

    @property
    def evaluated(self) -> list[list[str]]:
        """Architectures whose evaluation began, before each stop."""
        lines, at = logged(self.out / "evaluations.log"), [0, *(stop.begun for stop in self.stops)]
        parts = [lines[a:b] for a, b in itertools.pairwise(at)]
        return [[name for what, name, *_ in part if what == "begun"] for part in parts]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    search(out, LocalExecutor(), Sleepy(out / "evaluations.log", raises=RAISES))
    return out


@pytest.fixture(scope="module", params=["process", "ray"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """A search that was killed, interrupted by Ctrl-C, and came to its end."""
    if request.param == "ray":
        pytest.importorskip("ray")
    driver = Driver(tmp_path_factory.mktemp(request.param), request.param)
    chance, stops, wanted = random.Random(request.param), [], 1
    try:
        for how in (*["SIGKILL"] * KILLS[request.param], "SIGINT", "the end"):
            process = driver.start()
            if how != "the end":
                wanted += chance.randint(3, 10)
                _wait_for(driver, wanted, process)
                time.sleep(chance.uniform(0, SECONDS))
            before = len(driver.processes())
            if how == "SIGKILL":
                process.kill()
            elif how == "SIGINT":  # as a terminal does: the whole group
                os.killpg(process.pid, signal.SIGINT)
            said, _ = process.communicate(timeout=90)
            left = driver.left_over()
            recorded = _recorded(driver.out)
            begun = len(logged(driver.out / "evaluations.log"))
            stops.append(Stop(how, process.returncode, recorded, begun, before, left, said))
            wanted = 1 + len(recorded)
        yield Told(driver.out, stops)
    finally:
        driver.kill_all()


def _wait_for(driver: Driver, wanted: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while driver.lines() < wanted and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert driver.lines() >= wanted, process.communicate()[0] if process.poll() is not None else "it took too long"


def _recorded(out: Path) -> list[str]:
    return [entry.key for entry in read_journal(out / "journal.jsonl")[1]]


def test_it_was_stopped_as_planned(told: Told) -> None:
    *killed, interrupted, ended = told.stops
    assert {stop.code for stop in killed} == {-signal.SIGKILL}
    assert interrupted.code == -signal.SIGINT, interrupted.said
    assert "KeyboardInterrupt" in interrupted.said
    assert ended.code == 0, ended.said
    counts = [len(stop.recorded) for stop in told.stops]
    assert counts[0] > 0
    assert counts == sorted(set(counts))
    assert counts[-1] == CONFIG.evaluations
    assert all(stop.processes > 2 for stop in [*killed, interrupted]), "it had workers"


def test_the_front_is_that_of_an_undisturbed_search(told: Told, undisturbed: Path) -> None:
    for name in ("front.csv", "population.csv"):
        assert rows(told.out / name) == rows(undisturbed / name)
    failed = [row for row in rows(told.out / "population.csv") if row["status"] == "failed"]
    assert len(failed) == 1, "one evaluation raises, and its worker goes on"


def test_no_recorded_evaluation_ran_twice(told: Told) -> None:
    for stop, after in zip(told.stops, told.evaluated[1:], strict=False):
        assert not set(stop.recorded) & set(after)
    final = told.stops[-1].recorded
    assert len(final) == len(set(final))
    assert all(final[: len(stop.recorded)] == stop.recorded for stop in told.stops)


def test_a_stop_costs_no_more_than_what_ran(told: Told) -> None:
    """Two slots and one in line; where a line was not yet written, that evaluation runs again."""
    evaluations = sum(map(len, told.evaluated))
    assert CONFIG.evaluations <= evaluations <= CONFIG.evaluations + 3 * (len(told.stops) - 1)


def test_no_process_and_no_shared_memory_is_left(told: Told) -> None:
    assert [(stop.how, stop.left_over) for stop in told.stops] == [(stop.how, []) for stop in told.stops]


def test_journal_lines_are_whole(told: Told) -> None:
    assert [json.loads(line)["line"] for line in (told.out / "journal.jsonl").read_text().splitlines()[1:]] == list(
        range(1, CONFIG.evaluations + 1)
    )
