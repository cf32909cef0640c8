"""A user's own images: every accepted layout, and one clear line for everything else."""

import gc
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_LZMA, ZipFile

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
        (without("y_test"), r"in .*own.npz: it lacks y_test; write it with np.savez"),
        (without("x_train", "x_test"), r"it lacks x_train, x_test;"),
        (with_("x_train", lambda x: x / 255), r"expected uint8 images .* got float64 and uint8 from 0 to 255; scale"),
        (with_("x_train", lambda x: x.astype(np.int64)), r"expected uint8 images .*got int64 and uint8"),
        (with_("x_train", lambda x: x[:, :0, :0]), r"expected uint8 images .*got uint8 \(80, 0, 0, 3\)"),
        (with_("x_train", lambda x: x > 9), r"expected uint8 images .*got bool"),
        (with_("x_test", lambda x: x.reshape(8, -1)), r"expected uint8 images .* test, got uint8 \(8, 192\)"),
        (with_("x_train", lambda x: x[:0]), r"expected uint8 images .*got uint8 \(0, 8, 8, 3\)"),
        (with_("x_train", lambda x: x[:, :6]), r"expected square images .*got \(3, 6, 8\)"),
        (with_("x_train", lambda x: x.repeat(2, axis=3)), r"with 1 or 3 channels"),
        (with_("x_test", lambda x: x[:, :6, :6]), r"images of one size .*got \(3, 8, 8\) and \(3, 6, 6\)"),
        (
            with_("y_train", lambda y: y[:-1]),
            r"expected 80 integer labels >= 0 .* train, got int64 of shape \(79,\)",
        ),
        (with_("y_train", lambda y: y[:, None, None]), r"expected 80 integer labels .*shape \(80, 1, 1\)"),
        (with_("y_train", lambda y: np.eye(2)[y] * 2), r"or one-hot rows, got float64 of shape \(80, 2\); number"),
        (with_("y_train", lambda y: np.eye(2)[y] - 0.5), r"or one-hot rows, got float64 of shape \(80, 2\)"),
        (with_("y_train", lambda y: y.astype(str)), r"expected 80 integer labels .*got <U"),
        (with_("y_train", lambda y: y + 7), r"got 0 of class 0; number the classes 0 to K-1"),
        (with_("y_train", lambda y: y * 0), r"at least 2 classes in npz:own.npz, all 80 training labels are 0"),
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


def both(key: str, change: Callable[[np.ndarray], Any], **others: Any) -> Arrays:
    """The arrays with KEY_train and KEY_test changed."""
    arrays = colour_arrays()
    return {**arrays, **{f"{key}_{part}": change(arrays[f"{key}_{part}"]) for part in ("train", "test")}, **others}


CONVERTED: dict[str, tuple[Arrays, str]] = {
    "floats in [0, 1]": (
        both("x", lambda x: (x / 255).astype(np.float32)),
        "float32 images in [0, 1] taken times 255, as 8 bits",
    ),
    "floats in [0, 255]": (both("x", lambda x: x.astype(np.float64)), "float64 images in [0, 255] taken as 8 bits"),
    "int64": (both("x", lambda x: x.astype(np.int64)), "int64 images in [0, 255] taken as 8 bits"),
    "labels 1 to K": (both("y", lambda y: y + 1), "labels 1 to 2 taken as 0 to 1"),
    "one-hot": (both("y", lambda y: np.eye(2)[y]), "one-hot labels taken as numbers of their columns"),
    "one-hot, bool": (both("y", lambda y: np.eye(2)[y] > 0), "one-hot labels taken as numbers of their columns"),
    "a column": (both("y", lambda y: y[:, None]), ""),
}


@pytest.mark.parametrize("kind", CONVERTED)
def test_other_scales_and_labels_are_taken_and_said(kind: str, tmp_path: Path) -> None:
    arrays, note = CONVERTED[kind]
    found, plain = load_data(str(saved(tmp_path, arrays))), load_data(str(saved(tmp_path, colour_arrays())))
    assert found == plain
    assert (found.converted, plain.converted) == (f"data: {note}" if note else "", "")


