"""The driver of a search on Ray is killed 20 times at random moments; the same command goes on, nothing runs twice.

    python benchmarks/driver_kills.py                       # on a Ray cluster that outlives its drivers
    python benchmarks/driver_kills.py --executor process    # worker processes of the driver
    python benchmarks/driver_kills.py --kills 3 --generations 3

One search is run undisturbed. The same search then loses its driver (SIGKILL) at a random moment, is continued by
another driver, which loses its life, too, and so on; the last driver ends by itself. Evaluations sleep for up to half a
second, one in eight fails, and each says in a file of its own (O_APPEND) when it begins and when it has ended. Compared
are the journals as sets, and front.csv, in every field but timings. A replay is an evaluation that begins although its
line was in the journal at an earlier kill: there must be none. Lost are those that had begun without having a line.
Evaluations of a dead driver must stop: none may begin later than two seconds after its end, and no process of it may be
left in the end. The exit code is 1 where any of this fails.
"""

import multiprocessing
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Literal

import tyro
from executors_tasks import OBJECTIVES, Letters, Logged, happened
from rich.console import Console
from rich.table import Table

from evonas.errors import ConfigurationError, EvonasError, StorageError
from evonas.executors import Executor, ProcessExecutor, RayExecutor
from evonas.search import Entry, EvolutionConfig, Journal, evolve, read_journal

GRACE = 2.0
"""Seconds after the end of its driver in which an evaluation may still begin."""


@dataclass(frozen=True, kw_only=True)
class Args:
    """Kill the driver of one search again and again, continue it, compare it with an undisturbed one."""

    executor: Literal["ray", "process"] = "ray"
    kills: int = 20
    workers: int = 4
    population: int = 16
    generations: int = 14
    longest: float = 0.5
    """Seconds of the longest evaluation."""
    seed: int = 0
    """Of the moments, and of the search."""

    def __post_init__(self) -> None:
        if self.kills < 1 or self.workers < 1 or self.longest < 0:
            raise ConfigurationError(
                f"expected kills and workers >= 1 and longest >= 0, got {self.kills}, {self.workers} and {self.longest}"
            )


def drive(folder: Path, life: int, args: Args, address: str) -> None:
    """One driver's life: run or continue the search in `folder`."""
    executor: Executor = RayExecutor(address) if args.executor == "ray" else ProcessExecutor(args.workers)
    config = EvolutionConfig(
        population=args.population, generations=args.generations, objectives=OBJECTIVES, seed=args.seed
    )
    evaluate = Logged(folder / "evaluations.log", life, args.longest)
    with Journal(folder / "journal.jsonl") as journal:
        for _ in evolve(Letters(), evaluate, config, executor, journal):
            pass


def start_driver(context: ForkServerContext, args: Args, address: str, folder: Path, life: int) -> ForkServerProcess:
    process = context.Process(target=drive, args=(folder, life, args, address))
    process.start()
    return process


@dataclass
class Killed:
    """What the killed search left at each kill."""

    moments: list[float] = field(default_factory=list)
    recorded: list[set[str]] = field(default_factory=list)
    """Keys in the journal."""
    ended_with: int | None = None
    """Exit code of the last driver."""


Start = Callable[[Path, int], ForkServerProcess]
"""Starts a driver in a folder; its number."""


def undisturbed(start: Start, folder: Path) -> tuple[float, float]:
    """Run to the end; seconds until the first evaluation began, and until the end."""
    begun = time.monotonic()
    process = start(folder, 0)
    process.join()
    ended = time.monotonic()
    if process.exitcode != 0:
        raise EvonasError(f"expected the undisturbed search to end with 0, got {process.exitcode}; see above")
    return happened(folder / "evaluations.log")[0].moment - begun, ended - begun


def kill(start: Start, folder: Path, args: Args, opened: float, ended: float) -> Killed:
    """Kill and continue one search: every other driver while it starts, the others while they evaluate."""
    rng, killed = random.Random(args.seed), Killed()
    share = (ended - opened) / args.kills
    for life in range(args.kills):
        started = time.monotonic()
        process = start(folder, life)
        if life % 2 and evaluates(process, folder, life):
            opened = min(opened, time.monotonic() - started)  # the first start takes longer
            process.join(rng.uniform(0, 3 * share))  # so that two lives advance the search by less than their shares
        else:
            process.join(rng.uniform(0, opened))
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            killed.ended_with = process.exitcode
            return killed
        killed.moments.append(time.monotonic())
        killed.recorded.append({entry.key for entry in entries(folder)})
    process = start(folder, args.kills)
    process.join()
    killed.ended_with = process.exitcode
    return killed


def evaluates(process: ForkServerProcess, folder: Path, life: int) -> bool:
    """Wait until an evaluation of this driver has begun; False where it ends before."""
    while process.is_alive():
        file = folder / "evaluations.log"
        if file.exists() and any(line.startswith(f"{life} begin ") for line in file.read_text().splitlines()):
            return True
        time.sleep(0.01)
    return False


