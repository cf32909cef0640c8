"""The same six networks trained by four recipes: clean, PGD-AT, TRADES and TRADES with perturbed weights.

Claim: each robust recipe has a far lower error under PGD-50 and APGD (--attacks standard: all of AutoAttack) than clean
training, at some cost in clean error, for networks of phases, cells, shuffle blocks and NAS-Bench-201. Small networks,
few images and few epochs: the order of recipes is the point, not the level. Needs pip install 'evonas[audit]'.

Sized for one core: an hour on CIFAR-10, minutes with --quick (two networks, digits). So AutoAttack's first two attacks
alone (APGD-CE and APGD-T) attack the first 100 images; FAB-T and Square take several times as long. `--attacks standard
--attacked 1000` is AutoAttack on 1,000, and takes many hours. They are one batch, so that later attacks get all that
earlier ones left. Each finished network is kept in --out: the same command goes on where it was stopped.

Below the table stands each recipe's mean robust error over clean training's. Exit code 1 where one is not below 1.

    EVONAS_DATA=data python benchmarks/recipes.py     # CIFAR-10
    python benchmarks/recipes.py --quick              # digits, minutes
    python benchmarks/recipes.py --train-limit 10000 --epochs 30 --average ema --recipes clean,pgd_at --networks chain
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evonas import __version__
from evonas.attacks import PGD, Attack, AutoAttack, FixedModel
from evonas.data import DeviceData, DevicePart, batches, load_data
from evonas.errors import ConfigurationError
from evonas.files import read_json, write_json
from evonas.networks.blocks import seeded
from evonas.networks.darts import GENOTYPES, DartsNetwork
from evonas.parts import as_plain, digest, part_identity
from evonas.seeding import derive_seed
from evonas.spaces import NasBench201Space, PhaseSpace, ShuffleSpace
from evonas.training import RECIPES, CellTraining, Recipe, TrainingConfig, recipe_within, standard, train

PHASES = PhaseSpace(phases=3, nodes=3, channels=4)
SHUFFLE = ShuffleSpace(width=1 / 3, depth=0.1, window=None)
BENCH = NasBench201Space(channels=4, cells=1)
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "chain": lambda **given: PHASES.build(PHASES.designs()["chain"], **given),
    "dense": lambda **given: PHASES.build(PHASES.designs()["dense"], **given),
    "shuffle": lambda **given: SHUFFLE.build(0 * SHUFFLE.upper, **given),
    "nasbench201": lambda **given: BENCH.build(0 * BENCH.upper + 3, **given),
    "darts_v2": lambda **given: DartsNetwork(GENOTYPES["DARTS_V2"], 2, 3, auxiliary=True, **given),
    "pc_darts": lambda **given: DartsNetwork(GENOTYPES["PC_DARTS_cifar"], 2, 3, auxiliary=True, **given),
}
COLUMNS = ("clean", "pgd50", "strongest")
STRONGEST = {"apgd": ("apgd-ce", "apgd-t"), "standard": None}
"""Attacks of AutoAttack; some of them are no longer AutoAttack."""
BATCH, TOGETHER = 250, 1000
"""Images of a pass; the most of one batch under AutoAttack."""


def together(images: int) -> int:
    """Images of a batch under AutoAttack."""
    return max(BATCH, min(images, TOGETHER))


@dataclass(frozen=True, eq=False)
class Job:
    """A network trained by a recipe, and measured."""

    network: str
    recipe: str
    args: argparse.Namespace

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that its errors follow from."""
        beside = ("out", "workers", "quick", "recipes", "networks")
        given = {name: value for name, value in vars(self.args).items() if name not in beside}
        network = self.built(n_classes=10, normalization=((0.5,) * 3, (0.5,) * 3))
        made: dict[str, Any] = {"network": digest({"modules": str(network)}), "training": self.training.identity()}
        made |= {"recipe": part_identity(self.trained_by(network)), "version": __version__}
        if self.args.attacked > BATCH:  # other batches draw other numbers
            made |= {"batch": together(self.args.attacked)}
        return as_plain({"network": self.network, "recipe": self.recipe, **given, "made": made})

    @property
    def training(self) -> TrainingConfig:
        args = self.args
        return TrainingConfig(
            epochs=args.epochs, batch_size=32, lr=0.1, weight_decay=5e-4, average=args.average, precision="fp32"
        )

    def built(self, **given: Any) -> nn.Module:
        return seeded(lambda: NETWORKS[self.network](**given), derive_seed(0, self.network))

    def trained_by(self, network: nn.Module) -> Recipe:
        recipe: Recipe = standard if self.recipe == "clean" else recipe_within(self.recipe, self.args.epsilon)
        if isinstance(network, DartsNetwork):
            recipe = CellTraining(drop_path=0.0, robust=None if recipe is standard else recipe)
        return recipe

    @property
    def file(self) -> Path:
        return Path(self.args.out) / f"{self.network}-{self.recipe}.json"

    def finished(self) -> dict[str, float] | None:
        """Errors that an earlier command has found with the same settings."""
        kept = read_json(self.file) if self.file.exists() else {}
        found: dict[str, float] | None = kept["found"] if kept.get("settings") == self.settings else None
        return found


