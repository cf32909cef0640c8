"""The loader of adversarial sets against damaged, forged and foreign files: one line, nothing run, memory bounded."""

import io
import json
import os
import pickle
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import safetensors.numpy
from helpers import Trap
from hypothesis import given, settings
from hypothesis import strategies as st
from test_format import arrays_of, card_text, smallest_set, tiny_set, written

from evonas.adversarial_sets.card import Card
from evonas.adversarial_sets.contents import AdversarialSet, Piece, assemble
from evonas.adversarial_sets.format import LARGEST_FILE, load_adversarial_set, save_adversarial_set
from evonas.errors import DataError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the smallest set, `whole`, and its card."""
    folder = tmp_path_factory.mktemp("saved")
    save_adversarial_set(folder / "whole", smallest_set())
    return folder


@pytest.fixture(scope="module")
def whole(saved: Path) -> bytes:
    return (saved / "whole.safetensors").read_bytes()


def head_of(data: bytes) -> int:
    """Bytes before the arrays."""
    return 8 + int.from_bytes(data[:8], "little")


def refusal(path: Path) -> str | None:
    """The one line that the loader gives, or None where it loads the set. Any other exception is let through."""
    try:
        load_adversarial_set(path)
    except DataError as error:
        line = str(error)
        assert line.isprintable()
        assert str(path.with_suffix("")) in line
        assert "; copy " in line
        return line
    return None


def refusal_of(data: bytes, path: Path) -> str | None:
    path.write_bytes(data)
    return refusal(path)


@contextmanager
def peak_below(limit: int) -> Iterator[None]:
    """Python's and NumPy's memory inside stays below `limit` bytes above what was there."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def flipping(path: Path, step: int) -> Iterator[int]:
    """Flips every `step`-th bit of a file in place, one at a time; at the end the file is as it was."""
    data = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for bit in range(0, 8 * len(data), step):
            place = bit // 8
            os.pwrite(file.fileno(), bytes([data[place] ^ 1 << bit % 8]), place)
            yield bit
            os.pwrite(file.fileno(), data[place : place + 1], place)


@pytest.mark.slow
def test_every_single_bit_of_a_file_alone_counts(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "alone.safetensors"
    path.write_bytes(whole)
    assert [bit for bit in flipping(path, 1) if refusal(path) is None] == []
    assert refusal(path) is None


@pytest.mark.lengthy
@pytest.mark.parametrize(("of_file", "of_card"), [(101, 17), pytest.param(17, 3, marks=pytest.mark.slow)])
def test_flipped_bits_beside_the_card(of_file: int, of_card: int, saved: Path, whole: bytes, tmp_path: Path) -> None:
    """At full size every 17th bit of the file and every third of the card; no flip turns white space into other."""
    path, card = tmp_path / "a.safetensors", tmp_path / "a.json"
    described = (saved / "whole.json").read_bytes()
    path.write_bytes(whole)
    card.write_bytes(described)
    assert [bit for bit in flipping(path, of_file) if refusal(path) is None] == []
    assert [bit for bit in flipping(card, of_card) if refusal(path) is None] == []
    assert refusal(path) is None


def test_an_image_that_changed_is_named_as_damage(whole: bytes, tmp_path: Path) -> None:
    """The hash is looked at before what the arrays mean."""
    for place in range(head_of(whole), len(whole)):
        altered = whole[:place] + bytes([whole[place] ^ 0x80]) + whole[place + 1 :]
        line = str(refusal_of(altered, tmp_path / "a.safetensors"))
        assert "it is damaged: the SHA-256 of its contents is not the one stored in it; copy it" in line


def test_truncated_anywhere(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole)
    accepted = []
    for length in reversed(range(len(whole))):
        os.truncate(path, length)
        if refusal(path) is None:
            accepted.append(length)
    assert accepted == []


@pytest.mark.parametrize("extra", [b"\0", b" ", b"\n", b"{}", bytes(4096), "twice"])
def test_appended_and_prepended_bytes(extra: bytes | str, whole: bytes, tmp_path: Path) -> None:
    added = whole if isinstance(extra, str) else extra
    assert "bytes of arrays" in str(refusal_of(whole + added, tmp_path / "a.safetensors"))
    if added != whole:
        assert refusal_of(added + whole, tmp_path / "a.safetensors")


@pytest.mark.lengthy
@settings(max_examples=200)
@given(st.data())
def test_any_edits(saved: Path, whole: bytes, data: st.DataObject) -> None:
    """Bytes overwritten, removed and inserted at several places at once."""
    edited = whole
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(edited)))
        end = data.draw(st.integers(start, min(len(edited), start + 40)))
        edited = edited[:start] + data.draw(st.binary(max_size=40)) + edited[end:]
    assert (refusal_of(edited, saved / "edited.safetensors") is None) == (edited == whole)


