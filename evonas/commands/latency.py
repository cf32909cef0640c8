"""Time the networks of a run on this CPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from evonas.commands.opened import Folder, opened, print_json, print_table
from evonas.errors import ConfigurationError
from evonas.files import check_writable
from evonas.ranges import Range, check_ranges

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evonas.runs.result import Result
    from evonas.search import Entry

__all__ = ["Latency"]


@dataclass(frozen=True)
class Latency:
    """Time networks of a run on this CPU, in rounds over all of them; weights do not matter, and none are trained."""

    example: ClassVar[str] = "evonas latency runs/roco-digits-quick-seed0 --runtime onnx"

    run: Folder
    """Folder of the run."""
    networks: Annotated[list[str], tyro.conf.Positional, tyro.conf.arg(metavar="ARCH")] = field(default_factory=list)
    """arch_ids of its networks, or best; the front by default."""
    runtime: Literal["torch", "onnx"] = "torch"
    """torch, or onnx for onnxruntime on the exported network."""
    threads: Annotated[int, Range(least=1, most=1024)] = 1
    """Threads of the runtime."""
    batch: Annotated[int, Range(least=1, most=2**16)] = 1
    """Images of a forward pass."""
    runs: Annotated[int, Range(least=1, most=10**6)] = 100
    """Timed forward passes of each network."""
    warm_up: Annotated[int, Range(least=1, most=10**6)] = 10
    """Forward passes of each network before, which are not counted."""
    csv: Path | None = None
    """CSV file for the table, in milliseconds."""
    json: bool = False
    """Print JSON in place of the table."""
    plugin: tuple[str, ...] = ()
    """Python files that the run was begun with."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def __call__(self) -> None:
        from evonas.report import write_rows
        from evonas.ship import require_extra

        if self.runtime == "onnx":
            require_extra("--runtime onnx", "onnx", "onnx", "onnxscript", "onnxruntime")
        if self.csv is not None:
            check_writable(self.csv)
        found = opened(self.run, self.plugin, quiet=self.json)
        names = self.networks or list(found.front["arch_id"])
        if not names:
            raise ConfigurationError(f"expected networks on the front of {self.run}, got none; see population.csv")
        entries = [*{entry.key: entry for entry in (found.entry(str(name)) for name in names)}.values()]
        warm, seconds, busy = self._timed(found, entries)
        rows = [_row(entry, each) for entry, each in zip(entries, seconds, strict=True)]
        about = self._about(warm, busy)
        if self.json:
            print_json({"damage": found.folder.damage, "networks": rows, **about})
        else:
            self._print(rows, about)
        if self.csv is not None:
            write_rows(self.csv, rows)

    def _timed(self, found: Result, entries: list[Entry]) -> tuple[float, npt.NDArray[np.float64], float | None]:
        """Seconds of the warm-up, (networks, runs) seconds, and the share of the time that other processes took."""
        import time

        from evonas.ship.latency import set_threads, time_alternately

        with set_threads(self.threads):
            calls = self._calls(found, entries)
            warm = float(time_alternately(calls, self.warm_up, done=_shown(self.warm_up, "warm-up")).sum())
            begun, worked = time.perf_counter(), time.process_time()
            seconds = time_alternately(calls, self.runs, done=_shown(self.runs, "round"))
            elapsed = time.perf_counter() - begun
            busy = 1 - (time.process_time() - worked) / elapsed if self.threads == 1 else None
        return warm, seconds, busy

    def _calls(self, found: Result, entries: list[Entry]) -> list[Callable[[], object]]:
        """A forward pass of every network."""
        import numpy as np
        import torch

        from evonas.runs.folder import stored_space
        from evonas.ship.latency import onnx_call, torch_call
        from evonas.ship.latency_measuring import network_of

        identity = found.folder.open_stored()["identity"]
        space = stored_space(identity["space"])
        if space is None:
            raise ConfigurationError(f"expected a space of evonas or a plugin in {self.run}, got {identity['space']}")
        size = getattr(space, "image_size", 32)
        images = torch.rand(self.batch, 3, size, size, generator=torch.Generator().manual_seed(0))
        calls = list[Callable[[], object]]()
        for entry in entries:
            network = network_of(space, np.array(entry.result.genome, dtype=np.int64), identity["data"]["n_classes"])
            if self.runtime == "torch":
                calls.append(torch_call(network, images))
            else:
                calls.append(onnx_call(network, images, self.threads))
        return calls

    def _about(self, warm: float, busy: float | None) -> dict[str, Any]:
        """Conditions of the measurement."""
        import os
        import platform

        from evonas._version import version_of
        from evonas.ship.latency import processor

        library = "torch" if self.runtime == "torch" else "onnxruntime"
        processors = len(os.sched_getaffinity(0))
        shared = f"{self.threads} threads on {processors} processors: they wait for one another"
        return {
            "device": "cpu",
            "processor": processor(),
            "processors": processors,
            "system": f"{platform.system()} {platform.machine()}",
            "runtime": f"{library} {version_of(library)}",
            "threads": self.threads,
            "batch": self.batch,
            "runs": self.runs,
            "warm_up": {"runs": self.warm_up, "seconds": round(warm, 3)},
            "share_of_other_processes": None if busy is None else round(max(busy, 0.0), 3),
            "notes": [shared] if self.threads > processors else [],
        }

    def _print(self, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
        from evonas.report import TextTable, shown

        predicted = ("latency_ms",) if any("latency_ms" in row for row in rows) else ()
        lines = tuple(
            (
                str(row["arch_id"]),
                *(f"{row[name]:.3f}" for name in ("median_ms", "p5_ms", "p95_ms", *predicted)),
                *(shown(name, row[name]) for name in ("params", "macs")),
            )
            for row in rows
        )
        share = about["share_of_other_processes"]
        notes = (
            f"{about['runtime']} on {about['device']}: {about['processor']}, {about['processors']} processors, "
            f"{about['system']}",
            f"{self.runs} rounds over {len(rows)} networks after a warm-up of {self.warm_up} runs each, "
            f"{about['warm_up']['seconds']:.1f} s",
            *about["notes"],
            *([f"this machine was busy: other work took {100 * share:.0f}% of the time"] if (share or 0) > 0.1 else []),
            *(
                ["latency_ms: as the search has looked it up in its table, for one image by one thread"]
                * len(predicted)
            ),
        )
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        title = f"milliseconds of a forward pass of {self.batch} image{'s' * (self.batch > 1)}, {threads}"
        header = ("arch_id", "median", "p5", "p95", *(name.replace("_", " ") for name in predicted), "params", "macs")
        print_table(TextTable(title, header, lines, notes), kept=1)


def _row(entry: Entry, seconds: npt.NDArray[np.float64]) -> dict[str, Any]:
    import numpy as np

    low, middle, high = (1000 * float(value) for value in np.percentile(seconds, [5, 50, 95]))
    values = entry.result.objectives
    predicted = {name: values[name] for name in ("latency_ms",) if name in values}
    costs = {name: values[name] for name in ("params", "macs")}
    return {"arch_id": entry.key, "median_ms": middle, "p5_ms": low, "p95_ms": high, **predicted, **costs}


def _shown(total: int, what: str) -> Callable[[int], object]:
    """A line on the terminal that is written over; nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda done: None
    return lambda done: print(f"\r{what} {done} of {total}", end="\n" if done == total else "", file=sys.stderr)
