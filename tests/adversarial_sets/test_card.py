"""The card of an adversarial set: what it refuses, what it warns of, and RoCo-NAS's own Table I in its layout."""

import json
import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evonas.adversarial_sets.card import AttackCell, Card, CardData, Target
from evonas.adversarial_sets.card_page import card_markdown
from evonas.errors import DataError

TABLE_I = {
    "DenseNet": {"L0": (133, 178, 201, 285), "Linf": (76, 85, 93, 143)},
    "LeNet": {"L0": (444, 529, 571, 651), "Linf": (274, 279, 289, 329)},
    "ResNet": {"L0": (220, 304, 367, 478), "Linf": (91, 102, 129, 190)},
    "VGG-16": {"L0": (440, 506, 541, 627), "Linf": (289, 296, 307, 344)},
}
"""Successful samples at thresholds 1, 3, 5 and 10 (RoCo-NAS, Table I), 9,791 in all."""


def data(**changes: Any) -> CardData:
    values = {
        "name": "cifar10",
        "n_classes": 10,
        "image_size": 32,
        "mean": (0.49, 0.48, 0.45),
        "deviation": (0.25, 0.24, 0.26),
        "train_images": 42500,
        "adversarial_images": 2500,
        "train_fingerprint": "aa",
        "adversarial_fingerprint": "bb",
        "split_seed": 5,
    }
    return CardData(**{**values, **changes})


def target(name: str = "LeNet", **changes: Any) -> Target:
    values = {
        "name": name,
        "width": 1.0,
        "params": 62006,
        "macs": 650_000,
        "epochs": 10,
        "lr": 0.1,
        "batch_size": 128,
        "recipe": "SGD, Nesterov momentum 0.9",
        "train_images": 42500,
        "clean_accuracy": 0.625,
        "adversarial_part_accuracy": 0.5,
    }
    return Target(**{**values, **changes})


def cell(target: str, attack: str, threshold: int, successful: int, **changes: Any) -> AttackCell:
    unit = 1 if attack == "L0" else 255
    values = {
        "algorithm": "de" if attack == "L0" else "cma",
        "population": 400,
        "generations": 100,
        "tried": 1000,
        "epsilon_used": threshold / unit,
        "epsilon_mean": 0.5 / unit,
        "evaluations": 123456,
        "seconds": 7.25,
    }
    return AttackCell(target=target, attack=attack, threshold=threshold, successful=successful, **{**values, **changes})


def paper_card(**changes: Any) -> Card:
    """Table I as a card; targets stand in another order than the table's."""
    cells = tuple(
        cell(name, attack, threshold, count)
        for name, parts in TABLE_I.items()
        for attack, counts in parts.items()
        for threshold, count in zip((1, 3, 5, 10), counts, strict=True)
    )
    values = {
        "name": "RoCo-NAS, Table I",
        "data": data(),
        "preset": "paper",
        "seed": 3,
        "seeds": {"attacks": 2**62},
        "device": "cuda",
        "precision": "bf16",
        "threads": 4,
        "targets": (target("VGG-16", depth=16), target("ResNet", depth=20), target("LeNet"), target("DenseNet")),
        "cells": cells,
        "images": 9000,
        "images_l0": 6000,
        "images_linf": 3100,
        "records": 9791,
        "sources": 2400,
        "versions": {"python": "3.11", "torch": "2.6"},
        "created_by": "evonas 0.1.0",
    }
    return Card(**{**values, **changes})


def test_table_one_is_laid_out_as_in_the_paper() -> None:
    page = card_markdown(paper_card()).split("\n")
    start = page.index("## Successful samples")
    table = [line for line in page[start : page.index("## Successful / tried")] if line.startswith("|")]
    assert table == [
        "| Target | L0 1 | L0 3 | L0 5 | L0 10 | Linf 1 | Linf 3 | Linf 5 | Linf 10 | Total |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| DenseNet | 133 | 178 | 201 | 285 | 76 | 85 | 93 | 143 | 1,194 |",
        "| LeNet | 444 | 529 | 571 | 651 | 274 | 279 | 289 | 329 | 3,366 |",
        "| ResNet | 220 | 304 | 367 | 478 | 91 | 102 | 129 | 190 | 1,881 |",
        "| VGG-16 | 440 | 506 | 541 | 627 | 289 | 296 | 307 | 344 | 3,350 |",
        "| Total | 1,237 | 1,517 | 1,680 | 2,041 | 730 | 762 | 818 | 1,006 | 9,791 |",
    ]
    assert "| LeNet | 444 / 1000 | 529 / 1000 | 571 / 1000 | 651 / 1000 | 274 / 1000 | " in "\n".join(page)
    assert page[-1] == ""


