"""Cells that a search has found, trained from scratch on ImageNet and scored on val/ (DARTS, 3.3; E2RNAS, Table V)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from evonas.data import data_root
from evonas.errors import ConfigurationError, DataError
from evonas.files import read_json, write_json
from evonas.methods.recipes import ROBUST, check_recipe, has_radius
from evonas.networks.darts_plan import cell_places
from evonas.parts import refuse_another_run
from evonas.ranges import ANY, COUNT, IMAGES, THREADS, Range, check_ranges
from evonas.runs.execution import ExecutionOptions, resolve_threads
from evonas.runs.needs import Needs
from evonas.runs.options import RunOptions, as_json
from evonas.training import recipe_within
from evonas.training.cells import IMAGENET_CELLS, CellPreset, CellTraining
from evonas.training.settings import TrainingConfig

if TYPE_CHECKING:
    from rich.console import Console

    from evonas.audit import Measurement
    from evonas.data import FilePart, ImageFolderSet
    from evonas.methods.imagenet_cells import ImagenetCells
    from evonas.methods.imagenet_scores import OodFiles, PartScores
    from evonas.networks.darts import DartsNetwork
    from evonas.runs.run import Run
    from evonas.training.checkpoints import Row

__all__ = [
    "OPTIONS",
    "PRESETS",
    "ImagenetOptions",
    "begin_folder",
    "image_reader",
    "load_images",
    "load_ood",
    "resolved_plan",
    "run",
    "score_cells",
    "train_cells",
]

DSRNA = {"fgsm": "fgsm2", "cw": "cw60"}
"""DSRNA's attacks that go by another name among the measurements."""
METHOD, WHAT = "imagenet-cells", "a training of cells"

HEAD = "auxiliary."
"""Prefix of the auxiliary head's tensors, which are trained and not kept."""


