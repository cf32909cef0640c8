"""Damaged files of every kind that evonas reads: each is refused in one line, or read, within bounded memory.

    python benchmarks/damaged_files.py                  # 2,000 damaged files
    python benchmarks/damaged_files.py --inputs 100
    python benchmarks/damaged_files.py --inputs 1000 --only weights

Whole files are damaged at random (the same with the same seed): bits flipped, bytes overwritten, cut off, doubled,
moved and inserted; words of text replaced by other values of JSON; members of zip files damaged inside, with checksums
that hold. The table counts what every loader did. Nothing may be run from a file: a look-up of a name by pickle, a
process and a connection are counted as well. The exit code is 1 where a loader raised anything but an error of evonas,
where that was not one line, where memory passed the bound, or where something was run.
"""

import dataclasses
import io
import json
import random
import re
import shutil
import sys
import tempfile
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

from evonas.adversarial_sets import load_adversarial_set
from evonas.adversarial_sets.work import BuildWork
from evonas.audit.records import AuditRecords
from evonas.data import load_data, load_image_folder
from evonas.data.image_files import FilePart
from evonas.errors import EvonasError
from evonas.evaluation import read_table
from evonas.files import write_json
from evonas.methods.imagenet_cells import read_cells
from evonas.methods.stored import open_run
from evonas.networks.blocks import seeded
from evonas.networks.darts import GENOTYPES
from evonas.report import read_audit, write_audit
from evonas.runs.folder import first_genomes
from evonas.search import Journal, read_journal
from evonas.ship import (
    LatencyTable,
    Provenance,
    WeightsCard,
    load_table,
    load_weights,
    save_table,
    weights_file,
)
from evonas.spaces import PhaseSpace
from evonas.training import load_checkpoint
from evonas.training.checkpoints import save_checkpoint

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "fixtures"
"""Run folders of version 0.1.0."""

BOUND = 64 * 2**20
"""Bytes that Python and NumPy may hold for a file of some kilobytes."""

IDENTITY = {"seed": 3, "data": "digits"}
VALUES = (b"null", b"true", b"[2.0]", b"{}", b'"x"', b"-1", b"1e999", b"NaN", b"9" * 400, b"[" * 2000)


@dataclass(frozen=True)
class Loader:
    """A kind of file: how a whole one is made in a folder, and how it is read there."""

    make: Callable[[Path], Path]
    """Returns the file that is damaged."""
    load: Callable[[Path], object]
    """Gets that file."""


def copied(*names: str) -> Callable[[Path], Path]:
    """The last of these files of version 0.1.0, the others beside it."""

    def make(folder: Path) -> Path:
        for name in names:
            shutil.copy(GOLDEN / name, folder)
        return folder / Path(names[-1]).name

    return make