def test_the_page_says_what_is_measured_and_everything_on_the_card() -> None:
    page = card_markdown(paper_card(), fingerprint="f1f1", sha256="5a5a")
    assert page.startswith("# RoCo-NAS, Table I\n\nThis set measures **transferred, not white-box, robustness**")
    assert "Warning" not in page
    for each in (
        "| VGG-16 | 1 | 16 | 62,006 | 650,000 | 42,500 | 10 | 0.1 | 128 | 0.625 | 0.5 | SGD, Nesterov",
        "| LeNet | 1 | – | 62,006 |",
        "| LeNet | Linf | 3 | cma | 400 | 100 | 3/255 | 0.5/255 | 123,456 | 7.2 |",
        "| ResNet | L0 | 10 | de | 400 | 100 | 10 px | 0.5 px | 123,456 | 7.2 |",
        "9000 distinct, 6000 of them in L0 and 3100 in Linf; 9791 records",
        "2400 of the 2500 clean images in the adversarial part of cifar10 (fingerprint bb)",
        "the train part, 42500 images (fingerprint aa)",
        "mean 0.49, 0.48, 0.45 and deviation 0.25, 0.24, 0.26",
        "preset: paper",
        "cuda in bf16 with 4 threads",
        "everything 3, split of the data 5, attacks 461168",
        "python 3.11, torch 2.6",
        "created by: evonas 0.1.0",
        "fingerprint: f1f1",
        "SHA-256 of the file: 5a5a",
    ):
        assert each in page


def test_other_thresholds_and_cells_that_were_not_attacked() -> None:
    cells = (cell("LeNet", "Linf", 2, 7), cell("LeNet", "L0", 100, 0), cell("ResNet", "L0", 2, 5))
    card = paper_card(
        cells=cells, targets=(target(), target("ResNet")), records=12, images=12, images_l0=5, images_linf=7, sources=9
    )
    assert (
        "| Target | L0 2 | L0 100 | Linf 2 | Total |\n| --- | --- | --- | --- | --- |\n"
        "| LeNet | – | 0 | 7 | 7 |\n| ResNet | 5 | – | – | 5 |\n| Total | 5 | 0 | 7 | 12 |\n"
    ) in card_markdown(card)


def test_text_cannot_break_the_page() -> None:
    card = paper_card(
        name="a|b <script>",
        targets=(target("Le|Net", recipe="`x` | *y*"),),
        cells=(),
        records=0,
        images=0,
        images_l0=0,
        images_linf=0,
        sources=0,
    )
    page = card_markdown(card)
    assert "# a\\|b \\<script\\>\n" in page
    assert "| Le\\|Net |" in page
    assert "\\`x\\` \\| \\*y\\* |" in page


@pytest.mark.parametrize(
    ("images", "l0", "linf", "warned"),
    [
        (400, 200, 200, []),
        (399, 200, 199, ["the Linf part has 199 images, so one image moves its error by 0.50%"]),
        (300, 100, 200, ["the L0 part has 100 images, so one image moves its error by 1.00%"]),
        (200, 200, 200, []),
        (199, 199, 1, ["the set has 199", "the L0 part has 199", "the Linf part has 1 images"]),
        (250, 250, 0, ["the Linf part has no images: nothing is measured on it"]),
    ],
)
def test_small_sets_are_warned_of(images: int, l0: int, linf: int, warned: list[str]) -> None:
    """One image of 200 moves the error by 0.5%, not by more."""
    card = paper_card(images=images, images_l0=l0, images_linf=linf)
    assert len(card.warnings) == len(warned)
    assert all(line.startswith(start) for line, start in zip(card.warnings, warned, strict=True))
    page = card_markdown(card)
    assert page.startswith("# RoCo-NAS, Table I\n\n> **Warning:** " if warned else "# RoCo-NAS, Table I\n\nThis set")
    assert page.count("> **Warning:** ") == len(warned)
    assert card.to_json()["warnings"] == list(card.warnings)


def test_a_card_reloads_equal_from_its_json() -> None:
    for card in (paper_card(), paper_card(images=9, images_l0=9, images_linf=9)):
        text = json.dumps(card.to_json(), allow_nan=False)
        again = Card.from_json(json.loads(text))
        assert again == card
        assert hash(again) == hash(card)
        assert json.dumps(again.to_json()) == text
        assert pickle.loads(pickle.dumps(card)) == card


