"""Epochs that survive their process: continued bit for bit, refused where they are another's, version 0.1.0's read."""

import copy
import json
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Trap, same
from torch import nn

from evonas.data import Augmentation, DevicePart, Part
from evonas.errors import DivergedError, RunMismatchError, StorageError
from evonas.gradient import GradientSearch, SearchData, darts, halves, pdarts
from evonas.spaces import ShuffleSpace
from evonas.training import (
    EpochTraining,
    OneShotConfig,
    OneShotTraining,
    Training,
    TrainingConfig,
    load_checkpoint,
    standard,
    stored_identity,
    train_epochs,
)
from evonas.training.checkpoints import Row, save_checkpoint

pytestmark = pytest.mark.lengthy

CPU = torch.device("cpu")
SPACE = ShuffleSpace(width=1 / 6, depth=0.1)
ONE_SHOT = OneShotConfig(
    block_epochs=1,
    joint_epochs=2,
    resample_epochs=1,
    first_ratio_epochs=1,
    supernet_batch_size=8,
    block_milestones=(),
    joint_milestones=(),
    supernet_precision="fp32",
)
EPOCHS = {"network": 3, "supernet": 3, "cells": 2, "staged cells": 6}
IDENTITY = {"seed": 3, "training": {"epochs": 3, "milestones": (1, 2)}, "data": "digits"}


def images(n: int, size: int, seed: int = 0) -> DevicePart:
    rng = np.random.default_rng(seed)
    return DevicePart(Part(rng.integers(256, size=(n, 3, size, size), dtype=np.uint8), rng.integers(3, size=n)), CPU)


def network(seed: int) -> Training:
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    config = TrainingConfig(epochs=3, batch_size=4, lr=0.1, precision="fp32")
    drawn = torch.Generator().manual_seed(seed)
    return Training(layers, images(10, 4), Augmentation(padding=1), config, standard, drawn)


def supernet(seed: int) -> OneShotTraining:
    torch.manual_seed(seed)
    shared, momentum = SPACE.supernet(3), SPACE.supernet(3)
    return OneShotTraining(SPACE, shared, momentum, images(16, 32), Augmentation(), ONE_SHOT, standard, 5)


def cells(seed: int, stages: bool = False) -> GradientSearch:
    method = pdarts() if stages else darts()
    tiny = tuple(
        replace(stage, epochs=2, weights_only=min(stage.weights_only, 1), channels=4, layers=3)
        for stage in method.stages
    )
    method = replace(method, stages=tiny, nodes=2, config=replace(method.config, search_batch_size=12, alpha_lr=0.05))
    below, above = halves(images(24, 8), 0.5)
    data = SearchData(below, above, images(16, 8, 1), Augmentation(padding=1), 3, ((0.5,) * 3, (0.25,) * 3))
    return GradientSearch(method, data, 0, CPU)


BEGIN: dict[str, Callable[[int], EpochTraining]] = {
    "network": network,
    "supernet": supernet,
    "cells": cells,
    "staged cells": lambda seed: cells(seed, stages=True),
}
"""Training before its first epoch; what it is continued in has begun with another seed."""

every_kind = pytest.mark.parametrize("kind", BEGIN)


def plain(result: Any) -> Row:
    """A row of what `run_epoch` returned."""
    return dict(result) if isinstance(result, dict) else {"loss": result}


def timeless(rows: list[Row]) -> list[Row]:
    assert all(row["seconds"] >= 0 for row in rows)
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@dataclass(frozen=True)
class Whole:
    """A training that nothing has disturbed."""

    rows: list[Row]
    state: dict[str, Any]


@cache
def whole(kind: str) -> Whole:
    training = BEGIN[kind](1)
    rows = train_epochs(training, None, IDENTITY, "a training", plain)
    return Whole(timeless(rows), copy.deepcopy(training.state()))


class Stopped(KeyboardInterrupt):
    """What a signal raises."""


def stop(rows: list[Row]) -> None:
    raise Stopped


@every_kind
@pytest.mark.slow
def test_stopped_after_every_epoch_it_ends_as_if_undisturbed(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for epoch in range(1, EPOCHS[kind] + 1):
        training = BEGIN[kind](1 if epoch == 1 else 7 + epoch)
        with pytest.raises(Stopped):
            train_epochs(training, path, IDENTITY, "a training", plain, on_epoch=stop)
        assert training.epoch == epoch
        assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]
    last = BEGIN[kind](99)
    rows = train_epochs(last, path, IDENTITY, "a training", plain, on_epoch=stop)  # nothing is left to train
    assert last.epoch == last.epochs == EPOCHS[kind]
    assert timeless(rows) == whole(kind).rows
    assert same(last.state(), whole(kind).state)