@pytest.mark.parametrize(
    "change", [lambda x: x / 127.5 - 1, lambda x: x * 257.0, lambda x: x * np.nan, lambda x: (x > 9).astype(int)]
)
def test_images_on_another_scale_are_one_clear_line(change: Callable[[np.ndarray], Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"numbers in \[0, 255\], got \w+ from .* to .*; scale them, without norm"):
        load_npz(saved(tmp_path, both("x", change)))


def test_grey_images_of_28_pixels_are_taken(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.random((88, 28, 28))
    data = load_data(str(saved(tmp_path, {**colour_arrays(), "x_train": images[:80], "x_test": images[80:]})))
    assert (data.image_size, data.test.images.shape) == (28, (8, 3, 28, 28))
    assert np.array_equal(data.test.images[:, 0], np.rint(images[80:] * 255))


def header(shape: str, kind: str = "|u1") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


HEADERS = {
    "11 TiB": header("(1000000, 3, 2000, 2000)"),
    "an overflow": header("(4294967296, 4294967296)"),
    "less than there is": header("(1,)"),
    "negative": header("(-1, 3, 8, 8)"),
    "words": header("'abc'"),
    "floats": header("(1.5,)"),
    "torn": header("(80, 8"),
    "open": header("(80, 8, 8, 3), 'x': '"),
    "unbalanced": b"\x93NUMPY\x01\x00\x05\x00{'a'(",
    "longer than the file": b"\x93NUMPY\x01\x00\xff\xff{",
    "version 3": b"\x93NUMPY\x03\x00" + header("(1,)")[8:],
    "objects": header("(8,)", "|O"),
    "a type of 2 GB": header("(80,)", "|V2000000000"),
    "nested": header("(" * 300 + ")" * 300),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_that_lie_are_one_clear_line_in_bounded_memory(kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path, without("x_train"))
    with ZipFile(path, "a") as file:
        file.writestr("x_train.npy", HEADERS[kind] + bytes(500))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"expected an npz file of plain arrays in .*own.npz: ") as caught:
            load_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_an_archive_that_promises_more_than_it_holds_is_refused_unread(tmp_path: Path) -> None:
    """Sizes in the directory, not in the array's header."""
    path = saved(tmp_path, without("x_train"))
    content = header("(1000000, 3, 2000, 2000)") + bytes(500)
    with ZipFile(path, "a") as file:
        file.writestr("x_train.npy", content)
        file.getinfo("x_train.npy").file_size = 12_000_000_000_000 + len(content) - 500
    with pytest.raises(DataError, match=r"x_train promises 120000000000.. bytes, more than the file can hold"):
        load_npz(path)


@pytest.mark.parametrize("method", [ZIP_LZMA, ZIP_BZIP2])
def test_compression_that_numpy_never_writes(method: int, tmp_path: Path) -> None:
    path = saved(tmp_path, without("x_train"))
    with ZipFile(path, "a", method) as file:
        file.writestr("x_train.npy", header("(500,)") + bytes(500))
    with pytest.raises(DataError, match="x_train is compressed in a way that NumPy never writes"):
        load_npz(path)


def test_encrypted_and_unknown_compression(tmp_path: Path) -> None:
    whole = saved(tmp_path, colour_arrays()).read_bytes()
    directory = whole.index(b"PK\x01\x02")
    for place, value, message in ((8, 1, "encrypted"), (10, 99, "in a way that NumPy never writes")):
        altered = bytearray(whole)
        altered[directory + place] = value
        altered[place - 2] = value
        (tmp_path / "own.npz").write_bytes(altered)
        with pytest.raises(DataError, match=message):
            load_npz(tmp_path / "own.npz")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    labels = np.empty(80, dtype=object)
    labels[:] = Trap()
    path = saved(tmp_path, {**colour_arrays(), "y_train": labels})
    with pytest.raises(DataError, match="expected an npz file of plain arrays"):
        load_npz(path)
    assert not Trap.sprung


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"expected an npz file of plain arrays in .*nowhere\.npz: there is no such file"
    ):
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
    elif kind == "pipe":
        os.mkfifo(path)  # opening it would wait for a writer
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
    ["cut short", "altered", "empty", "text", "folder", "pipe", "a single array", "members that are no arrays"],
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
