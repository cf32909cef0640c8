"""Cells that a search has found on ImageNet: trained with a checkpoint an epoch, then scored on val/ once."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from rich.console import Console
from torch import Tensor

from evonas.costs import count_params
from evonas.data import Augmentation, FilePart, ImageFolderSet, data_root, load_image_folder
from evonas.data.image_files import FileImages
from evonas.files import read_json, replace_file, storage_errors, take_lock, write_json
from evonas.networks.blocks import seeded
from evonas.networks.darts import DartsNetwork, Genotype
from evonas.report import shown
from evonas.runs.beginning import settings_as_json
from evonas.runs.checkpoint import load_checkpoint, save_checkpoint, stored_identity, write_rows
from evonas.runs.epoch_screen import EpochScreen
from evonas.runs.execution import resolve_device, resolve_threads
from evonas.runs.folder import versions
from evonas.runs.imagenet_scores import SIZE, attacked_files, results
from evonas.runs.imagenet_settings import ImagenetSettings, cells_label, read_cells
from evonas.runs.interrupt import Interruption, interruptible
from evonas.search import refuse_another_run
from evonas.seeding import derive_seed
from evonas.training import resolve_precision, train

__all__ = ["ImagenetPlan", "prepare_imagenet", "run_imagenet"]

METHOD, WHAT = "imagenet-cells", "a training of cells"
COLUMNS = ("epoch", "loss", "seconds")
"""Of training.csv."""
HEAD = "auxiliary."
"""What the names of the auxiliary head's tensors begin with."""


@dataclass(frozen=True, kw_only=True)
class ImagenetPlan:
    """Settings with everything resolved."""

    settings: ImagenetSettings
    """Their training has a resolved precision."""
    folder: Path
    genotype: Genotype
    data: ImageFolderSet
    """Nothing of its train part is held out."""
    device: str
    threads: int
    workers: int
    notes: tuple[str, ...]

    @property
    def path(self) -> Path:
        return self.folder / "training.pt"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the weights follow from, as plain values."""
        network, data = self.settings.network, self.data
        values = {
            "method": METHOD,
            "genotype": asdict(self.genotype),
            "channels": network.channels,
            "layers": network.layers,
            "image_size": SIZE,
            "data": {
                "name": data.name,
                "fingerprint": data.fingerprint,
                "n_classes": data.n_classes,
                "train": len(data.train),
                "test": len(data.test),
            },
            "training": network.training.identity(),
            "recipe": {"name": network.recipe.name, **asdict(network.recipe)},
            "seed": self.settings.seed,
            "device": torch.device(self.device).type,
            "threads": self.threads,
        }
        return dict(json.loads(json.dumps(values)))

    def network(self, auxiliary: bool) -> DartsNetwork:
        """With initial weights; published counts are of the network without its auxiliary head."""
        plan, data = self.settings.network, self.data
        drawn = seeded(
            lambda: DartsNetwork(
                self.genotype,
                plan.channels,
                plan.layers,
                data.n_classes,
                auxiliary,
                normalization=data.normalization,
                stem="imagenet",
            ),
            derive_seed(self.settings.seed, "imagenet weights"),
        )
        return cast(DartsNetwork, drawn)

    def part(self, files: FileImages) -> FilePart:
        return FilePart(files, torch.device(self.device), self.workers, SIZE)


def run_imagenet(settings: ImagenetSettings, console: Console | None = None) -> None:
    """Train the cells, or go on where that was stopped, keep their weights, and score them.

    In the folder: config.json, training.pt (replaced after every epoch), training.csv, weights.safetensors and
    results.csv.

    Raises:
        EvonasError: no such cells or images, another run in the folder, a full disk, training diverges.
        Interrupted: a signal came; the same command goes on with the epoch that was begun.
    """
    console = console or Console()
    plan = prepare_imagenet(settings)
    for note in plan.notes:
        console.out(note, highlight=False)
    with storage_errors(f"open {plan.folder}"):
        plan.folder.mkdir(parents=True, exist_ok=True)
        lock = open(plan.folder / "training.lock", "ab")  # noqa: SIM115
    with lock, interruptible() as interruption:
        take_lock(lock, plan.path)
        for name in ("config", "training", "weights", "results"):
            for leftover in plan.folder.glob(f".{name}.*.tmp"):
                leftover.unlink(missing_ok=True)
        torch.set_num_threads(plan.threads)
        state = load_checkpoint(plan.path, plan.identity, WHAT) or {"training": None, "rows": [], "scores": {}}
        _write_config(plan)
        state = _trained(plan, state, console, interruption)
        tensors = {name: value for name, value in state["training"]["network"].items() if not name.startswith(HEAD)}
        network = plan.network(auxiliary=False)
        network.load_state_dict(tensors)
        _write_weights(plan, tensors)
        network.to(plan.device).to(memory_format=torch.channels_last).eval()
        _score(plan, network, state, console, interruption)


def prepare_imagenet(settings: ImagenetSettings) -> ImagenetPlan:
    """What settings describe, every `auto` resolved: as the folder's run was begun, where there is one."""
    genotype = read_cells(settings.cells)
    label = f"imagenet-{cells_label(settings.cells)}-{settings.preset}-seed{settings.seed}"
    folder = settings.out or Path("runs") / label
    if (folder / "config.json").exists():
        stored = read_json(folder / "config.json").get("identity", {})
        refuse_another_run(folder, {"method": stored.get("method")}, {"method": METHOD})
    begun = stored_identity(folder / "training.pt", WHAT)
    data = load_image_folder(data_root(settings.data_root) / "imagenet", settings.seed, validation_per_class=0)
    attacked_files(data, settings)  # what it refuses is refused before days of training
    device = resolve_device(begun.get("device", "auto") if settings.device == "auto" else settings.device)
    cuda = torch.device(device).type == "cuda"
    threads = settings.threads or begun.get("threads") or resolve_threads(None)
    workers = settings.workers
    if workers is None:
        workers = min(resolve_threads(None), 16) if cuda else 0
    training = settings.network.training
    if begun and training.precision == "auto":
        precision = begun["training"]["precision"]
        note = f"precision: {precision}, as this run was started with"
    else:
        precision, note = resolve_precision(training.precision, torch.device(device), depthwise=True)
    training = replace(training, precision=precision)
    return ImagenetPlan(
        settings=replace(settings, network=replace(settings.network, training=training)),
        folder=folder,
        genotype=genotype,
        data=data,
        device=device,
        threads=threads,
        workers=workers,
        notes=(f"device: {device}, threads: {threads}, processes that decode images: {workers}", note),
    )


