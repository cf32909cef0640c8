"""One search by gradient in a run's folder: a checkpoint an epoch, continued where it was stopped."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from evonas.data import Augmentation, Dataset, DevicePart
from evonas.files import replace_file, storage_errors, take_lock
from evonas.gradient import ExpectedCost, GradientSearch, Method, SearchData, halves
from evonas.networks.darts import Genotype
from evonas.report import draw_genotype, plot_alpha, plot_search, write_search_csv
from evonas.runs.checkpoint import load_checkpoint, save_checkpoint
from evonas.runs.epoch_screen import EpochScreen
from evonas.runs.interrupt import interruptible

__all__ = ["WHAT", "CellSearch", "compact", "find_cells", "group_of", "name_of", "search_path", "set_up"]

PICTURES = (("genotype", "png"), ("alpha", "png"), ("search", "png"), ("genotype", "json"))

WHAT = "a search by gradient"
"""What a checkpoint is of, in messages."""


@dataclass(frozen=True, kw_only=True)
class CellSearch:
    """Everything that the cells follow from."""

    label: str
    """Of its files, where a run holds several searches; else empty."""
    repeat: int | None = None
    """Its number, where several searches differ in their seed alone."""
    method: Method
    data: Dataset
    others: Dataset | None
    seed: int
    device: str
    threads: int
    precision: str

    def identity(self) -> dict[str, Any]:
        """As plain values."""
        values = {
            "method": self.method.identity(),
            "data": self.data.fingerprint,
            "others": None if self.others is None else self.others.train.fingerprint,
            "seed": self.seed,
            "device": torch.device(self.device).type,
            "threads": self.threads,
            "precision": self.precision,
        }
        return dict(json.loads(json.dumps(values)))

    def path(self, folder: Path, name: str, ending: str) -> Path:
        label = self.full_label
        return folder / (f"{name}-{label}.{ending}" if label else f"{name}.{ending}")

    @property
    def full_label(self) -> str:
        """Of its files, with the number of its repeat."""
        return "-".join(filter(None, (self.label, "" if self.repeat is None else f"r{self.repeat}")))


def search_path(folder: Path, search: CellSearch) -> Path:
    return search.path(folder, "search", "pt")


def find_cells(folder: Path, plan: CellSearch, console: Console) -> tuple[Genotype, float]:
    """The cells, and the seconds of the search: found in the folder, or searched there, or continued.

    Beside the checkpoint: search.csv (one row an epoch), search.png, alpha.png, genotype.json and genotype.png.

    Raises:
        EvonasError: another process searches there, the disk is full, the checkpoint is another one's, it diverges.
        Interrupted: a signal came; the same command continues with the epoch that was begun.
    """
    identity, path = plan.identity(), search_path(folder, plan)
    with storage_errors(f"open {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "search.lock", "ab")  # noqa: SIM115
    with lock, interruptible() as interruption:
        take_lock(lock, path)
        for leftover in folder.glob(".search*.tmp"):
            leftover.unlink(missing_ok=True)
        torch.set_num_threads(plan.threads)
        search = set_up(plan)
        rows: list[dict[str, Any]] = []
        state = load_checkpoint(path, identity, WHAT)
        if state is not None:
            search.restore(state["search"])
            rows = state["rows"]
        if search.done:
            console.out(f"{name_of(plan)}: found at {path}", highlight=False)
            write_search_csv(plan.path(folder, "search", "csv"), rows)  # a kill may have come between the files
            if not all(plan.path(folder, *name).exists() for name in PICTURES):
                _pictures(folder, plan, search, rows)
        else:
            screen = EpochScreen(console, interruption, plan.method.epochs, search.epoch, _opening(plan, search))
            while not search.done:
                rows.append(_epoch(search, plan, screen))
                save_checkpoint(path, identity, {"search": search.state(), "rows": rows})
                write_search_csv(plan.path(folder, "search", "csv"), rows)
                interruption.check()  # only now: what was shown as done is kept
            _pictures(folder, plan, search, rows)
    return search.genotype, sum(row["seconds"] for row in rows)


def set_up(plan: CellSearch) -> GradientSearch:
    device = torch.device(plan.device)
    below, above = halves(DevicePart(plan.data.train, device), plan.method.config.portion)
    others = None if plan.others is None else DevicePart(plan.others.train, device)
    data = SearchData(
        below, above, others, Augmentation(flip=plan.data.flip), plan.data.n_classes, plan.data.normalization
    )
    return GradientSearch(plan.method, data, plan.seed, device, plan.precision)


def _epoch(search: GradientSearch, plan: CellSearch, screen: EpochScreen) -> dict[str, Any]:
    """Search for one epoch; its row in search.csv."""
    started, epoch = time.monotonic(), search.epoch
    stage, _ = plan.method.place(epoch)
    values = search.run_epoch(lambda done, total, note: screen.inside(epoch, done / total, note))
    probabilities = search.history[-1].double()
    normal, reduce = (_entropy(cell) for cell in probabilities)
    cost = _counted(plan.method, plan.data.image_size)
    row = {
        "epoch": epoch + 1,
        "stage": stage + 1,
        **values,
        "entropy_normal": normal,
        "entropy_reduce": reduce,
        "expected_params": float(cost.expected(probabilities)),
        "genotype": compact(search.genotype),
        "seconds": round(time.monotonic() - started, 3),
    }
    weights = ", ".join(f"{value:.2f}" for name, value in values.items() if name.startswith("weight_"))
    above = f", weights above {weights}" if weights else ", weights alone"
    screen.told(
        epoch,
        f"loss {values['train_loss']:.3f}{above}{_metric_words(values)}, entropy {normal:.3f} and {reduce:.3f}, "
        f"N-hat {row['expected_params']:.3f}M; {row['genotype']}",
    )
    return row


def _metric_words(values: Mapping[str, float]) -> str:
    """Of a metric of robustness, where the architecture was descended by one."""
    words = {
        "jacobian_norm": "Jacobian norm",
        "certified_bound": "certified bound",
        "certified_difference": "bounds apart",
        "epsilon": "epsilon now",
    }
    return "".join(f", {label} {values[name]:.4g}" for name, label in words.items() if name in values)


def _counted(method: Method, image_size: int) -> ExpectedCost:
    """N-hat as the method counts it; at the scale of DARTS's evaluation where it does not."""
    found = [loss for loss in method.upper if isinstance(loss, ExpectedCost) and loss.kind == "params"]
    return found[0] if found else method.counted or ExpectedCost(nodes=method.nodes, image_size=image_size)


