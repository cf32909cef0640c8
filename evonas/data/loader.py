"""From a name on the command line to a data set with its four parts."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from evonas.data.dataset import Dataset
from evonas.data.digits import load_digits
from evonas.data.npz import load_npz
from evonas.data.source import DataSetEntry
from evonas.data.torchvision_sets import TORCHVISION_SETS
from evonas.errors import choose
from evonas.files import expanded

__all__ = ["DATA_SETS", "data_root", "load_data", "own_file", "resolve_data", "terms_of"]

DATA_SETS = {
    **TORCHVISION_SETS,
    "digits": DataSetEntry(
        load_digits,
        terms="CC BY 4.0 (Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998; "
        "scikit-learn's copy of its test part).",
    ),
}
"""Name -> how it is read and where its files lie, in the order in which `--ood-data auto` looks for them."""


def data_root(root: Path | str | None = None) -> Path:
    """`root`, else the environment variable EVONAS_DATA, else ./data."""
    return expanded(root or os.environ.get("EVONAS_DATA") or "data")


def own_file(name: str) -> Path | None:
    """The file of a user's own images that a name such as `npz:PATH` stands for; None for a data set of the table."""
    return expanded(name.removeprefix("npz:")) if name.startswith("npz:") or name.endswith(".npz") else None


def terms_of(name: str) -> str:
    """Licence or terms of use of the data set called so; of a user's own images, that they are the user's to state."""
    return DATA_SETS[name].terms if name in DATA_SETS else "Not known to evonas: they are yours to state."


def resolve_data(name: str = "auto", root: Path | str | None = None) -> tuple[str, str]:
    """The name of a data set in place of `auto`, and for `auto` one line that says which was chosen and why.

    `auto` is CIFAR-10 where its files are, else digits.
    """
    folder = data_root(root)
    if name != "auto":
        return name, ""
    if DATA_SETS["cifar10"].found(folder):
        return "cifar10", f"data: cifar10, found below {folder}"
    return "digits", f"data: digits, because CIFAR-10 is not below {folder}; --data cifar10 downloads it (170 MB)"


def load_data(
    name: str = "auto",
    root: Path | str | None = None,
    seed: int = 0,
    train_limit: int | None = None,
    val_limit: int | None = None,
    say: Callable[[str], object] = print,
) -> Dataset:
    """A data set in four disjoint, class-balanced parts, the same for the same seed.

    Args:
        name: a name of `DATA_SETS`, `npz:PATH` for your own images, or `auto`; `chosen_because` then says which data
            set was chosen and why.
        root: folder of the data sets, also for downloads; None: see `data_root`.
        train_limit, val_limit: sizes of class-balanced subsets of these parts; None: all.
        say: called with a line where another process is downloading, and this one waits.
    Raises:
        DataError: its files are missing or damaged and cannot be downloaded.
        UnknownNameError: there is no such data set.
    """
    resolved, because = resolve_data(name, root)
    own = own_file(resolved)
    if own is not None:
        source = load_npz(own)
    else:
        names = {**DATA_SETS, "auto": DATA_SETS["digits"], "npz:PATH": DATA_SETS["digits"]}  # for the error's list
        source = choose(names, resolved, "data set")(data_root(root), say)
    data = Dataset.from_source(source, seed, train_limit, val_limit)
    return replace(data, chosen_because=because, by_content=own is not None)
