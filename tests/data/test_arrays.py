"""A user's own arrays and torch data sets: the same parts as an npz file of them, and one clear line for the rest."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, Subset, TensorDataset

from evonas.data import Dataset, load_data
from evonas.errors import DataError

N, N_TEST = 80, 8


def arrays(channels: int = 3) -> dict[str, Any]:
    """(N, 8, 8, C) uint8 images with every pixel value in them, two classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(N + N_TEST, 8, 8, channels), dtype=np.uint8)
    images[:4].reshape(-1)[:256] = np.arange(256)
    labels = np.arange(N + N_TEST) % 2
    return {"x_train": images[:N], "y_train": labels[:N], "x_test": images[N:], "y_test": labels[N:]}


def stored(path: Path, contents: dict[str, Any]) -> str:
    np.savez(path / "own.npz", **contents)
    return f"npz:{path / 'own.npz'}"


class Items(TorchDataset[Any]):
    """Images as `convert` gives them, with Python's integers."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, convert: Callable[[np.ndarray], Any]) -> None:
        self.images, self.labels, self.convert = images, labels, convert

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.convert(self.images[index]), int(self.labels[index])


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """torchvision's ToTensor: (C, H, W) float32 in [0, 1]."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy()).float() / 255


def items(convert: Callable[[np.ndarray], Any], channels: int = 3) -> tuple[Items, Items]:
    own = arrays(channels)
    train, test = (Items(own[f"x_{part}"], own[f"y_{part}"], convert) for part in ("train", "test"))
    return train, test


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("limits", [{}, {"train_limit": 20, "val_limit": 4}])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_are_split_as_an_npz_file_of_them(
    channels: int, limits: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    own = arrays(channels)
    expected = replace(load_data(stored(tmp_path, own), seed=seed, **limits), by_content=False)
    data = Dataset.from_arrays(**own, name="npz:own.npz", seed=seed, **limits)
    assert data.fingerprint == expected.fingerprint
    assert data.identity() == expected.identity()


@pytest.mark.parametrize(
    "layout", [lambda x: x.transpose(0, 3, 1, 2), lambda x: x[..., 0], lambda x: x.repeat(3, axis=3)]
)
def test_layouts_of_the_same_images_are_the_same(layout: Callable[[np.ndarray], np.ndarray]) -> None:
    own = arrays(channels=1)
    other = {**own, "x_train": layout(own["x_train"]), "x_test": layout(own["x_test"])}
    assert Dataset.from_arrays(**other, name="own") == Dataset.from_arrays(**own, name="own")


def test_identity_is_what_runs_store() -> None:
    data = Dataset.from_arrays(**arrays(), name="own")
    assert data.identity() == {
        "name": "own",
        "fingerprint": data.fingerprint,
        "n_classes": 2,
        "train": 68,
        "validation": 8,
        "mean": list(data.mean),
        "deviation": list(data.deviation),
    }
    assert not data.flip


def test_lists_of_labels_and_tensors_will_do() -> None:
    own = arrays()
    tensors: dict[str, Any] = {key: torch.from_numpy(array) for key, array in own.items()}
    expected = Dataset.from_arrays(**own, name="own")
    assert Dataset.from_arrays(**tensors, name="own") == expected
    lists = {**own, "y_train": own["y_train"].tolist(), "y_test": own["y_test"].tolist()}
    assert Dataset.from_arrays(**lists, name="own") == expected


@pytest.mark.parametrize("key", ["x_train", "y_train", "x_test", "y_test"])
def test_arrays_may_change_afterwards(key: str) -> None:
    own = arrays()
    own = {**own, **{key: np.ascontiguousarray(own[key].transpose(0, 3, 1, 2)) for key in ("x_train", "x_test")}}
    data = Dataset.from_arrays(**own, name="own")
    own[key][:] = 1 - own[key]
    assert data == Dataset.from_arrays(**arrays(), name="own")


CONVERSIONS: dict[str, Callable[[np.ndarray], Any]] = {
    "float (C, H, W)": to_tensor,
    "float64 (C, H, W)": lambda image: to_tensor(image).double(),
    "float16 (C, H, W)": lambda image: to_tensor(image).half(),
    "uint8 (C, H, W)": lambda image: torch.from_numpy(image.transpose(2, 0, 1).copy()),
    "uint8 (H, W, C)": lambda image: image,
    "float array (H, W, C)": lambda image: (image / 255).astype(np.float32),
    "PIL": lambda image: Image.fromarray(image.squeeze()),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", CONVERSIONS)
def test_a_torch_data_set_of_the_same_images_is_the_same(kind: str, channels: int) -> None:
    train, test = items(CONVERSIONS[kind], channels)
    expected = Dataset.from_arrays(**arrays(channels), name="own", seed=2, train_limit=30)
    assert Dataset.from_torch(train, test, name="own", seed=2, train_limit=30) == expected


def test_torchs_own_containers_will_do() -> None:
    own = arrays()
    tensors = {key: torch.from_numpy(array) for key, array in own.items()}
    train = TensorDataset(tensors["x_train"].permute(0, 3, 1, 2) / 255, tensors["y_train"])  # labels are () tensors
    test = TensorDataset(tensors["x_test"].permute(0, 3, 1, 2) / 255, tensors["y_test"])
    assert Dataset.from_torch(train, test, name="own") == Dataset.from_arrays(**own, name="own")
    half = {**own, "x_train": own["x_train"][:40], "y_train": own["y_train"][:40]}
    subset = Subset(train, range(40))
    assert Dataset.from_torch(subset, test, name="own") == Dataset.from_arrays(**half, name="own")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x_train": np.zeros((80, 8, 8))},
            r"^expected uint8 images in own, or .* got float64 and uint8 from",
        ),
        (
            {"x_test": np.zeros((8, 64), dtype=np.uint8)},
            r"^expected uint8 images .* in own, test, got uint8 \(8, 64\)$",
        ),
        ({"x_train": [[1], [1, 2]]}, "^expected an array of images in own, train, got list"),
        ({"x_test": np.zeros((8, 6, 6), dtype=np.uint8)}, r"one size in own, got \(3, 8, 8\) and \(3, 6, 6\)$"),
        (
            {"y_train": np.zeros(79, dtype=int)},
            r"^expected 80 integer labels >= 0 in own, train, got int64 .*79",
        ),
        ({"y_train": np.zeros(80)}, "^expected 80 integer labels .* got float64"),
        ({"y_train": np.arange(80)}, "^expected at least 4 training images of each class in own, got 1 of class 0;"),
        ({"y_test": np.arange(8)}, "^expected test labels 0 to 1 in own, as in training; got 7$"),
    ],
)
def test_other_arrays_are_one_clear_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        Dataset.from_arrays(**{**arrays(), **change}, name="own")
    assert "\n" not in str(caught.value)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from ()


