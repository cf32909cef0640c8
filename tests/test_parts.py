"""The identity of a part: exact values, and what has none."""

import functools
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import pytest

from evonas.attacks import PGD
from evonas.errors import ConfigurationError
from evonas.gradient import darts
from evonas.objectives import CleanError, Macs, PGDError
from evonas.parts import part_identity, part_name
from evonas.spaces import ShuffleSpace
from evonas.training import TradesYopo, TrainingConfig, standard

PGD_FIELDS = {
    "epsilon": 8 / 255,
    "norm": "linf",
    "random_start": False,
    "start_deviation": 0.0,
    "restarts": 1,
    "targeted": False,
    "loss": "cross_entropy",
    "stop_when_fooled": True,
    "precision": "fp32",
    "step_size": 2 / 255,
    "steps": 10,
}
YOPO_FIELDS = {"epsilon": 8 / 255, "step": 0.007, "m": 5, "n": 3, "balance": 1.0, "clamp": "closed"}


@dataclass(frozen=True, eq=False)
class Images:
    """Holds an array, so it is known by its fingerprint."""

    pixels: bytearray

    @cached_property
    def fingerprint(self) -> str:
        return f"sum {sum(self.pixels)}"


@dataclass(frozen=True)
class Composed:
    """A part of every kind in its fields."""

    images: Images
    recipe: Any
    parts: tuple[Any, ...] = ()
    table: tuple[tuple[int, ...], ...] | dict[str, Any] | list[Any] = ()
    nothing: None = None

    label: ClassVar[str] = "no field, so no part of the identity"


def test_plain_fields_stand_as_they_are() -> None:
    assert part_identity(CleanError()) == {"batch_size": 500}
    assert part_identity(Macs()) == {}
    space = ShuffleSpace(window=(1e6, 2e6))
    assert part_identity(space)["window"] == (1e6, 2e6)


def test_a_part_in_a_field_stands_by_name_and_fields() -> None:
    assert part_identity(PGDError()) == {"attack": {"name": "pgd", **PGD_FIELDS}, "images": None, "batch_size": 250}


def test_a_recipe_stands_by_name_and_fields_and_a_function_by_its_name() -> None:
    assert part_identity(TradesYopo()) == YOPO_FIELDS
    assert part_identity(standard) == {"name": "standard"}
    found = part_identity(Composed(Images(bytearray(b"\x01\x02")), TradesYopo(), (standard, Macs()), ((1, 2), (3,))))
    assert found == {
        "images": {"fingerprint": "sum 3"},
        "recipe": {"name": "trades_yopo", **YOPO_FIELDS},
        "parts": ("standard", {"name": "macs"}),
        "table": ((1, 2), (3,)),
        "nothing": None,
    }


def test_what_holds_arrays_stands_by_its_fingerprint() -> None:
    assert part_identity(Images(bytearray(b"\x07"))) == {"fingerprint": "sum 7"}
    inside = Composed(Images(bytearray()), standard, table={"a": [Images(bytearray(b"\x07"))]})
    assert part_identity(inside)["table"] == {"a": [{"fingerprint": "sum 7"}]}


def test_an_identity_of_its_own_comes_before_fields() -> None:
    config = TrainingConfig(epochs=3)
    assert part_identity(config) == config.identity()
    assert "milestones" not in part_identity(config)
    inside = part_identity(Composed(Images(bytearray()), config))
    assert inside["recipe"] == {"name": "TrainingConfig", **config.identity()}
    assert part_identity(darts()) == darts().identity()


def test_any_other_field_gives_another_identity_and_json_holds_all_of_them() -> None:
    parts = [
        PGDError(),
        PGDError(images=5),
        PGDError(batch_size=1),
        *(PGDError(attack=replace(PGDError().attack, **changed)) for changed in ({"steps": 11}, {"norm": "l2"})),
    ]
    texts = {json.dumps(part_identity(part), sort_keys=True, allow_nan=False) for part in parts}
    assert len(texts) == len(parts)


def test_names() -> None:
    assert [part_name(part) for part in (standard, TradesYopo(), PGD(), TrainingConfig())] == [
        "standard",
        "trades_yopo",
        "pgd",
        "TrainingConfig",
    ]


@pytest.mark.parametrize("part", [object(), CleanError, functools.partial(standard), b"bytes"])
def test_what_has_no_identity_is_refused(part: Any) -> None:
    for each in (part, Composed(Images(bytearray()), part)):
        with pytest.raises(ConfigurationError, match=r"expected a frozen dataclass, or an object with identity\(\)"):
            part_identity(each)


def test_a_lambda_is_refused_since_all_have_one_name() -> None:
    for part in (lambda: 0, Composed(Images(bytearray()), lambda: 0)):
        with pytest.raises(ConfigurationError, match="got a lambda; write it with def"):
            part_identity(part)
