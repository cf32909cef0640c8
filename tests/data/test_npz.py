"""A user's own images: every accepted layout, and one clear line for everything else."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from helpers import Trap

from evonas.data import load_data
from evonas.data.npz import load_npz
from evonas.errors import DataError

Arrays = dict[str, Any]


def colour_arrays(size: int = 8) -> Arrays:
    """80 training and 8 test images (N, H, W, 3), two classes."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(256, size=(80, size, size, 3), dtype=np.uint8),
        "y_train": np.arange(80) % 2,
        "x_test": rng.integers(256, size=(8, size, size, 3), dtype=np.uint8),
        "y_test": np.arange(8) % 2,
    }


def saved(path: Path, arrays: Arrays) -> Path:
    np.savez(path / "own.npz", **arrays)
    return path / "own.npz"


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "N H W 3": lambda images: images,
    "N 3 H W": lambda images: images.transpose(0, 3, 1, 2),
    "N H W 1": lambda images: images[..., :1],
    "N 1 H W": lambda images: images[..., :1].transpose(0, 3, 1, 2),
    "N H W": lambda images: images[..., 0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_becomes_n_3_h_w(layout: str, tmp_path: Path) -> None:
    arrays = colour_arrays()
    expected = arrays["x_train"].transpose(0, 3, 1, 2)
    if "3" not in layout:
        expected = expected[:, :1].repeat(3, axis=1)  # grey is repeated
    for key in ("x_train", "x_test"):
        arrays[key] = LAYOUTS[layout](arrays[key])
    source = load_npz(saved(tmp_path, arrays))
    assert np.array_equal(source.train.images, expected)
    assert source.train.images.dtype == np.uint8
    assert source.train.images.flags.c_contiguous
    assert source.train.labels.tolist() == [0, 1] * 40
    assert source.test is not None
    assert source.test.images.shape == (8, 3, 8, 8)
    assert (source.name, source.flip) == ("npz:own.npz", False)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_labels_of_any_integer_type(dtype: type, tmp_path: Path) -> None:
    arrays = colour_arrays()
    source = load_npz(saved(tmp_path, {**arrays, "y_train": arrays["y_train"].astype(dtype)}))
    assert source.train.labels.dtype == np.int64


@pytest.mark.parametrize("spelling", ["npz:{}", "{}"])
def test_four_parts_by_name(spelling: str, tmp_path: Path) -> None:
    data = load_data(spelling.format(saved(tmp_path, colour_arrays())))
    assert [len(part) for part in (data.train, data.validation, data.adversarial, data.test)] == [68, 8, 4, 8]
    for part, each in ((data.train, 34), (data.validation, 4), (data.adversarial, 2)):
        assert np.bincount(part.labels).tolist() == [each, each]
    assert (data.n_classes, data.image_size, data.name) == (2, 8, "npz:own.npz")


def test_other_images_other_fingerprint(tmp_path: Path) -> None:
    arrays = colour_arrays()
    first = load_data(str(saved(tmp_path, arrays)))
    again = load_data(str(saved(tmp_path, arrays)))
    arrays["x_test"][0, 0, 0, 0] ^= 1
    other = load_data(str(saved(tmp_path, arrays)))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def with_(key: str, change: Callable[[np.ndarray], Any]) -> Arrays:
    arrays = colour_arrays()
    return {**arrays, key: change(arrays[key])}


def without(*keys: str) -> Arrays:
    return {key: array for key, array in colour_arrays().items() if key not in keys}


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (without("y_test"), r"arrays x_train, y_train, x_test, y_test in .*, missing y_test$"),
        (without("x_train", "x_test"), r"missing x_train, x_test$"),
        (with_("x_train", lambda x: x / 255), r"expected uint8 images .* train, got float64 \(80, 8, 8, 3\)"),
        (with_("x_train", lambda x: x.astype(np.int64)), r"expected uint8 images .*got int64"),
        (with_("x_test", lambda x: x.reshape(8, -1)), r"expected uint8 images .* test, got uint8 \(8, 192\)"),
        (with_("x_train", lambda x: x[:0]), r"expected uint8 images .*got uint8 \(0, 8, 8, 3\)"),
        (with_("x_train", lambda x: x[:, :6]), r"expected square images .*got \(3, 6, 8\)"),
        (with_("x_train", lambda x: x.repeat(2, axis=3)), r"with 1 or 3 channels"),
        (with_("x_test", lambda x: x[:, :6, :6]), r"images of one size .*got \(3, 8, 8\) and \(3, 6, 6\)"),
        (with_("y_train", lambda y: y[:-1]), r"expected 80 integer labels >= 0 .* train, got int64 of shape \(79,\)"),
        (with_("y_train", lambda y: y[:, None]), r"expected 80 integer labels .*shape \(80, 1\)"),
        (with_("y_train", lambda y: y.astype(float)), r"expected 80 integer labels .*float64"),
        (with_("y_test", lambda y: y - 1), r"expected 8 integer labels >= 0 in .* test"),
        (with_("y_test", lambda y: y + 1), r"expected test labels 0 to 1 in npz:own.npz"),
        (with_("y_train", lambda y: y * 2), r"at least 4 training images of each class"),
        (with_("y_train", lambda y: y + 2**40 * (np.arange(80) == 3)), r"^expected"),
    ],
)
def test_anything_else_is_one_clear_line(arrays: Arrays, message: str, tmp_path: Path) -> None:
    path = saved(tmp_path, arrays)
    with pytest.raises(DataError, match=message) as caught:
        load_data(f"npz:{path}")
    assert "own.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    labels = np.empty(80, dtype=object)
    labels[:] = Trap()
    path = saved(tmp_path, {**colour_arrays(), "y_train": labels})
    with pytest.raises(DataError, match="expected an npz file of plain arrays"):
        load_npz(path)
    assert not Trap.sprung


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*nowhere\.npz; --data npz:PATH names your own images"):
        load_data(f"npz:{tmp_path / 'nowhere.npz'}")


def damage(path: Path, kind: str) -> None:
    whole = saved(path.parent, colour_arrays()).read_bytes()
    if kind == "cut short":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "altered":
        path.write_bytes(whole[:1000] + bytes([whole[1000] ^ 255]) + whole[1001:])
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("x_train,y_train\n")
    elif kind == "folder":
        path.mkdir()
    elif kind == "a single array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "members that are no arrays":
        with ZipFile(path, "w") as file:
            for key in colour_arrays():
                file.writestr(f"{key}.npy", "no array")


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "kind",
    ["cut short", "altered", "empty", "text", "folder", "a single array", "members that are no arrays"],
)
def test_files_that_are_no_npz(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.npz"
    damage(path, kind)
    with pytest.raises(DataError, match="expected an npz file of plain arrays") as caught:
        load_npz(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    del caught
    gc.collect()  # a file that was left open shows here, not in a later test