def test_numbers_are_made_plain() -> None:
    """What NumPy and torch give is written as JSON has it, and reloads equal."""
    counts: tuple[Any, Any] = (np.int64(3), np.int32(2))
    made = cell("LeNet", "Linf", *counts, epsilon_used=np.float32(3 / 255), seconds=7)
    assert (type(made.threshold), type(made.successful), type(made.epsilon_used), type(made.seconds)) == (
        int,
        int,
        float,
        float,
    )
    assert data(mean=[1, 0, 0]).mean == (1.0, 0.0, 0.0)


NAN, INF, HUGE = math.nan, math.inf, 10**400


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: target(epochs=1.5), r"^expected Target.epochs to be an integer in \[0, 2\^63\), got 1.5$"),
        (lambda: target(epochs=True), r"Target.epochs to be an integer .*got True"),
        (lambda: target(macs=2**63), r"Target.macs to be an integer"),
        (lambda: target(macs=-1), r"Target.macs to be an integer .*got -1"),
        (lambda: target(lr="0.1"), r"Target.lr to be a finite number >= 0, got '0.1'"),
        (lambda: target(lr=NAN), r"Target.lr to be a finite number >= 0, got nan"),
        (lambda: target(lr=INF), r"Target.lr to be a finite number >= 0, got inf"),
        (lambda: target(lr=HUGE), r"Target.lr to be a finite number >= 0, got 1000"),
        (lambda: target(lr=-0.1), r"Target.lr to be a finite number >= 0"),
        (lambda: target(name=""), r"Target.name to be a name"),
        (lambda: target(name="a\nb"), r"Target.name to be one line of text, got 'a\\nb'"),
        (lambda: target(name="\ud800"), r"Target.name to be one line of text"),
        (lambda: target(recipe="x" * 1001), r"Target.recipe to be one line of text, got 'xxx.*\.\.\.$"),
        (lambda: target(depth="16"), r"Target.depth to be an integer"),
        (lambda: target(clean_accuracy=62.5), r"Target.clean_accuracy to be a fraction in \[0, 1\], got 62.5"),
        (lambda: target(adversarial_part_accuracy=1.01), r"adversarial_part_accuracy to be a fraction"),
        (lambda: data(n_classes=1), r"CardData.n_classes to be at least 2, got 1"),
        (lambda: data(mean=(0.5,)), r"CardData.mean and deviation to be 3 channels"),
        (lambda: data(deviation=0.5), r"CardData.deviation to be a list, got 0.5"),
        (lambda: cell("a", "L2", 1, 1), r"AttackCell.attack to be L0 or Linf, got 'L2'"),
        (lambda: cell("a", "L0", 1, 1, algorithm="ga"), r"AttackCell.algorithm to be de or cma, got 'ga'"),
        (lambda: cell("a", "L0", 1, 1001), r"AttackCell.successful to be at most the 1000 tried, got 1001"),
        (lambda: cell("a", "L0", 3, 1, epsilon_used=4), r"AttackCell.epsilon_used to be at most th=3, got 4"),
        (lambda: cell("a", "Linf", 3, 1, epsilon_used=4 / 255), r"AttackCell.epsilon_used to be at most th=3"),
        (lambda: cell("a", "L0", 3, 1, epsilon_mean=3.5), r"AttackCell.epsilon_mean to be at most the largest, 3.0"),
        (lambda: paper_card(records=9790), r"Card.records to be the cells' sum 9791, got 9790"),
        (lambda: paper_card(images=5999), r"Card.images to be 6000 to 9100"),
        (lambda: paper_card(images=9101), r"Card.images to be 6000 to 9100"),
        (lambda: paper_card(sources=2501), r"Card.sources to be 2500 at most, got 2501"),
        (lambda: paper_card(name=""), r"Card.name to be a name"),
        (lambda: paper_card(targets=()), r"Card.targets to be targets of different names"),
        (lambda: paper_card(targets=(target(), target())), r"Card.targets to be targets of different names"),
        (lambda: paper_card(targets=(target(),)), r"Card.cells to be targets LeNet, got \['DenseNet'\]"),
        (lambda: paper_card(cells=paper_card().cells * 2), r"one cell per target, attack and threshold, got \[\('De"),
        (lambda: paper_card(data=data(adversarial_images=999)), r"AttackCell.tried to be 999 at most, got 1000"),
        (lambda: paper_card(versions={"torch": 2}), r"Card.versions\['torch'\] to be one line of text, got 2"),
        (lambda: paper_card(seeds={"x": -1}), r"Card.seeds\['x'\] to be an integer"),
        (lambda: paper_card(seeds=[1]), r"Card.seeds to be an object, got \[1\]"),
        (lambda: paper_card(cells=(1,)), r"Card.cells\[0\] to be an object, got 1"),
    ],
)
def test_values_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def plain() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(paper_card().to_json()))
    return value