@pytest.mark.slow
@every_kind
def test_a_checkpoint_changes_nothing_and_ends_with_the_state(kind: str, tmp_path: Path) -> None:
    training, told = BEGIN[kind](1), []
    path = tmp_path / "new folder" / "checkpoint.pt"
    rows = train_epochs(training, path, IDENTITY, "a training", plain, on_epoch=lambda rows: told.append(len(rows)))
    assert told == list(range(1, EPOCHS[kind] + 1))
    assert timeless(rows) == whole(kind).rows
    content = load_checkpoint(path, IDENTITY, "a training")
    assert content is not None
    assert content["rows"] == rows
    assert same(content["state"], whole(kind).state)
    assert list(content) == ["identity", "state", "rows"]


def test_what_is_kept_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    path, told = tmp_path / "checkpoint.pt", list[tuple[int, int]]()
    with pytest.raises(Stopped):
        train_epochs(network(1), path, IDENTITY, "a training", on_epoch=stop)
    training = network(2)
    steps: list[tuple[int, int]] = []
    train_epochs(
        training,
        path,
        IDENTITY,
        "a training",
        on_step=lambda done, total, message: steps.append((done, total)),
        on_begin=lambda rows: told.append((len(rows), training.epoch)),
    )
    assert told == [(1, 1)]
    assert all(1 <= done <= total == 3 for done, total in steps)
    fresh = network(1)
    train_epochs(fresh, None, IDENTITY, "a training", on_begin=lambda rows: told.append((len(rows), fresh.epoch)))
    assert told == [(1, 1), (0, 0)]


def test_an_epoch_that_diverges_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Stopped):
        train_epochs(network(1), path, IDENTITY, "a training", on_epoch=stop)
    before = path.read_bytes()
    training = network(1)
    training.recipe = lambda network, images, labels, drawn: network(images).sum() * float("nan")
    with pytest.raises(DivergedError, match="the loss of epoch 2 is nan"):
        train_epochs(training, path, IDENTITY, "a training")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({**IDENTITY, "seed": 4}, "seed is 3 there, 4 here"),
        ({**IDENTITY, "training": {"epochs": 5, "milestones": (1, 2)}}, "training.epochs is 3 there, 5 here"),
        ({**IDENTITY, "threads": 1}, "threads is nothing there, 1 here"),
        ({"seed": 3}, "data is digits there, nothing here"),
    ],
)
def test_a_checkpoint_of_another_identity_is_refused(other: dict[str, Any], difference: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Stopped):
        train_epochs(network(1), path, IDENTITY, "a training", on_epoch=stop)
    before = path.read_bytes()
    training = network(1)
    with pytest.raises(RunMismatchError, match="belongs to another run: .*" + difference):
        train_epochs(training, path, other, "a training")
    assert (training.epoch, path.read_bytes()) == (0, before)
    assert stored_identity(path, "a training") == json.loads(json.dumps(IDENTITY))


