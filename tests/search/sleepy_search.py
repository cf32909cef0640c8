"""A search whose evaluations sleep and write down when and where they ran; run as a script by tests that kill it."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conftest import TinySpace, objectives_of

from evonas.executors import Executor, LocalExecutor, ProcessExecutor, RayExecutor
from evonas.report import Searched, history, population_table, write_tables
from evonas.search import EvolutionConfig, Journal, evolve
from evonas.types import Activity, EvaluationResult, Genome, Note, Progress, arch_id

OBJECTIVES = ("clean_error", "macs")
CONFIG = EvolutionConfig(population=10, generations=4, objectives=OBJECTIVES, seed=1)
SPACE = TinySpace(genes=5)
SEARCHED = Searched("tiny", "none", OBJECTIVES, columns=("certified_radius",), reference=(1.0, 1000.0))
MAKERS: dict[str, Callable[[], Executor]] = {
    "local": LocalExecutor,
    "process": lambda: ProcessExecutor(workers=2),
    "ray": lambda: RayExecutor(cpus=max(1, (os.cpu_count() or 2) // 2)),
}


@dataclass(frozen=True)
class Sleepy:
    """Looks objectives up and takes its time; `log` gets a line at its beginning and one at its end.

    Args:
        raises: so does every network with this many MACs.
    """

    log: Path
    seconds: float = 0.0
    raises: int = -1

    def __call__(self, genome: Genome, seed: int) -> EvaluationResult:
        self.write("begun", genome)
        time.sleep(self.seconds)
        found = objectives_of(genome)
        self.write("ended", genome)
        if found["macs"] == self.raises:
            raise RuntimeError("a broken layer")
        return EvaluationResult(tuple(genome.tolist()), found, seed=seed, seconds=self.seconds)

    def write(self, what: str, genome: Genome) -> None:
        """One whole line: (what, architecture, process, Ray's node)."""
        line = f"{what} {arch_id(genome)} {os.getpid()} {_node()}\n"
        file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)


def logged(log: Path) -> list[list[str]]:
    """The lines of an evaluation log."""
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def search(
    out: Path, executor: Executor, evaluate: Sleepy, report: Callable[[object], None] = lambda event: None
) -> None:
    """Search, or go on, in a folder; leaves journal.jsonl and the tables."""
    with Journal(out / "journal.jsonl") as journal:
        for _ in evolve(SPACE, evaluate, CONFIG, executor, journal, report=report):
            pass
        write_tables(out, population_table(journal, SEARCHED), history(journal, SEARCHED))


def _node() -> str:
    if "ray" not in sys.modules:
        return "-"
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else "-"


def show(event: Progress | Activity | Note | object) -> None:
    if isinstance(event, Note):
        print(event.text, flush=True)


if __name__ == "__main__":
    folder, name, seconds, raises = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    search(folder, MAKERS[name](), Sleepy(folder / "evaluations.log", seconds, raises), show)
