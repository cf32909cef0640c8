"""TAM-NAS's supernet: trained once in the run's folder, continued, or taken over from another run."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from evonas.errors import ConfigurationError
from evonas.files import expanded, read_regular, replace_file
from evonas.parts import as_plain, part_identity
from evonas.seeding import derive_seed, generator
from evonas.training.settings import OneShotConfig, TrainingPrecision
from evonas.types import arch_id

if TYPE_CHECKING:
    from evonas.data import Dataset
    from evonas.evaluation import SliceSupernet, SupernetWeights
    from evonas.methods.tam import TamOptions
    from evonas.runs.run import Run
    from evonas.spaces import ShuffleSpace
    from evonas.training import OneShotTraining, Recipe
    from evonas.training.checkpoints import Row

__all__ = ["slice_supernet", "supernet_note", "supernet_precision", "train_supernet"]

COLUMNS = ("epoch", "phase", "learning_rate", "arch_id", "params", "loss", "untrained", "seconds", "genome")
"""Columns of supernet.csv, one row an epoch; with `--sampling batches` the architecture of the first batch. untrained:
(layer, block, ratio) that no network trained so far has."""

DRAWN = 1000
"""Random networks that a window is tried on."""


def supernet_precision(run: Run, options: TamOptions) -> TrainingPrecision:
    """Precision of the supernet's training: the one that it was begun with in the folder, where there is one."""
    begun = run.begun("supernet") or run.checkpoint
    return run.precision(
        options.supernet.supernet_precision, begun.get("training", {}).get("supernet_precision"), depthwise=True
    )


def train_supernet(
    run: Run, options: TamOptions, space: ShuffleSpace, data: Dataset, precision: TrainingPrecision
) -> SupernetWeights:
    """Train the supernet in the run's folder, continue with that, or find its weights there.

    Beside the checkpoint supernet.pt: supernet.csv, one row an epoch, and untrained.csv, the (layer, block, ratio) that
    no trained network has.

    Raises:
        ConfigurationError: a window holds no network, or this process has no GPU.
        RunMismatchError: supernet.pt is of another training.
        Interrupted: a signal came; the same command continues with the epoch that was begun.
    """
    import torch

    from evonas.evaluation import SupernetWeights
    from evonas.networks.shuffle_supernet import ShuffleSupernet
    from evonas.report import shown, write_rows
    from evonas.training.one_shot import check_windows, drawn_architectures

    config, recipe = replace(options.supernet, supernet_precision=precision), _recipe(run, options)
    shape = {name: getattr(space, name) for name in ("name", "width", "depth", "intermediate", "image_size")}
    identity = as_plain(
        {
            "space": shape,
            "data": data.fingerprint,
            "training": asdict(config),
            "recipe": _described(options, recipe),
            "seed": run.seed,
            "device": torch.device(run.device).type,
            "threads": run.threads,
        }
    )
    run.use(supernet=identity)
    if not (run.path / "supernet.pt").exists():  # before hours are spent on it
        check_windows(space, config, run.seed)
        _check_window(options, space, run.seed)
        _take_over(run, options.supernet_from, identity)
    for line in () if run.reading else _wide_windows(options, space, run.seed):
        run.note(line)
    run.needs_device_here("the supernet is trained")
    every, trained = space.choices(), Trained(space, config, run.seed, len(data.train))
    training = _training(run, space, data, config, recipe)

    def row(loss: float) -> Row:
        epoch = training.epoch - 1
        genome = next(drawn_architectures(space, config, run.seed, epoch, len(data.train)))
        canonical = space.canonical(genome)
        return {
            "epoch": epoch + 1,
            "phase": "joint" if epoch >= config.block_epochs else "blocks",
            "learning_rate": config.rate(epoch),
            "arch_id": arch_id(canonical),
            "params": space.cost(genome, data.n_classes).params,
            "loss": loss,
            "untrained": len(every - trained.until(epoch + 1)),
            "genome": " ".join(map(str, canonical.tolist())),
        }

    rows = run.train_epochs(
        "supernet",
        training,
        identity,
        "a supernet",
        _opening(space, data, config, options.supernet_recipe),
        row,
        lambda each: f"{each['phase']}, {shown('params', each['params'])} parameters, loss {each['loss']:.3f}",
        lambda rows: write_rows(run.path / "supernet.csv", rows, COLUMNS),
    )
    if not run.reading and not (run.path / "untrained.csv").exists():
        _write_untrained(run.path / "untrained.csv", every - trained.until(config.epochs))
    missing = rows[-1].get("untrained")
    if missing:
        run.note(
            f"{missing:,} of {len(every):,} (layer, block, ratio) were never trained in the supernet, so that networks "
            f"with them inherit weights as they were drawn, or trained for other ratios: {run.path / 'untrained.csv'}"
        )
    return SupernetWeights.of(cast(ShuffleSupernet, training.supernet), identity)


