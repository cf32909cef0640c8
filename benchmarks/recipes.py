"""The same six networks trained by four recipes: clean, PGD-AT, TRADES and TRADES with perturbed weights.

Claim: each robust recipe has a far lower error under PGD-50 and AutoAttack than clean training, at some cost in clean
error, for networks of phases, cells, shuffle blocks and NAS-Bench-201. Small networks, few images and few epochs: the
order of recipes is the point, not the level. Needs pip install 'evonas[audit]'.

    EVONAS_DATA=data python benchmarks/recipes.py     # CIFAR-10; AutoAttack on 1,000 test images
    python benchmarks/recipes.py --quick              # digits, minutes
    python benchmarks/recipes.py --train-limit 10000 --epochs 30 --average ema --recipes clean,pgd_at --networks chain
"""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch
from torch import nn

from evonas.attacks import PGD, Attack, AutoAttack, FixedModel
from evonas.data import DeviceData, DevicePart, batches, load_data
from evonas.networks.blocks import seeded
from evonas.networks.darts import GENOTYPES, DartsNetwork
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
    "darts_v2": lambda **given: DartsNetwork(GENOTYPES["DARTS_V2"], 4, 3, auxiliary=True, **given),
    "pc_darts": lambda **given: DartsNetwork(GENOTYPES["PC_DARTS_cifar"], 4, 3, auxiliary=True, **given),
}
COLUMNS = ("clean", "pgd50", "autoattack")


@dataclass(frozen=True)
class Job:
    """A network trained by a recipe, and measured."""

    network: str
    recipe: str
    args: argparse.Namespace


def main() -> None:
    args = arguments()
    networks, recipes = args.networks.split(","), args.recipes.split(",")
    jobs = [Job(network, recipe, args) for network in networks for recipe in recipes]
    print(
        f"{args.data}: {len(jobs)} trainings of {args.epochs} epochs on {args.train_limit} images, average "
        f"{args.average}; errors on {args.images} test images within {255 * args.epsilon:g}/255",
        flush=True,
    )
    started, found = time.monotonic(), {}
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        waiting = {pool.submit(measured, job): job for job in jobs}
        for done in as_completed(waiting):
            job = waiting[done]
            found[job.recipe, job.network] = done.result()
            print(shown(f"{job.recipe}, {job.network}", done.result()), flush=True)
    print(f"\nmean of {len(networks)} networks, {time.monotonic() - started:.0f} s in all")
    for recipe in recipes:
        rows = [found[recipe, network] for network in networks]
        print(shown(recipe, {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}))


def shown(label: str, row: dict[str, float]) -> str:
    errors = "  ".join(f"{name} {100 * row[name]:5.1f}%" for name in COLUMNS)
    return f"{label:<28} {errors}  trained {row['trained']:5.0f} s, measured {row['measured']:5.0f} s (processor)"


def measured(job: Job) -> dict[str, float]:
    """Errors of the trained network on the first test images, and seconds of processor time."""
    torch.set_num_threads(1)
    args, started = job.args, time.process_time()
    source, cpu = load_data(args.data, train_limit=args.train_limit, val_limit=10), torch.device("cpu")
    network, tested = trained(job, DeviceData(source, cpu)), DevicePart(source.test, cpu)
    until = time.process_time()
    errors = {
        "clean": error(network, tested, args.images, None),
        "pgd50": error(network, tested, args.images, PGD(epsilon=args.epsilon, step_size=args.epsilon / 4, steps=50)),
        "autoattack": error(network, tested, args.images, AutoAttack(epsilon=args.epsilon)),
    }
    return {**errors, "trained": until - started, "measured": time.process_time() - until}


def trained(job: Job, data: DeviceData) -> nn.Module:
    args, seed = job.args, derive_seed(0, job.network)
    network = seeded(lambda: NETWORKS[job.network](n_classes=data.n_classes, normalization=data.normalization), seed)
    config = TrainingConfig(
        epochs=args.epochs, batch_size=64, lr=0.1, weight_decay=5e-4, average=args.average, precision="fp32"
    )
    recipe: Recipe = standard if job.recipe == "clean" else recipe_within(job.recipe, args.epsilon)
    if isinstance(network, DartsNetwork):
        recipe = CellTraining(drop_path=0.0, robust=None if recipe is standard else recipe)
    generator = torch.Generator().manual_seed(derive_seed(seed, "training"))
    train(network, data.train, data.augmentation, config, recipe, generator)
    return network


def error(network: nn.Module, part: DevicePart, images: int, attack: Attack | None) -> float:
    """Share of the first test images that the network gets wrong."""
    generator, wrong, seen, model = torch.Generator().manual_seed(0), 0, 0, FixedModel(network)
    for pixels, labels in batches(part, 250):
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
    parser.add_argument("--images", type=int, help="test images of every measurement")
    parser.add_argument("--epsilon", type=float, help="L-inf radius of trainings and attacks, pixels in [0, 1]")
    parser.add_argument("--average", choices=("none", "ema", "swa"), default="none")
    parser.add_argument("--recipes", default="clean,pgd_at,trades,trades_awp")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes")
    args = parser.parse_args()
    quick = {"data": "digits", "train_limit": 1000, "epochs": 6, "images": 100, "epsilon": 0.1}
    usual = {"data": "cifar10", "train_limit": 2000, "epochs": 8, "images": 1000, "epsilon": 8 / 255}
    for name, value in (quick if args.quick else usual).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for given, known in ((args.recipes, ["clean", *RECIPES]), (args.networks, [*NETWORKS])):
        if unknown := sorted({*given.split(",")} - {*known}):
            parser.error(f"expected some of {', '.join(known)}, got {', '.join(unknown)}")
    return args


if __name__ == "__main__":
    main()
