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

__all__ = ["DATA_SETS", "data_root", "load_data"]

DATA_SETS: dict[str, Callable[[Path], ImageSource]] = {"digits": load_digits, **TORCHVISION_SETS}
"""Name -> loader of (root)."""


def data_root(root: Path | str | None = None) -> Path:
    """`root`, else the environment variable EVONAS_DATA, else ./data."""
    return Path(root or os.environ.get("EVONAS_DATA") or "data").expanduser()


def load_data(
    name: str = "auto",
    root: Path | str | None = None,
    seed: int = 0,
    train_limit: int | None = None,
    val_limit: int | None = None,
) -> Dataset:
    """A data set in four disjoint, class-balanced parts, the same for the same seed.

    Args:
        name: a name of `DATA_SETS`, `npz:PATH` for your own images, or `auto`: CIFAR-10 where its files are, else
            digits; `chosen_because` then says which and why.
        root: where data sets lie or are downloaded to; None: see `data_root`.
        train_limit, val_limit: take class-balanced subsets of so many images.
    Raises:
        DataError: asked for by name and not to be had.
    """
    folder, because = data_root(root), ""
    if name == "auto":
        found = (folder / "cifar-10-batches-py").is_dir()
        name = "cifar10" if found else "digits"
        because = (
            f"data: cifar10, found below {folder}"
            if found
            else f"data: digits, because CIFAR-10 is not below {folder}; --data cifar10 downloads it (170 MB)"
        )
    if name.startswith("npz:") or name.endswith(".npz"):
        source = load_npz(Path(name.removeprefix("npz:")).expanduser())
    else:
        source = choose({**DATA_SETS, "auto": load_digits, "npz:PATH": load_digits}, name, "data set")(folder)
    data = split(source, generator("split", seed)).limited(train_limit, val_limit, generator("limit", seed))
    return replace(data, chosen_because=because)