def slice_supernet(
    run: Run, options: TamOptions, space: ShuffleSpace, data: Dataset, weights: SupernetWeights
) -> SliceSupernet:
    """Preparation of candidates: slices of the supernet, their batch statistics measured anew on train images."""
    from evonas.evaluation import SliceSupernet

    return SliceSupernet(
        space=space,
        data=data,
        weights=weights,
        device=run.device,
        seed=run.seed,
        recalibration_batches=options.recalibration_batches,
        recalibration_batch_size=options.recalibration_batch_size,
        recalibration=options.recalibration,
        recalibration_attack=options.recalibration_attack,
    )


def supernet_note(options: TamOptions, candidates: SliceSupernet) -> str:
    """The supernet that networks come from: the first column of Tables II to V."""
    width = "2S" if options.intermediate == 2 else "S"
    if options.supernet_recipe == "standard":
        return f"Supernet: {width}, trained on clean images."
    epsilon = 255 * options.supernet_epsilon
    recipe = candidates.weights.training["recipe"]
    steps = recipe.get("steps", 1) if options.loops is None else options.yopo_steps
    return f"Supernet: {width}, trained by {options.supernet_recipe} against {steps} steps within {epsilon:g}/255."


def _take_over(run: Run, folder: str, identity: Mapping[str, Any]) -> None:
    """Copy the checkpoint of the same supernet from another run's folder; nothing where none is named.

    Raises:
        ConfigurationError: there is none.
        RunMismatchError: it is of another training.
        EvonasError: it cannot be read or copied.
    """
    from evonas.training import load_checkpoint

    if not folder:
        return
    source, target = expanded(folder) / "supernet.pt", run.checkpoint_path("supernet")
    if load_checkpoint(source, identity, "a supernet") is None:
        raise ConfigurationError(f"expected a run with a supernet in {folder}, got none: {source} is not there")
    content = read_regular(source)
    replace_file(target, lambda file: file.write(content))
    run.screen.say(f"supernet taken over from {source}")


class Trained:
    """The (layer, block, ratio) of networks that a supernet's training draws, epoch by epoch."""

    def __init__(self, space: ShuffleSpace, config: OneShotConfig, seed: int, images: int) -> None:
        self.space, self.config, self.seed, self.images = space, config, seed, images
        self._epochs, self._found = 0, set[tuple[int, int, int]]()

    def until(self, epochs: int) -> set[tuple[int, int, int]]:
        """Choices drawn in the first epochs, whose number must not fall from call to call."""
        from evonas.training.one_shot import drawn_architectures

        for epoch in range(self._epochs, epochs):
            for genome in drawn_architectures(self.space, self.config, self.seed, epoch, self.images):
                self._found |= self.space.choices(genome)
        self._epochs = epochs
        return self._found