@settings(max_examples=150)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes(saved: Path, text: bytes, framed: bool) -> None:
    """Random bytes, by themselves and as a header of the right length."""
    data = len(text).to_bytes(8, "little") + text if framed else text
    assert refusal_of(data, saved / "random.safetensors")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.lengthy
@settings(max_examples=200)
@given(st.data())
def test_cards_with_any_values_and_a_valid_hash(saved: Path, data: st.DataObject) -> None:
    """One or two fields of the card in the file hold any JSON at all; NaN and infinities as Python writes them."""
    the_set = smallest_set()
    card = json.loads(card_text(the_set.card))
    for _ in range(data.draw(st.integers(1, 2))):
        place: Any = card
        while True:
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
            if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
                break
            place = place[key]
        place[key] = data.draw(JSON_VALUES)
    text = json.dumps(card, separators=(",", ":"))
    path = saved / "any_card.safetensors"
    path.write_bytes(written(arrays_of(the_set), text))
    if refusal(path) is None:
        assert card_text(load_adversarial_set(path).card) == text


@pytest.mark.lengthy
@settings(max_examples=200)
@given(st.data())
def test_any_integers_with_a_valid_hash(saved: Path, data: st.DataObject) -> None:
    """Records, labels and sources changed at will: refused, or a set that keeps every rule."""
    the_set = tiny_set()
    arrays = {name: array.copy() for name, array in arrays_of(the_set).items()}
    for _ in range(data.draw(st.integers(1, 3))):
        array = arrays[data.draw(st.sampled_from(["labels", "records", "source_index"]))]
        value = data.draw(st.integers(-2, 7) | st.integers(-(2**63), 2**63 - 1))
        array.flat[data.draw(st.integers(0, array.size - 1))] = value
    path = saved / "integers.safetensors"
    path.write_bytes(written(arrays, card_text(the_set.card)))
    if refusal(path) is None:
        again = load_adversarial_set(path)
        assert all(np.array_equal(getattr(again, name), array) for name, array in arrays.items())
        assert set(again.records[:, 4].tolist()) == set(again.source_index.tolist()) <= set(range(6))
        assert again.records[:, 1:4].tolist() == the_set.records[:, 1:4].tolist() or (
            sorted(again.records[:, 1:4].tolist()) == sorted(the_set.records[:, 1:4].tolist())
        )


def header_with(whole: bytes, change: Callable[[dict[str, Any]], object], body: bytes | None = None) -> bytes:
    """The file with its header's JSON changed, and still aligned."""
    end = head_of(whole)
    header = json.loads(whole[8:end])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + (whole[end:] if body is None else body)


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], object]:
    def change(header: Any) -> None:
        for step in path[:-1]:
            header = header[step]
        header[path[-1]] = value

    return change


def size(whole: bytes) -> int:
    return len(whole) - head_of(whole)


def without_pixels(whole: bytes, shape: list[int]) -> bytes:
    """The file with no bytes of images, and a shape that fits none."""
    start, end = json.loads(whole[8 : head_of(whole)])["images"]["data_offsets"]
    body = whole[head_of(whole) :]

    def change(header: dict[str, Any]) -> None:
        header["images"].update(shape=shape, data_offsets=[start, start])
        header["sources"]["data_offsets"] = [start, start + 32]

    return header_with(whole, change, body[:start] + body[end:])


HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "length 2^64 - 1": lambda whole: struct.pack("<Q", 2**64 - 1) + whole[8:],
    "length 2^63": lambda whole: struct.pack("<Q", 2**63) + whole[8:],
    "length 100 MB": lambda whole: struct.pack("<Q", 10**8) + whole[8:],
    "length of the whole file": lambda whole: struct.pack("<Q", len(whole)) + whole[8:],
    "length 0": lambda whole: struct.pack("<Q", 0) + whole[8:],
    "huge shape": lambda whole: header_with(whole, put("images", "shape", value=[2**62, 3, 2, 2])),
    "shape that overflows to the right size": lambda whole: header_with(
        whole, put("images", "shape", value=[2**62 + 1, 3, 2, 2])
    ),
    "shape 10^400": lambda whole: header_with(whole, put("images", "shape", value=[10**400, 3, 2, 2])),
    "negative shape": lambda whole: header_with(whole, put("images", "shape", value=[-1, 3, 2, 2])),
    "shape of zeros and 2^62": lambda whole: header_with(whole, put("images", "shape", value=[0, 2**62, 2**62, 2])),
    "no pixels, 2^63 rows": lambda whole: without_pixels(whole, [0, 2**63, 1, 1]),
    "no pixels, 2^64 - 1 columns": lambda whole: without_pixels(whole, [1, 0, 1, 2**64 - 1]),
    "no pixels at all": lambda whole: without_pixels(whole, [0, 3, 2, 2]),
    "shape in floats": lambda whole: header_with(whole, put("images", "shape", value=[1.0, 3.0, 2.0, 2.0])),
    "shape in words": lambda whole: header_with(whole, put("images", "shape", value="1322")),
    "no shape": lambda whole: header_with(whole, lambda header: header["images"].pop("shape")),
    "huge offsets": lambda whole: header_with(whole, put("images", "data_offsets", value=[0, 2**62])),
    "backward offsets": lambda whole: header_with(whole, put("sources", "data_offsets", value=[size(whole), 0])),
    "one offset": lambda whole: header_with(whole, put("sources", "data_offsets", value=[size(whole)])),
    "offsets in words": lambda whole: header_with(whole, put("sources", "data_offsets", value="ab")),
    "an offset that is a list": lambda whole: header_with(whole, put("sources", "data_offsets", value=[0, [1]])),
    "overlapping": lambda whole: header_with(whole, put("images", "data_offsets", value=[0, 12])),
    "another type": lambda whole: header_with(whole, put("images", "dtype", value="BF16")),
    "an unknown type": lambda whole: header_with(whole, put("images", "dtype", value="F3")),
    "a type that is a list": lambda whole: header_with(whole, put("images", "dtype", value=["U8"])),
    "an array that is a number": lambda whole: header_with(whole, put("images", value=7)),
    "an array more": lambda whole: header_with(
        whole, put("more", value={"dtype": "U8", "shape": [0], "data_offsets": [0, 0]})
    ),
    "an array less": lambda whole: header_with(whole, lambda header: header.pop("sources")),
    "no metadata": lambda whole: header_with(whole, lambda header: header.pop("__metadata__")),
    "metadata that is a list": lambda whole: header_with(whole, put("__metadata__", value=["card", "sha256"])),
    "metadata with more": lambda whole: header_with(whole, put("__metadata__", "more", value="x")),
    "a card that is no text": lambda whole: header_with(whole, put("__metadata__", "card", value=7)),
    "a hash that is no text": lambda whole: header_with(whole, put("__metadata__", "sha256", value=None)),
    "another order": lambda whole: header_with(whole, lambda header: header.update({"labels": header.pop("labels")})),
    "another key order inside": lambda whole: header_with(
        whole, lambda header: header["labels"].update({"dtype": header["labels"].pop("dtype")})
    ),
    "a header that is a list": lambda whole: header_with(whole, lambda header: None)[:8] + b"[" + whole[9:],
    "a space more": lambda whole: (
        struct.pack("<Q", head_of(whole)) + whole[8 : head_of(whole)] + b" " * 8 + whole[head_of(whole) :]
    ),
    "not UTF-8": lambda whole: whole.replace(b"digests", b"digest\xff").replace(b"tiny", b"tin\xff"),
    "NaN": lambda whole: whole.replace(b'"shape":[1]', b'"shape":NaN', 1),
    "a key twice": lambda whole: whole.replace(b'"images":', b'"labels":', 1),
    "nested 100,000 deep": lambda whole: struct.pack("<Q", 200_000) + b"[" * 100_000 + b"]" * 100_000,
    "nested objects": lambda whole: struct.pack("<Q", 500_001) + b'{"a":' * 100_000 + b"1",
    "a number of a million digits": lambda whole: struct.pack("<Q", 10**6) + b"1" * 10**6,
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_that_lie(kind: str, whole: bytes, tmp_path: Path) -> None:
    data = HEADERS[kind](whole)
    assert data != whole
    (tmp_path / "a.safetensors").write_bytes(data)
    with peak_below(16 * 2**20):
        assert refusal(tmp_path / "a.safetensors") is not None