def _entropy(probabilities: torch.Tensor) -> float:
    """Mean over edges, in nats; log 8 where all operations are alike."""
    return float(torch.special.entr(probabilities).sum(dim=-1).mean())


def compact(genotype: Genotype) -> str:
    """Cells in a line: `normal sep3(0) skip(1) | ... ; reduce ...`, two operations a node with what they read."""
    short = {
        "skip_connect": "skip",
        "sep_conv_3x3": "sep3",
        "sep_conv_5x5": "sep5",
        "dil_conv_3x3": "dil3",
        "dil_conv_5x5": "dil5",
        "max_pool_3x3": "max",
        "avg_pool_3x3": "avg",
    }
    cells = []
    for name, pairs in (("normal", genotype.normal), ("reduce", genotype.reduce)):
        words = [f"{short[operation]}({source})" for operation, source in pairs]
        cells.append(f"{name} " + " | ".join(" ".join(words[i : i + 2]) for i in range(0, len(words), 2)))
    return "; ".join(cells)


def _pictures(folder: Path, plan: CellSearch, search: GradientSearch, rows: list[dict[str, Any]]) -> None:
    genotype = search.genotype
    content = json.dumps(as_json(genotype), indent=2) + "\n"
    replace_file(plan.path(folder, "genotype", "json"), lambda file: file.write(content.encode()))
    draw_genotype(plan.path(folder, "genotype", "png"), genotype, f"{name_of(plan)} on {plan.data.name}")
    plot_alpha(plan.path(folder, "alpha", "png"), [step.numpy() for step in search.history])
    plot_search(plan.path(folder, "search", "png"), rows)


def as_json(genotype: Genotype) -> Mapping[str, Any]:
    """The genotype as the papers' code writes it."""
    return {
        "normal": [list(pair) for pair in genotype.normal],
        "normal_concat": list(genotype.normal_concat),
        "reduce": [list(pair) for pair in genotype.reduce],
        "reduce_concat": list(genotype.reduce_concat),
    }


def name_of(plan: CellSearch) -> str:
    """What tables call it: the method, then what tells its searches apart."""
    return f"{plan.method.name} {plan.full_label.removeprefix(plan.method.name).strip('-')}".strip()


def group_of(plan: CellSearch) -> str:
    """What it is called in common with those that differ in their seed alone."""
    return name_of(replace(plan, repeat=None))


def _opening(plan: CellSearch, search: GradientSearch) -> str:
    weights = sum(weight.numel() for weight in search.levels.weights)
    steps = math.ceil(len(search.data.below) / plan.method.config.search_batch_size)
    order = {1: "first", 2: "second"}[plan.method.config.order]
    return (
        f"{name_of(plan)}: supernet of {weights:,} weights, {plan.method.epochs} epochs of {steps} steps, {order} "
        f"order, {len(search.data.below)} images below and {len(search.data.above)} above, {plan.precision}"
    )