def main() -> int:
    args = arguments()
    networks, recipes = args.networks.split(","), args.recipes.split(",")
    jobs = [Job(network, recipe, args) for network in networks for recipe in recipes]
    found = {job: kept for job in jobs if (kept := job.finished()) is not None}
    print(
        f"{args.data}: {len(jobs)} trainings of {args.epochs} epochs on {args.train_limit} images, average "
        f"{args.average}; {len(found)} of them are in {args.out}",
        flush=True,
    )
    Path(args.out).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        waiting = {pool.submit(measured, job): job for job in jobs if job not in found}
        for done in as_completed(waiting):
            job = waiting[done]
            found[job] = done.result()
            write_json(job.file, {"settings": job.settings, "found": found[job]})
            errors = "  ".join(f"{name} {100 * found[job][name]:5.1f}%" for name in COLUMNS)
            print(f"{job.recipe}, {job.network}: {errors}", flush=True)
    rows = {(job.recipe, job.network): row for job, row in found.items()}
    print(f"\n{markdown(recipes, rows, args)}")
    shares = of_clean(recipes, rows)
    for recipe, columns in shares.items():
        words = ", ".join(f"{share:.2f} under {label(name, args)}" for name, share in columns.items())
        print(f"{recipe}: mean error over that of clean training {words}")
    return int(any(share >= 1 for columns in shares.values() for share in columns.values()))


def of_clean(recipes: list[str], found: dict[tuple[str, str], dict[str, float]]) -> dict[str, dict[str, float]]:
    """Robust recipe -> attack -> its mean error over that of clean training; none without clean training.

    1 where clean training has no error, which no recipe is below.
    """
    means = {
        recipe: {name: sum(row[name] for (of, _), row in found.items() if of == recipe) for name in COLUMNS[1:]}
        for recipe in recipes
    }
    clean = means.pop("clean", {})
    return {
        recipe: {name: of[name] / usual if usual else 1.0 for name, usual in clean.items()}
        for recipe, of in means.items()
        if recipe != "standard"
    }


def label(column: str, args: argparse.Namespace) -> str:
    """An attack as the table names it."""
    if column == "strongest":
        return "AutoAttack" if args.attacks == "standard" else "APGD"
    return {"clean": "clean", "pgd50": "PGD-50"}[column]


def markdown(recipes: list[str], found: dict[tuple[str, str], dict[str, float]], args: argparse.Namespace) -> str:
    """A table of errors in percent: the mean of the networks for each recipe, then every network."""
    networks = list(dict.fromkeys(network for _, network in found))
    heads = ["recipe", "network", *(f"{label(name, args)} %" for name in COLUMNS), "trained s", "measured s"]
    lines = [heads, ["---"] * len(heads)]
    names = (*COLUMNS, "trained", "measured")
    for recipe in recipes:
        rows = [found[recipe, network] for network in networks]
        mean = {name: sum(row[name] for row in rows) / len(rows) for name in names}
        for network, row in ((f"mean of {len(networks)}", mean), *zip(networks, rows, strict=True)):
            errors = (f"{100 * row[name]:.1f}" for name in COLUMNS)
            lines.append([recipe, network, *errors, f"{row['trained']:.0f}", f"{row['measured']:.0f}"])
    note = (
        f"{args.data}, {args.train_limit} training images, {args.epochs} epochs; errors within "
        f"{255 * args.epsilon:g}/255 on {args.images} test images, those of {label('strongest', args)} on "
        f"{args.attacked}; seconds of one processor."
    )
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + ["", note])