def _write_config(plan: ImagenetPlan) -> None:
    """A run that is continued keeps the versions that it began with."""
    path, now = plan.folder / "config.json", versions()
    begun = read_json(path).get("versions", now) if path.exists() and plan.path.exists() else now
    content = {"settings": settings_as_json(plan.settings), "identity": plan.identity, "notes": plan.notes}
    write_json(path, {**content, "versions": begun, **({"continued_with": now} if begun != now else {})})


def _trained(plan: ImagenetPlan, state: dict[str, Any], console: Console, interruption: Interruption) -> dict[str, Any]:
    """The checkpoint after the last epoch."""
    preset = plan.settings.network
    rows, begun = state["rows"], state["training"]
    done = 0 if begun is None else begun["epoch"]
    if done:  # it may be lost, or a kill came between the two files
        write_rows(plan.folder / "training.csv", COLUMNS, rows)
    if done == preset.training.epochs:
        console.out(f"{plan.settings.cells}: trained at {plan.path}", highlight=False)
        return state
    network = plan.network(auxiliary=preset.recipe.auxiliary_weight > 0).to(plan.device)
    screen = EpochScreen(console, interruption, preset.training.epochs, done, _opening(plan))
    started = time.monotonic()

    def on_step(steps: int, total: int, note: str) -> None:
        epochs = (steps - 1) * preset.training.epochs / total  # of these, the one that goes on
        screen.inside(int(epochs), epochs % 1, note.split(", ", 1)[1])

    def on_epoch(reached: dict[str, Any]) -> None:
        nonlocal started, state
        rows.append([reached["epoch"], reached["loss"], round(time.monotonic() - started, 3)])
        started = time.monotonic()
        state = {"training": reached, "rows": rows, "scores": {}}
        save_checkpoint(plan.path, plan.identity, state)
        write_rows(plan.folder / "training.csv", COLUMNS, rows)
        screen.told(reached["epoch"] - 1, f"loss {reached['loss']:.3f}")
        interruption.check()  # only now: what was shown as done is kept

    drawn = torch.Generator(plan.device).manual_seed(derive_seed(plan.settings.seed, "imagenet training"))
    augmentation = Augmentation(padding=0)  # crops, mirror images and colours come with reading
    part = plan.part(plan.data.train)
    train(network, part, augmentation, preset.training, preset.recipe, drawn, on_step, on_epoch, begun)
    return state


def _opening(plan: ImagenetPlan) -> str:
    params, preset = count_params(plan.network(auxiliary=False)), plan.settings.network
    return (
        f"{plan.settings.cells}: {preset.layers} cells of {preset.channels} channels, {shown('params', params)} "
        f"parameters, {preset.training.epochs} epochs of {len(plan.data.train)} images, {plan.data.n_classes} classes"
    )


def _write_weights(plan: ImagenetPlan, tensors: Mapping[str, Tensor]) -> None:
    """The metadata, `evonas`, is JSON that says which `DartsNetwork` they belong to."""
    about = {
        "genotype": plan.identity["genotype"],
        "channels": plan.identity["channels"],
        "layers": plan.identity["layers"],
        "stem": "imagenet",
        "n_classes": plan.data.n_classes,
        "normalization": plan.data.normalization,
    }
    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    content = safetensors.torch.save(kept, {"evonas": json.dumps(about)})
    replace_file(plan.folder / "weights.safetensors", lambda file: file.write(content))


def _score(
    plan: ImagenetPlan, network: DartsNetwork, state: dict[str, Any], console: Console, interruption: Interruption
) -> None:
    """Write results.csv; what was scored before is taken from the checkpoint, which keeps what is scored now."""

    def keep(scores: Mapping[str, Mapping[str, float]]) -> None:
        save_checkpoint(plan.path, plan.identity, {**state, "scores": scores})

    def told(note: str) -> None:
        interruption.check()
        if note:
            console.out(note, highlight=False)

    found = results(network, plan.settings, plan.data, plan.part, state["scores"], keep, told)
    row = {**found, "seconds": round(sum(seconds for *_, seconds in state["rows"]), 3)}
    write_rows(plan.folder / "results.csv", tuple(row), [tuple(row.values())])
    values = ", ".join(f"{name} {shown(name, row[name])}" for name in row if name.endswith("_error"))
    console.out(f"{plan.settings.cells}: {values}; {plan.folder / 'results.csv'}", highlight=False)
