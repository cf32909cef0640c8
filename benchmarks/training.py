"""How fast one genome trains on the CPU, against the plain way, and whether the error afterwards is the same.

Claim: at least 2.0 times the images per second of the plain way (DataLoader with torchvision's transforms, fp32,
contiguous tensors) for the published NSGA-Net genome at 16 channels and batch 128 on real CIFAR-10 images, with an
error after training within seed noise of it.

    EVONAS_DATA=... python benchmarks/training.py                      # speed, then errors of 3 seeds each
    EVONAS_DATA=... python benchmarks/training.py --rounds 6 --seeds 0 # speed alone

Both ways run alternately in this process, on the same images, with the same network and optimiser.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from evonas.data import Dataset, DeviceData, batches, load_data
from evonas.spaces import NSGANET, PhaseSpace
from evonas.training import TrainingConfig, resolve_precision, standard, train


def build(data: Dataset, channels: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    space = PhaseSpace(channels=channels)
    return space.build(PhaseSpace.from_lists(NSGANET), data.n_classes, normalization=data.normalization)


def plain(network: nn.Module, data: Dataset, config: TrainingConfig, seed: int, workers: int) -> None:
    """A DataLoader over PIL-free torchvision transforms, as most training scripts have it."""
    from torchvision import transforms
    from torchvision.transforms.functional import to_pil_image

    steps = [transforms.RandomCrop(32, padding=4)]
    steps += [transforms.RandomHorizontalFlip()] if data.flip else []
    augment = transforms.Compose([to_pil_image, *steps, transforms.ToTensor()])
    images, labels = torch.from_numpy(data.train.images), torch.from_numpy(data.train.labels)

    def collate(samples: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.stack([augment(image) for image, _ in samples]), torch.stack([label for _, label in samples])

    torch.manual_seed(seed)
    loader = DataLoader(
        TensorDataset(images, labels), config.batch_size, shuffle=True, num_workers=workers, collate_fn=collate
    )
    optimiser = torch.optim.SGD(network.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.epochs)
    network.train()
    for _ in range(config.epochs):
        for batch, targets in loader:
            loss = functional.cross_entropy(network(batch), targets)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
            optimiser.step()
        schedule.step()
    network.eval()


def ours(network: nn.Module, data: DeviceData, config: TrainingConfig, seed: int) -> None:
    train(network, data.train, data.augmentation, config, standard, torch.Generator().manual_seed(seed))


@torch.no_grad()
def error(network: nn.Module, data: DeviceData) -> float:
    wrong = sum(int((network(x).argmax(1) != y).sum()) for x, y in batches(data.validation, 500))
    return wrong / len(data.validation)


def seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--images", type=int, default=2560, help="training images of a timed epoch")
    parser.add_argument("--rounds", type=int, default=5, help="timed epochs of each way, alternately")
    parser.add_argument("--workers", type=int, default=0, help="DataLoader workers of the plain way")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each way for the errors, 2 or more; 0: none")
    parser.add_argument("--error-images", type=int, default=10000)
    parser.add_argument("--error-epochs", type=int, default=4)
    args = parser.parse_args()

    precision, why = resolve_precision("auto", torch.device("cpu"))
    print(f"{why}; torch {torch.__version__}, {torch.get_num_threads()} threads")

    data = load_data(args.data, train_limit=args.images)
    on_device = DeviceData(data, torch.device("cpu"))
    config = TrainingConfig(epochs=1, precision=precision)
    speeds: dict[str, list[float]] = {"plain": [], "evonas": []}
    for round_number in range(args.rounds + 1):
        first, second = build(data, args.channels, round_number), build(data, args.channels, round_number)
        pair = {
            "plain": seconds(partial(plain, first, data, config, 0, args.workers)),
            "evonas": seconds(partial(ours, second, on_device, config, 0)),
        }
        if round_number:  # the first round warms up
            for name, spent in pair.items():
                speeds[name].append(len(data.train) / spent)
    ratios = [b / a for a, b in zip(speeds["plain"], speeds["evonas"], strict=True)]
    print(f"\nimages per second, {args.channels} channels, batch {config.batch_size}, {args.rounds} rounds")
    for name, values in speeds.items():
        print(f"  {name:8} median {statistics.median(values):8.0f}   {min(values):.0f} to {max(values):.0f}")
    print(f"  ratio    median {statistics.median(ratios):8.2f}   {min(ratios):.2f} to {max(ratios):.2f}")

    fast = statistics.median(ratios) >= 2.0
    print("holds: at least 2.0 times as fast" if fast else "fails: less than 2.0 times as fast")
    return int(not (fast and (args.seeds < 2 or compare_errors(args, precision))))


def compare_errors(args: argparse.Namespace, precision: str) -> bool:
    """Whether the errors after the same training both ways differ by no more than two standard errors."""
    data = load_data(args.data, train_limit=args.error_images)
    on_device = DeviceData(data, torch.device("cpu"))
    config = TrainingConfig(epochs=args.error_epochs, precision=precision)
    errors: dict[str, list[float]] = {"plain": [], "evonas": []}
    for seed in range(args.seeds):
        network = build(data, args.channels, seed)
        plain(network, data, config, seed, args.workers)
        errors["plain"].append(error(network, on_device))
        network = build(data, args.channels, seed)
        ours(network, on_device, config, seed)
        errors["evonas"].append(error(network, on_device))
    print(f"\nvalidation error (%) after {args.error_epochs} epochs of {len(data.train)} images")
    for name, values in errors.items():
        print(f"  {name:8} mean {100 * statistics.mean(values):6.2f}   {', '.join(f'{100 * v:.2f}' for v in values)}")
    spread = (statistics.variance(errors["plain"]) + statistics.variance(errors["evonas"])) ** 0.5
    difference = statistics.mean(errors["evonas"]) - statistics.mean(errors["plain"])
    standard_error = spread / args.seeds**0.5
    within: bool = difference <= 2 * standard_error
    print(f"  difference {100 * difference:+.2f}, standard error of it {100 * standard_error:.2f}")
    print("holds: no worse than two standard errors" if within else "fails: worse by more than two standard errors")
    return within


if __name__ == "__main__":
    raise SystemExit(main())