class OneOdd(Items):
    """An item of another kind at 5."""

    def __init__(self, odd: Any) -> None:
        super().__init__(arrays()["x_train"], arrays()["y_train"], to_tensor)
        self.odd = odd

    def __getitem__(self, index: int) -> Any:
        return self.odd if index == 5 else super().__getitem__(index)


IMAGE = torch.zeros(3, 8, 8)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (Stream(), "^expected a map-style data set with a length in own, train, got Stream; .*Dataset.from_arrays$"),
        (Subset(OneOdd((IMAGE, 0)), []), r"^expected uint8 images .* in own, train, got uint8 \(0, 0\)$"),
        (OneOdd(IMAGE), r"^expected a pair \(image, label\) at 5 in own, train, got Tensor$"),
        (OneOdd((IMAGE, 0, 0)), r"^expected a pair \(image, label\) at 5 in own, train, got tuple$"),
        (OneOdd((IMAGE[:, :6], 0)), r"one size in own, train, got \(3, 8, 8\) at 0 and \(3, 6, 8\) at 5; resize"),
        (OneOdd((IMAGE.int(), 0)), "^expected an image of uint8 or of floats in .* at 5 in own, train, got int32$"),
        (OneOdd((IMAGE - 1.5, 0)), r"^expected an image in \[0, 1\] at 5 in own, train, got values from -1.5 to -1.5;"),
        (OneOdd((IMAGE * torch.nan, 0)), r"^expected an image in \[0, 1\] at 5 .* got values from nan to nan;"),
        (OneOdd((IMAGE, 1.0)), "^expected an integer label at 5 in own, train, got float$"),
        (OneOdd((IMAGE, -1)), "^expected a label >= 0 at 5 in own, train, got -1$"),
    ],
)
def test_other_torch_data_sets_are_one_clear_line(train: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        Dataset.from_torch(train, items(to_tensor)[1], name="own")
    assert "\n" not in str(caught.value)