def measured(job: Job) -> dict[str, float]:
    """Errors of the trained network on the first test images, and seconds of processor time."""
    torch.set_num_threads(1)
    args, started = job.args, time.process_time()
    source, cpu = load_data(args.data, train_limit=args.train_limit, val_limit=10), torch.device("cpu")
    network, tested = trained(job, DeviceData(source, cpu)), DevicePart(source.test, cpu)
    until = time.process_time()
    pgd = PGD(epsilon=args.epsilon, step_size=args.epsilon / 4, steps=50, stop_when_fooled=True)
    batch = together(args.attacked)
    strongest = AutoAttack(epsilon=args.epsilon, attacks=STRONGEST[args.attacks], batch_size=batch)
    errors = {
        "clean": error(network, tested, args.images, None),
        "pgd50": error(network, tested, args.images, pgd),
        "strongest": error(network, tested, args.attacked, strongest, batch),
    }
    return {**errors, "trained": until - started, "measured": time.process_time() - until}


def trained(job: Job, data: DeviceData) -> nn.Module:
    network = job.built(n_classes=data.n_classes, normalization=data.normalization)
    generator = torch.Generator().manual_seed(derive_seed(derive_seed(0, job.network), "training"))
    train(network, data.train, data.augmentation, job.training, job.trained_by(network), generator)
    return network


def error(network: nn.Module, part: DevicePart, images: int, attack: Attack | None, batch: int = BATCH) -> float:
    """Share of the first test images that the network gets wrong, attacked in batches."""
    generator, wrong, seen, model = torch.Generator().manual_seed(0), 0, 0, FixedModel(network)
    for pixels, labels in batches(part, batch):
        pixels, labels = pixels[: images - seen], labels[: images - seen]
        attacked = pixels if attack is None else attack(model, pixels, labels, generator=generator)
        with torch.no_grad():
            wrong += int((network(attacked).argmax(dim=1) != labels).sum())
        seen += len(labels)
        if seen >= images:
            break
    return wrong / seen


def arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="digits, few images, a larger radius")
    parser.add_argument("--data")
    parser.add_argument("--train-limit", type=int, help="training images")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--images", type=int, help="test images of clean errors and of PGD")
    parser.add_argument("--attacked", type=int, help="test images under AutoAttack")
    parser.add_argument("--attacks", choices=tuple(STRONGEST), default="apgd", help="of AutoAttack")
    parser.add_argument("--out", help="folder of the finished networks")
    parser.add_argument("--epsilon", type=float, help="L-inf radius of trainings and attacks, pixels in [0, 1]")
    parser.add_argument("--average", choices=("none", "ema", "swa"), default="none")
    parser.add_argument("--recipes", default="clean,pgd_at,trades,trades_awp")
    parser.add_argument("--networks")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes")
    args = parser.parse_args()
    quick = {"data": "digits", "train_limit": 700, "epochs": 4, "images": 100, "attacked": 10, "epsilon": 16 / 255}
    quick |= {"networks": "chain,nasbench201", "out": "runs/recipes-quick"}
    usual = {"data": "cifar10", "train_limit": 1000, "epochs": 4, "images": 1000, "attacked": 100, "epsilon": 8 / 255}
    usual |= {"networks": ",".join(NETWORKS), "out": "runs/recipes"}
    if args.average == "swa":
        quick, usual = ({**preset, "epochs": 5} for preset in (quick, usual))  # two epochs to average
    for name, value in (quick if args.quick else usual).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    try:
        TrainingConfig(epochs=args.epochs, average=args.average)
    except ConfigurationError as error:
        parser.error(str(error))
    for given, known in ((args.recipes, ["clean", *RECIPES]), (args.networks, [*NETWORKS])):
        if unknown := sorted({*given.split(",")} - {*known}):
            parser.error(f"expected some of {', '.join(known)}, got {', '.join(unknown)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