def test_a_file_that_is_no_checkpoint_is_not_trained_over(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    assert load_checkpoint(path, IDENTITY, "a training") is None
    assert stored_identity(path, "a training") == {}
    torch.save({"weights": torch.zeros(3)}, path)
    foreign = path.read_bytes()
    for content in (b"", b"no checkpoint", b"PK\x03\x04 nor this one", foreign, foreign[:-20]):
        path.write_bytes(content)
        with pytest.raises(StorageError, match=r"expected a supernet of evonas in .*; copy it there again, or move"):
            train_epochs(network(1), path, IDENTITY, "a supernet")
        assert path.read_bytes() == content
    path.unlink()
    path.mkdir()
    with pytest.raises(StorageError, match=r"could not read .*: it is not a regular file"):
        load_checkpoint(path, IDENTITY, "a supernet")


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, IDENTITY, {"state": {"weights": torch.arange(40.0)}, "rows": [{"loss": 0.5}]})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(flipped(whole, place))
        with pytest.raises(StorageError, match=f"^expected a supernet of evonas in {path}: .*$"):
            load_checkpoint(path, IDENTITY, "a supernet")
    path.write_bytes(flipped(whole, len(whole) // 2))
    with pytest.raises(StorageError, match=r"it is damaged: the SHA-256 .* a supernet is then begun again"):
        train_epochs(network(1), path, IDENTITY, "a supernet")
    assert path.read_bytes() == flipped(whole, len(whole) // 2)


def test_a_flipped_weight_is_found_in_a_checkpoint_of_version_0_1_0(tmp_path: Path) -> None:
    """It has no checksum of its own, but those of a zip file."""
    path, weights = tmp_path / "checkpoint.pt", torch.arange(40.0)
    torch.save({"identity": json.dumps(IDENTITY), "training": {"weights": weights, "loss": 1.0, "epoch": 1}}, path)
    whole = path.read_bytes()
    start = whole.index(weights.numpy().tobytes())
    assert load_checkpoint(path, IDENTITY, "a training") is not None
    for place in range(start, start + 160, 7):
        path.write_bytes(flipped(whole, place))
        with pytest.raises(StorageError, match=r"it is damaged: the checksum of .*data/0 is not the one"):
            load_checkpoint(path, IDENTITY, "a training")


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    torch.save({"identity": Trap()}, tmp_path / "checkpoint.pt")
    with pytest.raises(StorageError, match="expected a training of evonas"):
        load_checkpoint(tmp_path / "checkpoint.pt", IDENTITY, "a training")
    assert not Trap.sprung


@pytest.fixture
def no_room() -> Iterator[Callable[[int], None]]:
    """Gives files of this process no more than so many bytes, as a disk that is nearly full does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 700, 5000])
def test_a_full_disk_is_said_so_and_the_checkpoint_before_is_kept(
    room: int, no_room: Callable[[int], None], tmp_path: Path
) -> None:
    """However much of the file still finds room: its magic, a part of its first tensor."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, IDENTITY, {"state": {"weights": torch.zeros(10)}, "rows": []})
    before = path.read_bytes()
    no_room(room)
    with pytest.raises(StorageError, match=r"could not write .*checkpoint.pt: File too large; raise the limit"):
        save_checkpoint(path, IDENTITY, {"state": {"weights": torch.zeros(10_000)}, "rows": []})
    no_room(resource.RLIM_INFINITY)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.pt"]


def old_form(kind: str, rows: list[Row], state: dict[str, Any]) -> dict[str, Any]:
    """What version 0.1.0 kept of a training of this kind, beside its identity."""
    if kind == "supernet":
        history = [
            [epoch, "joint", 0.1, "0123456789abcdef", 1_000_000, row["loss"], row["seconds"], "0 1 2"]
            for epoch, row in enumerate(rows, start=1)
        ]
        return {"history": history, **state}
    if kind == "cells":
        return {"search": state, "rows": rows}
    reached = {**state, "loss": rows[-1]["loss"]}
    if kind == "network":
        return {"training": reached, "seconds": sum(row["seconds"] for row in rows)}
    lines = [[epoch, row["loss"], row["seconds"]] for epoch, row in enumerate(rows, start=1)]
    return {"training": reached, "rows": lines, "scores": {"top1_error": {"top1_error": 0.25}}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["network", "network on files", "supernet", "cells"])
def test_a_checkpoint_of_version_0_1_0_is_continued(kind: str, tmp_path: Path) -> None:
    path, part = tmp_path / "checkpoint.pt", kind.split()[0]
    first = BEGIN[part](1)
    rows = [{**plain(first.run_epoch()), "seconds": 1.5}]
    torch.save({"identity": json.dumps(IDENTITY), **old_form(kind, rows, first.state())}, path)
    training = BEGIN[part](7)
    found = train_epochs(training, path, IDENTITY, "a training", plain)
    assert same(training.state(), whole(part).state)
    assert [row.get("loss", row.get("train_loss")) for row in found] == [
        row.get("loss", row.get("train_loss")) for row in whole(part).rows
    ]
    assert found[0]["seconds"] == 1.5
    assert load_checkpoint(path, IDENTITY, "a training").keys() == {"identity", "state", "rows"}  # type: ignore[union-attr]


def test_rows_and_scores_of_version_0_1_0_are_found(tmp_path: Path) -> None:
    path, rows = tmp_path / "checkpoint.pt", [{"loss": 0.5, "seconds": 1.0}, {"loss": 0.25, "seconds": 2.0}]

    def read(kind: str, state: dict[str, Any]) -> dict[str, Any]:
        torch.save({"identity": json.dumps(IDENTITY), **old_form(kind, rows, state)}, path)
        content = load_checkpoint(path, IDENTITY, "a training")
        assert content is not None
        assert stored_identity(path, "a training") == json.loads(json.dumps(IDENTITY))
        return content

    assert read("supernet", {"epoch": 2, "weights": {}})["rows"][1] == {
        "epoch": 2,
        "phase": "joint",
        "learning_rate": 0.1,
        "arch_id": "0123456789abcdef",
        "params": 1_000_000,
        "loss": 0.25,
        "seconds": 2.0,
        "genome": "0 1 2",
    }
    assert read("supernet", {"epoch": 2, "weights": {}})["state"] == {"epoch": 2, "weights": {}}
    assert read("cells", {"epoch": 2})["rows"] == rows
    assert read("cells", {"epoch": 2})["state"] == {"epoch": 2}
    assert read("network", {"epoch": 2})["rows"] == [{"epoch": 2, "loss": 0.25, "seconds": 3.0}]
    on_files = read("network on files", {"epoch": 2})
    assert on_files["rows"] == [{"epoch": 1, "loss": 0.5, "seconds": 1.0}, {"epoch": 2, "loss": 0.25, "seconds": 2.0}]
    assert on_files["scores"] == {"top1_error": {"top1_error": 0.25}}
