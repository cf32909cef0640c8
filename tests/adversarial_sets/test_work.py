"""A half-built set on disk: what is kept, what is made again, and who is refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from evonas.adversarial_sets.work import BuildWork
from evonas.errors import RunInUseError, RunMismatchError, StorageError

IDENTITY = {"seed": 0, "settings": {"thresholds": (1, 3)}, "train": "aa"}
ONE = {"images": np.arange(12, dtype=np.uint8).reshape(2, 6), "sources": np.array([3, 5])}
TWO = {"images": np.zeros((0, 6), dtype=np.uint8), "scale": np.array(2.5)}


def filled(folder: Path) -> Path:
    with BuildWork(folder, IDENTITY) as work:
        work.put("one", {"tried": 4, "seconds": 0.5}, ONE)
        work.put("two", {"tried": 0}, TWO)
    return folder


def same(found: Any, facts: dict[str, Any], arrays: dict[str, Any]) -> bool:
    assert found is not None
    assert found[0] == facts
    assert found[1].keys() == arrays.keys()
    return all(
        found[1][name].dtype == array.dtype and np.array_equal(found[1][name].reshape(array.shape), array)
        for name, array in arrays.items()
    )


def test_what_was_put_is_there_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "set.parts"
    with BuildWork(folder, IDENTITY) as work:
        assert work.get("one") is None
        work.put("one", {"tried": 4, "seconds": 0.5}, ONE)
        assert same(work.get("one"), {"tried": 4, "seconds": 0.5}, ONE)
    filled(tmp_path / "again")
    with BuildWork(tmp_path / "again", IDENTITY) as work:
        assert same(work.get("one"), {"tried": 4, "seconds": 0.5}, ONE)
        assert same(work.get("two"), {"tried": 0}, TWO)
        assert work.get("three") is None


def test_arrays_in_any_layout_are_kept_as_they_are_indexed(tmp_path: Path) -> None:
    turned = np.arange(24, dtype=np.int64).reshape(2, 3, 4).transpose(2, 0, 1)
    with BuildWork(tmp_path / "w", IDENTITY) as work:
        work.put("turned", {}, {"turned": turned})
        assert same(work.get("turned"), {}, {"turned": turned})


def test_the_last_of_two_counts(tmp_path: Path) -> None:
    with BuildWork(filled(tmp_path / "w"), IDENTITY) as work:
        work.put("one", {"tried": 9}, TWO)
    with BuildWork(tmp_path / "w", IDENTITY) as work:
        assert same(work.get("one"), {"tried": 9}, TWO)


def test_files_are_plain(tmp_path: Path) -> None:
    """JSON lines and safetensors; nothing is pickled."""
    folder = filled(tmp_path / "w")
    header, first, second = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    assert header["identity"] == json.loads(json.dumps(IDENTITY))
    assert (first["part"], second["part"]) == ("one", "two")
    content = (folder / "one.safetensors").read_bytes()
    assert first["sha256"] == hashlib.sha256(content).hexdigest()
    assert np.array_equal(load(content)["images"], ONE["images"])


Damage = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    "damage",
    [lambda line: line[:-1], lambda line: line[:20], lambda line: line.replace(b'"tried":0', b'"tried":1')],
    ids=["no-end", "cut", "altered"],
)
def test_a_torn_last_line_costs_its_part_alone(damage: Damage, tmp_path: Path) -> None:
    folder = filled(tmp_path / "w")
    *lines, last = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines) + damage(last))
    with BuildWork(folder, IDENTITY) as work:
        assert same(work.get("one"), {"tried": 4, "seconds": 0.5}, ONE)
        assert work.get("two") is None
    with BuildWork(folder, IDENTITY) as work:
        work.put("two", {"tried": 0}, TWO)
        work.put("three", {"tried": 1}, ONE)
    with BuildWork(folder, IDENTITY) as work:
        for name, facts, arrays in (("two", {"tried": 0}, TWO), ("three", {"tried": 1}, ONE)):
            assert same(work.get(name), facts, arrays)
        assert same(work.get("one"), {"tried": 4, "seconds": 0.5}, ONE)


def test_a_damaged_line_in_the_middle_costs_its_part_alone(tmp_path: Path) -> None:
    folder = filled(tmp_path / "w")
    text = (folder / "ledger.jsonl").read_bytes()
    (folder / "ledger.jsonl").write_bytes(text.replace(b'"tried":4', b'"tried":5'))
    with BuildWork(folder, IDENTITY) as work:
        assert work.get("one") is None
        assert same(work.get("two"), {"tried": 0}, TWO)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:40],
        lambda data: b"",
        lambda data: data + b"\0",
        lambda data: bytes([*data[:-1], data[-1] ^ 1]),
    ],
    ids=["short", "cut", "empty", "long", "bit"],
)
def test_a_damaged_file_is_a_part_that_is_not_there(damage: Damage, tmp_path: Path) -> None:
    folder = filled(tmp_path / "w")
    file = folder / "one.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with BuildWork(folder, IDENTITY) as work:
        assert work.get("one") is None
        assert same(work.get("two"), {"tried": 0}, TWO)
        work.put("one", {"tried": 4}, ONE)
        assert same(work.get("one"), {"tried": 4}, ONE)


def test_a_file_that_is_gone_or_belongs_to_another_part(tmp_path: Path) -> None:
    folder = filled(tmp_path / "w")
    (folder / "one.safetensors").write_bytes((folder / "two.safetensors").read_bytes())
    (folder / "two.safetensors").unlink()
    with BuildWork(folder, IDENTITY) as work:
        assert work.get("one") is None
        assert work.get("two") is None


@pytest.mark.parametrize(
    "damage", [lambda text: text.replace(b'"aa"', b'"ab"'), lambda text: text[40:], lambda text: b"", lambda text: b"x"]
)
def test_without_its_first_line_nothing_is_known_of_any_part(damage: Damage, tmp_path: Path) -> None:
    """They might be of another set; another identity may begin there."""
    folder = filled(tmp_path / "w")
    (folder / "ledger.jsonl").write_bytes(damage((folder / "ledger.jsonl").read_bytes()))
    other = {**IDENTITY, "seed": 7}
    with BuildWork(folder, other) as work:
        assert work.get("one") is None
        work.put("one", {"tried": 1}, TWO)
    with BuildWork(folder, other) as work:
        assert same(work.get("one"), {"tried": 1}, TWO)
    with pytest.raises(RunMismatchError), BuildWork(folder, IDENTITY):
        pass


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "another seed;"),
        ({"settings": {"thresholds": (1, 3, 5)}}, "another settings;"),
        ({"seed": 1, "train": "bb"}, "another seed, train;"),
    ],
)
def test_another_set_is_refused_and_nothing_is_changed(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    folder = filled(tmp_path / "w")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RunMismatchError) as refused, BuildWork(folder, {**IDENTITY, **change}):
        pass
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with BuildWork(folder, IDENTITY) as work:  # the lock was given back
        assert work.get("one") is not None


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with BuildWork(tmp_path / "w", IDENTITY) as first:
        second = BuildWork(tmp_path / "w", IDENTITY)
        with pytest.raises(RunInUseError, match="being written by another process"), second:
            pass
        first.put("one", {}, ONE)
    with BuildWork(tmp_path / "w", IDENTITY) as second:
        assert second.get("one") is not None


def test_an_error_inside_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), BuildWork(tmp_path / "w", IDENTITY):
        raise ZeroDivisionError
    with BuildWork(tmp_path / "w", IDENTITY):
        pass


def test_a_complete_set_leaves_nothing(tmp_path: Path) -> None:
    with BuildWork(filled(tmp_path / "w"), IDENTITY) as work:
        work.remove()
    assert not (tmp_path / "w").exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="could not open") as refused, BuildWork(tmp_path / "file", IDENTITY):
        pass
    assert "\n" not in str(refused.value)
    assert (tmp_path / "file").read_text() == "mine"
