"""The same networks under plain training, PGD-AT, IBP, CROWN-IBP and Gaussian noise: what each certifies.

Claim: IBP and CROWN-IBP give a certified error far below that of plain training, and of adversarial training where a
network has more than a few layers, at some cost in clean error. An epoch of IBP costs a few times a plain one. Small
networks, few images and few epochs: the order of recipes is the point, not the level. Smoothed images are too few for
an order: of 20 one is 5 points.

    EVONAS_DATA=data python benchmarks/certified_training.py     # CIFAR-10
    python benchmarks/certified_training.py --quick              # digits
    python benchmarks/certified_training.py --quick --recipes standard,ibp --networks deeper
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from evonas.attacks import PGD, FixedModel
from evonas.certify.smoothing import Smoothing
from evonas.data import DeviceData, DevicePart, batches, load_data
from evonas.networks.blocks import seeded
from evonas.objectives import Candidate, CertifiedError
from evonas.objectives.scoring import error_under, first_images
from evonas.seeding import derive_seed
from evonas.spaces import NasBench201Space, PhaseSpace
from evonas.training import RECIPES, TrainingConfig, recipe_within, train

PHASES = PhaseSpace(phases=2, nodes=2, channels=8)
BENCH = NasBench201Space(channels=4, cells=1)
COLUMNS = ("clean", "pgd50", "certified", "smoothed")


def patches(n_classes: int, normalization: Any, between: int = 0) -> nn.Module:
    """Convolutions over patches of 4 and with a stride, so many between them, a last layer; for images of 32 pixels."""
    inner = [(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(between)]
    last = nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()
    layers = [nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU(), *(part for each in inner for part in each), *last]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, n_classes))


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "patches": patches,
    "deeper": partial(patches, between=3),
    "chain": lambda **given: PHASES.build(PHASES.designs()["chain"], **given),
    "nasbench201": lambda **given: BENCH.build(0 * BENCH.upper + 2, **given),
}


def main() -> None:
    args = arguments()
    networks, recipes = args.networks.split(","), args.recipes.split(",")
    torch.set_num_threads(1)
    data = DeviceData(load_data(args.data, train_limit=args.train_limit, val_limit=10), torch.device("cpu"))
    tested = first_images(DevicePart(load_data(args.data, val_limit=10).test, torch.device("cpu")), args.images)
    print(
        f"{args.data}: {args.epochs} epochs on {args.train_limit} images; {args.images} test images, within "
        f"{255 * args.epsilon:g}/255; smoothed: accuracy at L2 radius 0.25, sigma 0.25, {args.samples} samples "
        f"of each of {args.smoothed} images",
        flush=True,
    )
    rows: dict[str, list[dict[str, float]]] = {recipe: [] for recipe in recipes}
    for network in networks:
        for recipe in recipes:
            rows[recipe].append(measured(network, recipe, data, tested, args))
            plain = rows[recipes[0]][-1]["seconds"]
            print(shown(f"{network}, {recipe}", rows[recipe][-1], plain, recipes[0]), flush=True)
    if len(networks) > 1:
        print(f"\nmean of {len(networks)} networks")
        means = {
            recipe: {name: float(np.mean([row[name] for row in found])) for name in found[0]}
            for recipe, found in rows.items()
        }
        for recipe, row in means.items():
            print(shown(recipe, row, means[recipes[0]]["seconds"], recipes[0]))


def shown(label: str, row: dict[str, float], plain: float, first: str) -> str:
    shares = "  ".join(f"{name} {100 * row[name]:5.1f}%" for name in COLUMNS)
    return f"{label:<22} {shares}  epoch {row['seconds']:6.2f} s, {row['seconds'] / plain:4.1f} of {first}'s"


def measured(name: str, recipe: str, data: DeviceData, tested: DevicePart, args: Any) -> dict[str, float]:
    """Errors on test images, the smoothed accuracy, and seconds of processor time an epoch."""
    seed = derive_seed(0, name)
    network = seeded(lambda: NETWORKS[name](n_classes=data.n_classes, normalization=data.normalization), seed)
    config = TrainingConfig(epochs=args.epochs, batch_size=32, lr=0.05, weight_decay=0.0, precision="fp32")
    radius = args.epsilon if recipe == "pgd_at" else 1.1 * args.epsilon  # the papers of bounds train a tenth beyond
    generator = torch.Generator().manual_seed(derive_seed(seed, "training"))
    ends: list[float] = []
    train(
        *(network, data.train, data.augmentation, config, recipe_within(recipe, radius), generator),
        on_epoch=lambda loss: ends.append(time.process_time()),
    )
    seconds = (ends[-1] - ends[0]) / (args.epochs - 1)  # the first epoch loads what later ones have
    attack = PGD(epsilon=args.epsilon, step_size=args.epsilon / 4, steps=50)
    certificate, proven = CertifiedError(epsilon=args.epsilon), []
    for images, labels in batches(tested, certificate.batch_size):
        proven.append(~certificate.unproven(candidate(network, data), images, labels))
    smoothed = 0
    for images, labels in batches(first_images(tested, args.smoothed), 10):
        smoothing = Smoothing(sigma=0.25, n=args.samples)
        classes, radii = smoothing.certify(network, images, torch.Generator().manual_seed(seed))
        smoothed += int(((classes == labels) & (radii >= 0.25)).sum())
    return {
        "clean": error_under(network, batches(tested, 250)),
        "pgd50": error_under(FixedModel(network), batches(tested, 250), attack),
        "certified": 1 - float(torch.cat(proven).double().mean()),
        "smoothed": smoothed / args.smoothed,
        "seconds": seconds,
    }


def candidate(network: nn.Module, data: DeviceData) -> Candidate:
    """The network as objectives see it; its genome does not count."""
    genome = PHASES.designs()["chain"]
    return Candidate(network, genome, PHASES, data, PHASES.cost(genome), torch.Generator())


def arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="digits, few images, few samples")
    parser.add_argument("--data")
    parser.add_argument("--train-limit", type=int, help="training images")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--images", type=int, help="test images")
    parser.add_argument("--smoothed", type=int, help="test images that are smoothed")
    parser.add_argument("--samples", type=int, help="noisy copies of each")
    parser.add_argument("--epsilon", type=float, help="L-inf radius, pixels in [0, 1]")
    parser.add_argument("--recipes", default="standard,pgd_at,ibp,crown_ibp,gaussian", help="the first is the ratio's")
    parser.add_argument("--networks")
    args = parser.parse_args()
    usual = {"data": "cifar10", "train_limit": 5000, "epochs": 20, "images": 1000, "epsilon": 2 / 255}
    usual |= {"smoothed": 100, "samples": 1000, "networks": ",".join(NETWORKS)}
    quick = {"data": "digits", "train_limit": 500, "epochs": 12, "images": 200, "epsilon": 16 / 255}
    quick |= {"smoothed": 20, "samples": 200, "networks": "patches,deeper"}
    for name, value in (quick if args.quick else usual).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for given, known in ((args.recipes, [*RECIPES]), (args.networks, [*NETWORKS])):
        if unknown := sorted({*given.split(",")} - {*known}):
            parser.error(f"expected some of {', '.join(known)}, got {', '.join(unknown)}")
    return args


if __name__ == "__main__":
    main()