def npz(save: Callable[..., None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        images, labels = np.random.default_rng(0).integers(256, size=(48, 8, 8), dtype=np.uint8), np.arange(48) % 2
        save(folder / "own.npz", x_train=images[:40], y_train=labels[:40], x_test=images[40:], y_test=labels[40:])
        return folder / "own.npz"

    return make


def checkpoint(folder: Path) -> Path:
    save_checkpoint(folder / "search.pt", IDENTITY, {"state": {"weights": torch.arange(200.0), "epoch": 1}, "rows": []})
    return folder / "search.pt"


def old_checkpoint(folder: Path) -> Path:
    state = {"weights": torch.arange(200.0), "epoch": 1}
    torch.save({"identity": json.dumps(IDENTITY), "search": state, "rows": []}, folder / "search.pt")
    return folder / "search.pt"


def genotype(folder: Path) -> Path:
    write_json(folder / "genotype.json", dataclasses.asdict(GENOTYPES["DARTS_V2"]))
    return folder / "genotype.json"


def image(name: str, kind: type) -> Callable[[Path], Path]:
    """A folder of images with this one in it, first."""

    def make(folder: Path) -> Path:
        pixels = np.random.default_rng(0).integers(256, size=(12, 12))
        for part in ("train", "val"):
            for label in ("bee", "cat"):
                (folder / part / label).mkdir(parents=True, exist_ok=True)
                for number in range(4):
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / part / label / f"{number}.png")
        (folder / "val" / "bee" / "0.png").unlink()
        Image.fromarray(pixels.astype(kind)).save(folder / "val" / "bee" / name)
        return folder / "val" / "bee" / name

    return make


def read_images(path: Path) -> object:
    files = load_image_folder(path.parents[2]).test
    return list(FilePart(files, torch.device("cpu"), size=8).ordered(8))


def open_journal(path: Path) -> object:
    with Journal(path, json.loads((path.parent / "config.json").read_text())["identity"], sync=False) as journal:
        return len(journal)


def open_records(path: Path) -> object:
    with AuditRecords.opened(path.parent) as records:
        return records.damaged


def weights(folder: Path) -> Path:
    """A small network's weights, with the card that builds it."""
    space, genome = PhaseSpace(phases=2, nodes=3, channels=2), np.array([1, 0, 1, 0, 0, 0, 0, 0])
    network = seeded(lambda: space.build(genome, 3), 0)
    origin = Provenance(weights="search", identity="0" * 16, seed=0, data="digits", fingerprint="0" * 32, epochs=1)
    card = WeightsCard.of(network, space, genome, 3, (3, 32, 32), None, origin)
    (folder / "net.safetensors").write_bytes(weights_file(network, card))
    return folder / "net.safetensors"


def open_work(path: Path) -> object:
    header = json.loads((GOLDEN / LEDGER).read_text().splitlines()[0])
    with BuildWork(path.parent, header["identity"]) as work:
        return [work.get(each.stem) for each in sorted(path.parent.glob("*.safetensors"))]


def audited(name: str) -> Callable[[Path], Path]:
    """One of the files of an audit, the other beside it."""

    def make(folder: Path) -> Path:
        row = {"arch_id": "a1", "weights": "search", "status": "ok", "clean_error": 0.125, "params": 9, "reason": ""}
        alarm = {"arch_id": "a1", "weights": "search", "kind": "noise", "line": "noise does better than PGD"}
        volumes = {"search": 0.5, "audit": 0.25, "lost": 0.25, "share_lost": 0.5}
        changed = {"tau": 0.5, "left_front": ["a1"], "hypervolume": volumes}
        write_audit(folder, [row], {"changed": changed, "alarms": [alarm], "images": 300})
        return folder / name

    return make


RUN = ("roco/finished/config.json", "roco/finished/journal.jsonl", "roco/finished/population.csv")
LEDGER = "set/build/tiny.parts/ledger.jsonl"
PARTS = sorted(f"set/build/tiny.parts/{path.name}" for path in (GOLDEN / LEDGER).parent.glob("*.safetensors"))


def latency_table(folder: Path) -> Path:
    layers = {f"aten.conv2d.default(1x{n}x8x8, {n}x{n}x3x3)": 0.01 * n for n in range(1, 40)}
    table = LatencyTable(
        subject={"space": {"name": "phase", "channels": 8}, "n_classes": 10, "image_size": 32},
        processor="a CPU",
        torch="2.15.0",
        layers=layers,
        scale=1.2,
        overhead=0.001,
        calibrated_on=30,
        tested_on=30,
        median_error=0.03,
        p95_error=0.1,
        slowest=4.5,
    )
    save_table(folder / "latency.json", table)
    return folder / "latency.json"


def table_of_cells(folder: Path) -> Path:
    cells = {f"{number:06d}": [0.9, 0.5, None] for number in (0, 3, 33, 333, 321, 123, 222222, 111111, 444444, 333333)}
    content = {
        "what": "accuracies on CIFAR-10",
        "edges": ["0-1", "0-2", "1-2", "0-3", "1-3", "2-3"],
        "operations": ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"],
        "columns": ["clean", "pgd_8", "autoattack_8"],
        "accuracies": cells,
    }
    write_json(folder / "cells.json", content)
    return folder / "cells.json"


def table_of_choices(folder: Path) -> Path:
    rows = {
        f"{at:03d}": {"test_acc": [80.5, 81.0], "mean_acc": 80.75, "params": 9, "flops": 99} for at in (0, 1, 12, 221)
    }
    write_json(folder / "choices.json", rows)
    return folder / "choices.json"


LOADERS: dict[str, Loader] = {
    "npz": Loader(npz(np.savez), lambda path: load_data(f"npz:{path}")),
    "npz, compressed": Loader(npz(np.savez_compressed), lambda path: load_data(f"npz:{path}")),
    "adversarial set": Loader(copied("set/finished/tiny.safetensors"), load_adversarial_set),
    "card of a set": Loader(
        copied("set/finished/tiny.safetensors", "set/finished/tiny.json"),
        lambda path: load_adversarial_set(path.with_suffix("")),
    ),
    "unfinished set, ledger": Loader(copied(*PARTS, LEDGER), open_work),
    "unfinished set, part": Loader(copied(LEDGER, *PARTS), open_work),
    "journal, read": Loader(copied(*RUN[:2]), read_journal),
    "journal, continued": Loader(copied(*RUN[:2]), open_journal),
    "config.json": Loader(copied(RUN[1], RUN[0]), lambda path: open_run(path.parent).front),
    "population.csv": Loader(copied(RUN[2]), lambda path: first_genomes(str(path))),
    "records of an audit": Loader(copied("roco/finished/retrained/rows.jsonl"), open_records),
    "latency table": Loader(latency_table, load_table),
    "weights": Loader(weights, load_weights),
    "audit.csv": Loader(audited("audit.csv"), lambda path: read_audit(path.parent)),
    "audit.json": Loader(audited("audit.json"), lambda path: read_audit(path.parent)),
    "table of cells": Loader(table_of_cells, read_table),
    "table of choices": Loader(table_of_choices, read_table),
    "genotype": Loader(genotype, lambda path: read_cells(str(path))),
    "checkpoint": Loader(checkpoint, lambda path: load_checkpoint(path, IDENTITY, "a search by gradient")),
    "checkpoint of 0.1.0": Loader(old_checkpoint, lambda path: load_checkpoint(path, IDENTITY, "a search by gradient")),
    "image, png": Loader(image("a.png", np.uint8), read_images),
    "image, jpg": Loader(image("a.jpg", np.uint8), read_images),
    "image, 16 bits": Loader(image("a.png", np.uint16), read_images),
    "image, tiff": Loader(image("a.tif", np.uint8), read_images),
}


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The file with one to three damages."""
    if data[:2] == b"PK" and rng.random() < 0.4:
        return damaged_inside(data, rng)
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randrange(len(data) + 1), rng.choice([1, 1, 8, 64])
        head, middle, tail = data[:at], data[at : at + length], data[at + length :]
        kind = rng.choice(["flip", "flip", "overwrite", "ones", "cut", "remove", "double", "insert", "move", "word"])
        if kind == "flip":
            data = head + bytes(byte ^ 1 << rng.randrange(8) for byte in middle) + tail
        elif kind == "overwrite":
            data = head + rng.randbytes(len(middle)) + tail
        elif kind == "ones":
            data = head + b"\xff" * len(middle) + tail
        elif kind == "cut":
            data = head
        elif kind == "remove":
            data = head + tail
        elif kind == "double":
            data = head + middle * 2 + tail
        elif kind == "insert":
            data = head + rng.randbytes(length) + middle + tail
        elif kind == "move":
            data = head + tail + middle
        else:
            words = list(re.finditer(rb'"[^"]*"|-?[0-9.]+|\[|\{|\n', data[:100_000]))
            if words:
                word = rng.choice(words)
                data = data[: word.start()] + rng.choice(VALUES) + data[word.end() :]
    return data


def damaged_inside(data: bytes, rng: random.Random) -> bytes:
    """A zip file with one member damaged and written again, so that its checksums hold."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(made, "w") as other:
        chosen = rng.choice(archive.namelist())
        for entry in archive.infolist():
            content = archive.read(entry)
            if entry.filename == chosen and content:
                at = rng.randrange(min(len(content), 128))  # where headers are
                content = content[:at] + rng.randbytes(rng.choice([1, 4])) + content[at + 1 :]
            other.writestr(entry, content)
    return made.getvalue()


@dataclass
class Count:
    """Everything that a loader did."""

    inputs: int = 0
    loaded: int = 0
    refused: int = 0
    peak: int = 0
    """Bytes."""
    wrong: list[str] = dataclasses.field(default_factory=list)
    """Tracebacks, several lines, too much memory, something run."""


_events: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("pickle.find_class", "os.system", "subprocess.Popen", "socket.connect", "os.exec"):
        _events.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_watch)


