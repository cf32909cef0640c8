"""From a name on the command line to a data set with its four parts."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from evonas.data.dataset import Dataset, ImageSource, split
from evonas.data.digits import load_digits
from evonas.data.npz import load_npz
from evonas.data.torchvision_sets import TORCHVISION_SETS
from evonas.errors import choose
from evonas.seeding import generator

__all__ = ["DATA_SETS", "data_root", "load_data", "resolve_data"]

DATA_SETS: dict[str, Callable[[Path], ImageSource]] = {"digits": load_digits, **TORCHVISION_SETS}
"""Name -> loader of (root)."""


CIFAR10_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")


def data_root(root: Path | str | None = None) -> Path:
    """`root`, else the environment variable EVONAS_DATA, else ./data."""
    return Path(root or os.environ.get("EVONAS_DATA") or "data").expanduser()


def resolve_data(name: str = "auto", root: Path | str | None = None) -> tuple[str, str]:
    """The data set that a name stands for, and for `auto` one line that says which and why.

    `auto` is CIFAR-10 where its files are, else digits.
    """
    folder = data_root(root)
    if name != "auto":
        return name, ""
    if all((folder / "cifar-10-batches-py" / name).is_file() for name in CIFAR10_FILES):
        return "cifar10", f"data: cifar10, found below {folder}"
    return "digits", f"data: digits, because CIFAR-10 is not below {folder}; --data cifar10 downloads it (170 MB)"


def load_data(
    name: str = "auto",
    root: Path | str | None = None,
    seed: int = 0,
    train_limit: int | None = None,
    val_limit: int | None = None,
) -> Dataset:
    """A data set in four disjoint, class-balanced parts, the same for the same seed.

    Args:
        name: a name of `DATA_SETS`, `npz:PATH` for your own images, or `auto`; `chosen_because` then says which data
            set that is and why.
        root: where data sets lie or are downloaded to; None: see `data_root`.
        train_limit, val_limit: take class-balanced subsets of so many images.
    Raises:
        DataError: asked for by name and not to be had.
    """
    resolved, because = resolve_data(name, root)
    if resolved.startswith("npz:") or resolved.endswith(".npz"):
        source = load_npz(Path(resolved.removeprefix("npz:")).expanduser())
    else:
        names = {**DATA_SETS, "auto": load_digits, "npz:PATH": load_digits}
        source = choose(names, resolved, "data set")(data_root(root))
    data = split(source, generator("split", seed)).limited(train_limit, val_limit, generator("limit", seed))
    return replace(data, chosen_because=because)