def entries(folder: Path) -> list[Entry]:
    """Of the journal's whole lines; none where it is not there yet."""
    try:
        return read_journal(folder / "journal.jsonl")[1]
    except StorageError:
        return []


def results(folder: Path) -> set[tuple[object, ...]]:
    """Everything in the journal but timings."""
    return {
        (
            each.key,
            each.generation,
            each.proposal,
            each.result.genome,
            tuple(each.result.objectives.items()),
            each.result.status,
            each.result.reason,
            each.result.seed,
        )
        for each in entries(folder)
    }


def front_csv(folder: Path) -> str:
    """front.csv without its timings."""
    from evonas.report import Searched, front, population_table  # here: the drivers and workers need no pandas

    searched = Searched("killed", "none", OBJECTIVES)
    return str(front(population_table(entries(folder), searched)).drop(columns="train_seconds").to_csv(index=False))


@contextmanager
def cluster(args: Args) -> Iterator[str]:
    """Address of a Ray cluster that this process holds; empty where none is needed."""
    if args.executor != "ray":
        yield ""
        return
    from ray.cluster_utils import Cluster

    held = Cluster(initialize_head=True, head_node_args={"num_cpus": args.workers, "include_dashboard": False})
    try:
        yield held.address
    finally:
        held.shutdown()


def compare(killed: Killed, disturbed: Path, expected: Path, args: Args, console: Console) -> bool:
    """Print what was hit, and whether all is as it should be."""
    log = happened(disturbed / "evaluations.log")
    begun = [each for each in log if each.what == "begin"]
    before: list[set[str]] = [set(), *killed.recorded]  # when a life began
    replays = [each for each in begun if each.key in before[each.life]]
    dead = [each for each in log if each.life < len(killed.moments)]
    lost = [each for each in dead if each.what == "begin" and each.key not in killed.recorded[each.life]]
    unrecorded = [each for each in dead if each.what == "end" and each.key not in killed.recorded[each.life]]
    late = [each.moment - killed.moments[each.life] for each in dead if each.what == "begin"]
    latest = max([0.0, *late])
    left = {each.process for each in dead if Path(f"/proc/{each.process}").exists()}
    shown = Table(title=f"one search on {args.executor}, {args.workers} workers, whose driver was killed")
    row = {
        "kills": len(killed.moments),
        "before any line": sum(not keys for keys in killed.recorded),
        "evaluations": len(entries(disturbed)),
        "begun": len(begun),
        "lost": len(lost),
        "of them ended": len(unrecorded),
        "begun after a kill": sum(seconds > 0 for seconds in late),
        "replays": len(replays),
    }
    for heading in row:
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_row(*map(str, row.values()))
    console.print(shown)
    console.print(f"lines in the journal at the kills: {[len(keys) for keys in killed.recorded]}", highlight=False)
    journals = [results(folder) for folder in (disturbed, expected)]
    hit = len(killed.moments) == args.kills and killed.ended_with == 0
    differing = f"{len(journals[0] ^ journals[1])} lines of the journal differ"
    claims = {
        f"{len(killed.moments)} of {args.kills} kills hit, and the last driver ended with {killed.ended_with}": hit,
        f"{differing} from the undisturbed one's {len(journals[1])}": journals[0] == journals[1],
        "front.csv equals the undisturbed one, timings aside": front_csv(disturbed) == front_csv(expected),
        f"{len(replays)} evaluations ran again though they were recorded": not replays,
        f"an evaluation of a dead driver began {latest:.2f} s after its end at the latest (< {GRACE:g})": latest
        < GRACE,
        f"{len(left)} processes of dead drivers are left": not left,
    }
    for text, holds in claims.items():
        console.print(f"{'holds' if holds else 'FAILS'}: {text}", highlight=False)
    return all(claims.values())


def main() -> int:
    from evonas.runs import guarded  # here, too: it imports torch

    held = []

    def run() -> None:
        args, console = tyro.cli(Args, description=__doc__), Console(width=120)
        context: ForkServerContext = multiprocessing.get_context("forkserver")  # imports once
        context.set_forkserver_preload(["evonas.search", "executors_tasks", *(["ray"] * (args.executor == "ray"))])
        with tempfile.TemporaryDirectory() as name, cluster(args) as address:
            expected, disturbed = Path(name) / "undisturbed", Path(name) / "killed"
            for folder in (expected, disturbed):
                folder.mkdir()
            start = partial(start_driver, context, args, address)
            opened, ended = undisturbed(start, expected)
            console.print(
                f"undisturbed: an evaluation begins after {opened:.2f} s, all have ended after {ended:.2f} s",
                highlight=False,
            )
            killed = kill(start, disturbed, args, opened, ended)
            held.append(compare(killed, disturbed, expected, args, console))

    return guarded(run) or int(not all(held))


if __name__ == "__main__":
    sys.exit(main())