def npz() -> bytes:
    out = io.BytesIO()
    objects = np.empty(2, dtype=object)
    objects[:] = Trap()
    np.savez(out, images=np.zeros((2, 3, 2, 2), np.uint8), labels=objects)
    return out.getvalue()


def zipped_pickle() -> bytes:
    """As torch.save lays a file out."""
    out = io.BytesIO()
    with ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Trap()))
    return out.getvalue()


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(b"\0\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)) + chunk(b"IDAT", pixels)


FOREIGN: dict[str, Callable[[], bytes]] = {
    "empty": bytes,
    "one byte": lambda: b"\0",
    "eight zeros": lambda: bytes(8),
    "text": lambda: b"a set of adversarial images\n" * 100,
    "JSON": lambda: card_text(tiny_set().card).encode(),
    "npz with objects": npz,
    "pickle": lambda: pickle.dumps(Trap()),
    "pickle behind a length": lambda: struct.pack("<Q", len(pickle.dumps(Trap()))) + pickle.dumps(Trap()),
    "zipped pickle": zipped_pickle,
    "PNG": png,
    "zeros": lambda: bytes(100_000),
    "weights of a network": lambda: safetensors.numpy.save({"conv.weight": np.zeros((8, 3, 3, 3), np.float32)}),
    "weights with metadata": lambda: safetensors.numpy.save({"w": np.zeros(3, np.float32)}, {"format": "pt"}),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files(kind: str, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    assert refusal_of(FOREIGN[kind](), path)
    (tmp_path / "foreign.json").write_bytes((saved / "whole.json").read_bytes())
    assert refusal(path)
    assert not Trap.sprung


def test_a_pickled_card_is_not_unpickled(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(whole)
    (tmp_path / "a.json").write_bytes(pickle.dumps(Trap()))
    assert "a.json to describe a.safetensors" in str(refusal(tmp_path / "a.safetensors"))
    assert not Trap.sprung


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    os.mkfifo(tmp_path / "pipe.safetensors")  # opening it would wait for a writer
    (tmp_path / "device.safetensors").symlink_to("/dev/zero")
    (tmp_path / "loop.safetensors").symlink_to(tmp_path / "loop.safetensors")
    (tmp_path / "nowhere.safetensors").symlink_to(tmp_path / "none")
    (tmp_path / "file").touch()
    for name in ("folder", "pipe", "device"):
        assert "it is not a regular file" in str(refusal(tmp_path / f"{name}.safetensors"))
    for name in ("loop", "nowhere", "file/inside", "x" * 300):
        assert refusal(tmp_path / f"{name}.safetensors")
    with pytest.raises(DataError, match="null byte"):
        load_adversarial_set("a\0b")


def test_a_path_in_several_lines_is_still_one_line() -> None:
    with pytest.raises(DataError) as caught:
        load_adversarial_set("first\nsecond\x1b[31m")
    assert str(caught.value).isprintable()


def test_a_file_that_cannot_be_read(whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system refuses it, whoever runs the test."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(whole)

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert "Permission denied" in str(refusal(path))


@pytest.mark.parametrize(
    "name", ["folder", "pipe", "text", "long", "deep", "huge number", "latin", "NaN", "list", "twice"]
)
def test_cards_that_are_none(name: str, saved: Path, whole: bytes, tmp_path: Path) -> None:
    path, card = tmp_path / "a.safetensors", tmp_path / "a.json"
    path.write_bytes(whole)
    text = (saved / "whole.json").read_text()
    if name == "folder":
        card.mkdir()
    elif name == "pipe":
        os.mkfifo(card)
    else:
        card.write_bytes(
            {
                "text": b"a card",
                "long": text.encode() + b" " * 2**23,
                "deep": b"[" * 100_000 + b"]" * 100_000,
                "huge number": text.replace('"seed": 0', f'"seed": {"9" * 5000}').encode(),
                "latin": text.replace("tiny", "t\xefny").encode("latin-1"),
                "NaN": text.replace('"seconds": 0.5', '"seconds": NaN').encode(),
                "list": f"[{text}]".encode(),
                "twice": text.replace('"seed": 0', '"seed": 0, "seed": 0', 1).encode(),
            }[name]
        )
        assert card.read_text("latin-1") != text
    with peak_below(16 * 2**20):
        line = refusal(path)
    assert "a.json to describe a.safetensors" in str(line)
    assert "or remove the card" in str(line)
    if card.is_dir():
        card.rmdir()
    else:
        card.unlink()
    assert refusal(path) is None


CARD_TEXTS: dict[str, Callable[[str], str]] = {
    "laid out otherwise": lambda text: json.dumps(json.loads(text)),
    "an integer for a float": lambda text: text.replace('"width":0.25', '"width":1'),
    "a float in other digits": lambda text: text.replace('"seconds":0.5', '"seconds":0.50'),
    "a letter as an escape": lambda text: text.replace('"tiny"', '"t\\u0069ny"'),
    "a key twice": lambda text: text.replace('"seed":0', '"seed":0,"seed":0'),
    "deep": lambda text: "[" * 100_000 + "]" * 100_000,
    "half deep": lambda text: text.replace('"seed":0', f'"seed":{"[" * 400}{"]" * 400}'),
    "infinite": lambda text: text.replace('"seconds":0.5', '"seconds":1e999'),
    "Infinity": lambda text: text.replace('"seconds":0.5', '"seconds":Infinity'),
    "a huge integer": lambda text: text.replace('"seed":0', f'"seed":{"9" * 4000}'),
    "an integer beyond its digits": lambda text: text.replace('"seed":0', f'"seed":{"9" * 5000}'),
    "half a letter": lambda text: text.replace('"tiny"', '"\\ud800"'),
    "empty": lambda text: "",
    "null": lambda text: "null",
    "another version": lambda text: text.replace("adversarial set 1", "adversarial set 2"),
}


@pytest.mark.parametrize("depth", range(50, 1001, 50))
def test_a_card_nested_about_as_deep_as_python_goes(depth: int, tmp_path: Path) -> None:
    """Deep enough to be read as JSON and too deep to be shown is one line, too."""
    the_set = smallest_set()
    text = card_text(the_set.card).replace('"seed":0', f'"seed":{"[" * depth}{"]" * depth}')
    assert refusal_of(written(arrays_of(the_set), text), tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", CARD_TEXTS)
def test_card_texts_with_a_valid_hash(kind: str, tmp_path: Path) -> None:
    the_set = smallest_set()
    text = card_text(the_set.card)
    changed = CARD_TEXTS[kind](text)
    assert changed != text
    assert refusal_of(written(arrays_of(the_set), changed), tmp_path / "a.safetensors")


def test_a_file_above_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.truncate(LARGEST_FILE + 1)  # takes no room on the disk
    with peak_below(2**20):
        assert "the limit is 4294967296" in str(refusal(path))


@pytest.mark.parametrize("prefix", [bytes(8), struct.pack("<Q", 2**31), b"\x80\x04pickle"])
def test_a_large_foreign_file_is_refused_by_its_first_bytes(prefix: bytes, tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.write(prefix)
        file.truncate(3 * 2**30)
    with peak_below(2**20):
        assert refusal(path)


def test_memory_is_bounded_by_the_files_size(tmp_path: Path) -> None:
    """The file's bytes and its arrays: twice its size, and less than half of it for all else."""
    rng = np.random.default_rng(1)
    clean = rng.integers(256, size=(1500, 3, 32, 32), dtype=np.uint8)
    pieces = [
        Piece(
            target=0,
            attack="L0",
            threshold=1,
            images=clean ^ np.uint8(1),
            labels=np.arange(1500) % 3,
            sources=np.arange(1500),
        ),
    ]
    contents, card = assemble(pieces, clean), smallest_set().card
    counts: dict[str, Any] = {**contents.counts()}
    large = replace(
        card,
        data=replace(card.data, image_size=32, adversarial_images=1500),
        cells=(replace(card.cells[0], tried=1500, successful=1500),),
        **counts,
    )
    save_adversarial_set(tmp_path / "large", AdversarialSet(*contents, card=large))
    length = (tmp_path / "large.safetensors").stat().st_size
    assert length > 1500 * 3072
    with peak_below(length * 5 // 2):
        load_adversarial_set(tmp_path / "large")


def test_the_card_of_the_smallest_set_is_what_the_texts_above_change() -> None:
    text = card_text(smallest_set().card)
    assert Card.from_json(json.loads(text)) == smallest_set().card
    assert all(change(text) != text for change in CARD_TEXTS.values())