def try_once(loader: Loader, data: bytes, folder: Path, count: Count) -> None:
    path = loader.make(folder)
    path.write_bytes(data)
    _events.clear()
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loader.load(path)
        count.loaded += 1
    except EvonasError as error:
        count.refused += 1
        if not str(error).isprintable():
            count.wrong.append(f"several lines: {str(error)!r}")
    except Exception as error:
        count.wrong.append(f"{type(error).__name__}: {error!s:.200}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    count.inputs, count.peak = count.inputs + 1, max(count.peak, peak)
    if peak > BOUND:
        count.wrong.append(f"{peak / 2**20:.0f} MiB")
    count.wrong += _events


def measure(inputs: int, seed: int = 0) -> dict[str, Count]:
    """Outcome of every loader on its share of `inputs` damaged files; each reads its whole one before."""
    counts = {name: Count() for name in LOADERS}
    names = list(LOADERS)
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(-len(names), inputs):
            name, folder = names[number % len(names)], Path(temporary) / str(number)
            folder.mkdir()
            data = LOADERS[name].make(folder).read_bytes()
            if number < 0:
                LOADERS[name].load(LOADERS[name].make(folder))  # also imports, whose memory is not the file's
            else:
                try_once(LOADERS[name], damaged(data, random.Random(f"{seed} {number}")), folder, counts[name])
            shutil.rmtree(folder)
    return counts


def main(inputs: int = 2000, seed: int = 0, only: tuple[str, ...] = ()) -> int:
    """Print the table; the exit code is 1 where anything was wrong.

    Args:
        inputs: damaged files, in equal shares for all loaders.
        seed: of all damage.
        only: loaders that are tried; all by default.
    """
    for name in {*LOADERS} - {*only} if only else ():
        del LOADERS[name]
    started = time.perf_counter()
    counts = measure(inputs, seed)
    table = Table(title=f"{inputs} damaged files, {time.perf_counter() - started:.0f} s")
    for heading in ("file", "inputs", "read", "refused", "peak MiB", "wrong"):
        table.add_column(heading, justify="left" if heading == "file" else "right")
    for name, count in counts.items():
        numbers = (count.inputs, count.loaded, count.refused, f"{count.peak / 2**20:.1f}", len(count.wrong))
        table.add_row(name, *map(str, numbers))
    Console().print(table)
    wrong = [f"{name}: {line}" for name, count in counts.items() for line in count.wrong]
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