@dataclass(frozen=True, kw_only=True)
class ImagenetOptions:
    """Cells that a search has found, trained and scored on ImageNet."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: a small network and few epochs, for a look. paper: 14 cells of 48 channels, 250 epochs."""
    cells: str = "DARTS_V2"
    """DARTS_V1, DARTS_V2, PDARTS, PC_DARTS_cifar, PC_DARTS_image, or the genotype.json of a search."""
    data_root: Path | None = None
    """Folder that holds imagenet/train and imagenet/val; else the variable EVONAS_DATA, else ./data."""
    seed: Annotated[int, ANY] = 0
    """Seed of everything random."""
    network: CellPreset = IMAGENET_CELLS
    recipe: str = "standard"
    """Loss of both heads: standard (clean images, smoothed labels), or any that --retrain-recipe of a search has, with
    labels as they are: pgd_at, trades, trades_awp, ..."""
    recipe_epsilon: Annotated[float | None, Range(above=0, most=1, pixels=True)] = None
    """Radius of the attack of a robust recipe, in [0, 1], its steps in proportion; the recipe's own by default."""
    test_limit: Annotated[int | None, IMAGES] = None
    """Size of a class-balanced subset of val/ to attack by PGD."""
    pgd: bool = False
    """Attack all images of val/ by PGD; without it and --test-limit none is attacked."""
    robust_attacks: tuple[str, ...] = ()
    """Further attacks on the images that PGD attacks: DSRNA's fgsm, pgd10, pgd20, pgd100 (epsilon 8/255) and cw (needs
    foolbox), its Table 3, or any other of --suite in roco."""
    ood_data: str = ""
    """Out-of-distribution images for AUPR, enlarged: svhn (the paper's), another data set's name, noise, or auto (svhn
    where it is, else what is there); empty: no AUPR."""
    ood_ratio: Annotated[tuple[int, int], COUNT, Needs("ood_data")] = (1, 5)
    """Ratio of those images to images of val/, `1 5` where guessing gives 1/6."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda or cuda:N."""
    threads: Annotated[int | None, THREADS] = None
    """CPU threads; unless given, as many as there are processors."""
    workers: Annotated[int | None, Range(least=0, most=1024)] = None
    """Processes that decode images, and change no result; unless given, a GPU has one for each processor, up to 16.
    They need about 40 MB each in /dev/shm."""
    out: Path | None = None
    """Folder of the run; runs/imagenet-CELLS-PRESET-seedN by default."""

    example: ClassVar[str] = "evonas imagenet --cells DARTS_V2"
    short: ClassVar[tuple[str, ...]] = (
        *("preset", "cells", "data_root", "seed", "out", "channels", "layers", "epochs", "batch_size", "lr"),
        *("precision", "recipe", "test_limit", "pgd", "robust_attacks", "ood_data", "device", "threads", "workers"),
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.pgd and self.test_limit is not None:
            raise ConfigurationError("expected --pgd (all images) or --test-limit (a subset), got both")
        if self.robust_attacks and not (self.pgd or self.test_limit):
            raise ConfigurationError(
                f"expected images to attack with --robust-attacks {','.join(self.robust_attacks)}, got none; give "
                "--pgd (all images) or --test-limit (a subset)"
            )
        if len(set(self.robust_attacks)) < len(self.robust_attacks):
            raise ConfigurationError(f"expected every one of --robust-attacks once, got {self.robust_attacks}")
        cell_places(self.network.channels, self.network.layers, stem="imagenet")  # refuses what cannot be built
        if self.network.layers < 2:  # the auxiliary head needs maps that are halved twice
            raise ConfigurationError(f"expected layers >= 2, got {self.network.layers}")
        check_recipe(self.recipe, self.recipe_epsilon)
        _ = self.plan  # refuses what does not go together

    def unused(self) -> dict[str, str]:
        """Options that nothing reads as the others are -> what would bring them into use."""
        return {} if has_radius(self.recipe) else {"recipe_epsilon": f"{ROBUST} --recipe trades"}

    @property
    def plan(self) -> CellPreset:
        """The network and its training by the recipe."""
        if self.recipe == "standard":
            return self.network
        robust = recipe_within(self.recipe, self.recipe_epsilon)
        return replace(self.network, recipe=replace(self.network.recipe, label_smoothing=0.0, robust=robust))

    @property
    def attacks(self) -> tuple[Measurement, ...]:
        """The further attacks. ConfigurationError for one that is unknown, or whose library is missing."""
        from evonas.audit import errors_under, require_libraries

        found = errors_under([DSRNA.get(name, name) for name in self.robust_attacks], "robust-attacks")
        require_libraries(found, "--robust-attacks")
        return found

    @property
    def of_run(self) -> RunOptions:
        """Options that `Run` needs; the other ones of RunOptions would change nothing here, so they are no flags."""
        execution = ExecutionOptions(executor="local", device=self.device, threads=self.threads)
        return RunOptions(preset=self.preset, seed=self.seed, execution=execution, out=self.out)


OPTIONS = ImagenetOptions
PRESETS = {
    "quick": ImagenetOptions(
        network=CellPreset(
            channels=16,
            layers=5,
            training=TrainingConfig(epochs=3, batch_size=64, lr=0.05, weight_decay=3e-5),
            recipe=CellTraining(drop_path=0.0, label_smoothing=0.1),
        )
    ),
    "paper": ImagenetOptions(preset="paper", ood_data="svhn"),
}
"""`paper`: E2RNAS's out-of-distribution images are SVHN (version 2, IV-A), and none stand in their place."""


def run(options: ImagenetOptions, console: Console | None = None) -> dict[str, Any]:
    """Train the cells, or continue with that, keep their weights, and score them; returns the row of results.csv.

    In the folder: config.json, training.pt (replaced after every epoch), training.csv, weights.safetensors and
    results.csv.

    Raises:
        EvonasError: no such cells or images, another run in the folder, a full disk, training diverges.
        Interrupted: a signal came; the same command continues with the epoch that was begun.
    """
    from evonas.methods.imagenet_cells import ImagenetCells, cells_label, read_cells
    from evonas.methods.imagenet_scores import attacked_files
    from evonas.runs.run import Run

    genotype = read_cells(options.cells)
    with Run.open(METHOD, options.of_run, "imagenet", cells_label(options.cells), console, alone=True) as run:
        data = load_images(options)
        attacked = attacked_files(data, options.test_limit, options.pgd, options.seed)  # raises before days of training
        attacks = options.attacks
        ood = load_ood(run, options, data)
        read = image_reader(run, options)
        cells = ImagenetCells(options.cells, genotype, resolved_plan(run, options.plan), data, options.seed)
        begin_folder(run, options, cells)
        network = train_cells(run, cells, read(data.train))
        images = read(data.test), read(attacked)
        return score_cells(run, cells, network, *images, ood and (ood, read(ood.own)), attacks)


def load_images(options: ImagenetOptions) -> ImageFolderSet:
    """The files below imagenet/; train/ is whole, nothing is held out. DataError where they are none of two classes."""
    from evonas.data import load_image_folder

    data = load_image_folder(data_root(options.data_root) / "imagenet", options.seed, validation_per_class=0)
    if data.n_classes < 2:
        raise DataError(f"expected at least 2 class folders in {data.train.folder}, got {data.classes[0]!r} alone")
    return data


def load_ood(run: Run, options: ImagenetOptions, data: ImageFolderSet) -> OodFiles | None:
    """Images that AUPR is measured with; None where it is not.

    Raises:
        DataError: too few of them, or of val/.
        UnknownNameError: there is no such data set.
    """
    from evonas.data.out_of_distribution import load_small_ood_data, resolve_ood_data
    from evonas.methods.imagenet_scores import ood_files

    if not options.ood_data:
        return None
    name, note = resolve_ood_data(options.ood_data, data.name, options.data_root)
    run.note(note)
    small = load_small_ood_data(name, options.data_root, options.seed, run.screen.say)
    return ood_files(data, small, options.ood_ratio, options.seed)


def image_reader(run: Run, options: ImagenetOptions) -> partial[FilePart]:
    """Constructor of a `FilePart` from files: uint8 batches of 224x224 on the run's device, decoded by workers."""
    import torch

    from evonas.data import FilePart
    from evonas.methods.imagenet_cells import SIZE

    device, workers = torch.device(run.device), options.workers
    if workers is None:
        workers = min(resolve_threads(None), 16) if device.type == "cuda" else 0
    run.note(f"device: {run.device}, threads: {run.threads}, processes that decode images: {workers}")
    return partial(FilePart, device=device, workers=workers, size=SIZE)


def resolved_plan(run: Run, plan: CellPreset) -> CellPreset:
    """The plan with a resolved precision: the one that the run in the folder was begun with, where there is one."""
    begun = run.checkpoint.get("training", {}).get("precision")
    precision = run.precision(plan.training.precision, begun, depthwise=True)
    return replace(plan, training=replace(plan.training, precision=precision))


def begin_folder(run: Run, options: ImagenetOptions, cells: ImagenetCells) -> None:
    """Make the cells a piece of the run's identity and write config.json.

    A run that is continued keeps the versions that it began with.

    Raises:
        RunMismatchError: the folder holds another run.
    """
    from evonas.runs.folder import versions
    from evonas.training import load_checkpoint

    run.use(**cells.identity())
    path, now = run.folder.config, versions()
    stored = read_json(path) if path.exists() else {}
    if stored:
        refuse_another_run(run.path, {"method": stored["identity"].get("method")}, {"method": METHOD})
    begun = now
    if load_checkpoint(run.path / "training.pt", run.identity, WHAT) is not None:
        begun = stored.get("versions", now)
    content = {"settings": as_json(options), "identity": run.identity, "notes": run.notes, "versions": begun}
    write_json(path, {**content, **({"continued_with": now} if begun != now else {})})


def train_cells(run: Run, cells: ImagenetCells, part: FilePart) -> DartsNetwork:
    """Train the cells, or continue with that: training.pt, training.csv and weights.safetensors.

    Returns:
        the network after the last epoch, in eval mode, on the device of the images, without its auxiliary head.
    Raises:
        EvonasError: a full disk, training diverges.
        Interrupted: a signal came.
    """
    import torch

    from evonas.costs import count_params
    from evonas.report import write_rows

    network, training = cells.network(), cells.training(part)

    def row(loss: float) -> Row:
        return {"epoch": training.epoch, "loss": loss}

    def write(rows: list[Row]) -> None:
        write_rows(run.path / "training.csv", rows, ["epoch", "loss", "seconds"])

    run.train_epochs(
        "training",
        training,
        run.identity,
        WHAT,
        cells.opening(count_params(network)),
        row,
        lambda row: f"loss {row['loss']:.3f}",
        write,
    )
    state = training.network.state_dict()
    weights = {name: value for name, value in state.items() if not name.startswith(HEAD)}
    cells.save(run.path / "weights.safetensors", weights)
    network.load_state_dict(weights)
    return network.to(part.device).to(memory_format=torch.channels_last).eval()


def score_cells(
    run: Run,
    cells: ImagenetCells,
    network: DartsNetwork,
    clean: FilePart,
    attacked: FilePart,
    ood: tuple[OodFiles, FilePart] | None = None,
    attacks: Sequence[Measurement] = (),
) -> dict[str, Any]:
    """Score the network of `train_cells` and write results.csv; what training.pt holds is not scored again.

    Args:
        clean: images for top-1 and top-5 error.
        attacked: images for PGD error; may be empty.
        ood: images for AUPR; None: none.
        attacks: further errors on the attacked images.
    Returns:
        the row of results.csv; errors are shares in [0, 1].
    """
    from evonas.costs import count_macs, count_params
    from evonas.methods.imagenet_cells import SIZE
    from evonas.methods.imagenet_scores import score_parts
    from evonas.report import shown, write_rows
    from evonas.spaces.darts_costs import paper_flops
    from evonas.training import load_checkpoint
    from evonas.training.checkpoints import save_checkpoint

    checkpoint = load_checkpoint(run.path / "training.pt", run.identity, WHAT)
    assert checkpoint is not None

    def keep(scores: PartScores) -> None:
        content = {name: checkpoint[name] for name in ("state", "rows")}
        save_checkpoint(run.path / "training.pt", run.identity, {**content, "scores": scores})

    scores = checkpoint.get("scores", {})
    errors = score_parts(network, clean, attacked, run.seed, scores, keep, run.screen, ood, attacks)
    row = {
        "cells": cells.given,
        "channels": cells.plan.channels,
        "layers": cells.plan.layers,
        "epochs": cells.plan.training.epochs,
        **errors,
        "images": len(clean),
        "attacked_images": len(attacked),
        "params": count_params(network),
        "macs": count_macs(network, (3, SIZE, SIZE)),
        "paper_flops": paper_flops(network, (3, SIZE, SIZE)),
        "seed": run.seed,
        "seconds": round(sum(epoch["seconds"] for epoch in checkpoint["rows"]), 3),
    }
    write_rows(run.path / "results.csv", [row])
    values = ", ".join(f"{name} {shown(name, value)}" for name, value in errors.items())
    run.screen.say(f"{cells.given}: {values}; {run.path / 'results.csv'}")
    return row