def _write_untrained(path: Path, choices: Collection[tuple[int, int, int]]) -> None:
    """One row a layer and block, with all its ratios that were never trained."""
    from evonas.report import write_rows

    ratios: dict[tuple[int, int], list[str]] = {}
    for layer, block, ratio in sorted(choices):
        ratios.setdefault((layer, block), []).append(f"{(ratio + 1) / 5:g}")
    rows = [{"layer": layer, "block": block, "ratios": " ".join(found)} for (layer, block), found in ratios.items()]
    write_rows(path, rows, ("layer", "block", "ratios"))


def _wide_windows(options: TamOptions, space: ShuffleSpace, seed: int) -> Iterator[str]:
    """A line for every window of parameters that accepts whatever is drawn."""
    drawn = space.sample(DRAWN, generator(seed, "windows"))
    params = [space.cost(genome).params for genome in drawn]
    windows = {
        "window": options.window,
        "block-window": options.supernet.block_window if options.supernet.block_epochs else None,
        "joint-window": options.supernet.joint_window if options.supernet.joint_epochs else None,
    }
    if options.supernet.sampling == "fair":
        windows = {"window": options.window}
    for name, window in windows.items():
        if window is not None:
            low, high = space.scaled(window)
            if low <= min(params) and max(params) <= high:
                yield f"--{name} accepts all of {DRAWN:,} random networks: it constrains nothing here"


def _recipe(run: Run, options: TamOptions) -> Recipe:
    """The loss of the training, as the run in the folder began with it."""
    recipe, former = options.recipe(), options.former_recipe()
    begun = run.begun("supernet", "recipe") or run.checkpoint.get("recipe")
    if former is None or former == recipe or begun != _described(options, former):
        return run.recipe_as_begun(recipe, begun)
    run.note(
        f"{options.supernet_recipe}: steps, their length and the weight of the divergence are TAM-NAS's, as this run "
        "was started with"
    )
    return former


def _described(options: TamOptions, recipe: Recipe) -> dict[str, Any]:
    """The recipe as the identity of the training has it."""
    from evonas.training import standard

    return as_plain({"name": options.supernet_recipe, **({} if recipe is standard else part_identity(recipe))})


def _training(run: Run, space: ShuffleSpace, data: Dataset, config: OneShotConfig, recipe: Recipe) -> OneShotTraining:
    import torch

    from evonas.data import DeviceData
    from evonas.networks.blocks import seeded
    from evonas.networks.shuffle_supernet import ShuffleSupernet
    from evonas.training import OneShotTraining

    torch.set_num_threads(run.threads)
    device = torch.device(run.hardware.here)
    images = DeviceData(data, device)
    drawn = seeded(lambda: space.supernet(data.n_classes), derive_seed(run.seed, "supernet weights"))
    supernet, momentum = cast(ShuffleSupernet, drawn).to(device), space.supernet(data.n_classes).to(device)
    return OneShotTraining(space, supernet, momentum, images.train, images.augmentation, config, recipe, run.seed)


def _check_window(options: TamOptions, space: ShuffleSpace, seed: int) -> None:
    """ConfigurationError where the window of parameters holds no network that could be drawn."""
    from evonas.training.one_shot import draw_architecture

    if options.window is None:
        return
    every = OneShotConfig(block_epochs=0, joint_epochs=1, first_ratios=10, joint_window=options.window)
    try:
        draw_architecture(space, every, seed, 0)
    except ConfigurationError as error:
        low, high = space.scaled(options.window)
        smallest, largest = space.params_range
        raise ConfigurationError(
            f"expected networks within --window {options.window[0]:g} {options.window[1]:g}, which is {low:,.0f} to "
            f"{high:,.0f} parameters here, got none; they have {smallest:,} to {largest:,}"
        ) from error


def _opening(space: ShuffleSpace, data: Dataset, config: OneShotConfig, recipe: str) -> str:
    import torch

    from evonas.costs import count_params
    from evonas.report import shown

    with torch.device("meta"):
        total = count_params(space.supernet(data.n_classes))
    return (
        f"supernet: {shown('params', total)} parameters, {config.epochs} epochs of {recipe} on {len(data.train)} images"
    )