def damaged(*path: Any, value: Any) -> dict[str, Any]:
    """The card's JSON with one place changed."""
    whole = plain()
    place: Any = whole
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return whole


def without(*path: Any) -> dict[str, Any]:
    whole = plain()
    place: Any = whole
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return whole


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "expected the card to be a JSON object, got 'NoneType'"),
        ([], "expected the card to be a JSON object, got 'list'"),
        ({}, "expected format to be 'evonas adversarial set 1', got None"),
        (damaged("format", value="evonas adversarial set 2"), "got 'evonas adversarial set 2'"),
        (without("seed"), "expected Card to be complete, got 'no seed'"),
        (without("data", "mean"), "expected Card.data to be complete, got 'no mean'"),
        (without("cells", 3, "tried"), r"expected Card.cells\[3\] to be complete, got 'no tried'"),
        (without("targets", 0, "depth"), r"Card.targets\[0\] to be complete, got 'no depth'"),
        (without("warnings"), "expected warnings to be those of its counts, got None"),
        (damaged("warnings", value=["all is well"]), "expected warnings to be those of its counts"),
        (damaged("extra", value=1), r"expected Card to be of known fields, got \['extra'\]"),
        (damaged("data", "extra", value=1), r"Card.data to be of known fields"),
        (damaged("data", value=[]), r"Card.data to be an object, got \[\]"),
        (damaged("targets", value={}), r"Card.targets to be a list, got \{\}"),
        (damaged("targets", value="abcd"), r"Card.targets to be a list, got 'abcd'"),
        (damaged("cells", 0, "successful", value=134), r"Card.records to be the cells' sum 9792, got 9791"),
    ],
)
def test_json_that_is_no_card(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        Card.from_json(value)
    assert "\n" not in str(caught.value)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in JSON values: the first of a list stands for the others."""
    if isinstance(value, dict):
        return (
            [path, *(each for key in value for each in places(value[key], (*path, key)))]
            if path
            else [each for key in value for each in places(value[key], (key,))]
        )
    return [path, *(places(value[0], (*path, 0)) if isinstance(value, list) and value else [])]


SEEDS, VERSIONS, DEPTH = ("seeds",), ("versions",), ("targets", 0, "depth")
FRACTIONS = [
    ("data", "mean", 0),
    ("data", "deviation", 0),
    ("targets", 0, "width"),
    ("targets", 0, "lr"),
    ("targets", 0, "clean_accuracy"),
    ("targets", 0, "adversarial_part_accuracy"),
    ("cells", 0, "epsilon_used"),
    ("cells", 0, "epsilon_mean"),
    ("cells", 0, "seconds"),
]


def refusal(value: Any) -> str | None:
    try:
        Card.from_json(value)
    except DataError as error:
        return str(error)
    return None


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("other", "fitting"),
    [
        ("text\n", []),
        (-1, []),
        (0.5, FRACTIONS),
        (-0.5, []),
        (NAN, []),
        (INF, []),
        (True, []),
        pytest.param(HUGE, [], id="huge"),
        (None, [DEPTH]),
        ([], [("warnings",)]),
        ({}, [SEEDS, VERSIONS]),
        ([[1]], []),
        ({"a": {}}, []),
    ],
)
def test_any_other_value_in_any_field(other: Any, fitting: list[Any]) -> None:
    """Each field in turn holds something else: refused in one line, but where it fits."""
    refusals = {path: refusal(damaged(*path, value=other)) for path in places(plain())}
    assert len(refusals) > 50
    assert [path for path, line in refusals.items() if line is None] == fitting
    assert [line for line in refusals.values() if line and "\n" in line] == []


def test_frozen() -> None:
    with pytest.raises(AttributeError):
        paper_card().seed = 1  # type: ignore[misc]
    assert replace(paper_card(), seed=4) != paper_card()
