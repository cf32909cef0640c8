"""Cards: intervals by hand, the schema, the page, the audit where there is one."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from evonas.errors import StorageError
from evonas.runs.export_card import _audited, _limits, audited
from evonas.ship import CARD_SCHEMA, Card, ErrorRow, card_page, wilson

KEY = "0123456789abcdef"

CARD = Card(
    name="net.onnx",
    network={
        "arch_id": KEY,
        "space": "phase",
        "method": "roco-nas",
        "genome": [1, 0],
        "description": "two nodes",
        "params": 81_042,
        "macs": 9_818_144,
        "weights": "as the search scored them",
    },
    files=[{"name": "net.onnx", "format": "ONNX", "bytes": 462_764, "sha256": 64 * "a"}],
    input={
        "name": "images",
        "shape": ["batch", 3, 32, 32],
        "layout": "RGB",
        "range": [0, 1],
        "normalization": "Inside.",
    },
    output={"name": "logits", "classes": 10},
    data={"name": "digits", "fingerprint": "f", "terms": "CC BY 4.0", "train": 9, "validation": 3, "test": 300},
    check={"images": 300, "tolerance": 1e-4, "largest_difference": {"1": 1e-6, "128": 2e-6}, "labels_changed": 0},
    errors=[
        ErrorRow.of("clean_error", 0.1, 100, "test", "this export"),
        ErrorRow.of("pgd_error", 0.4, 100, "test", "this export", "white-box", "PGD, epsilon 0.03"),
        ErrorRow.of("pgd_error", 0.3, 100, "test", "this export", "transfer", "PGD, epsilon 0.03", "int8"),
    ],
    latency=[
        {
            "network": "float32",
            "milliseconds": 0.8,
            "batch": 1,
            "threads": 1,
            "passes": 200,
            "runtime": "onnxruntime",
        }
    ],
    quantisation={"how": "static", "images": 256, "part": "train"},
    audit={"images": 100, "measured": {"clean_error": 0.1}, "alarms": ["black-box beats white-box: 40% and 30%"]},
    training={"training": {"epochs": 2}},
    seed=5,
    versions={"evonas": "0.1.0"},
    limits=["Errors are of 100 images."],
)


def as_stored(card: Card) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(json.dumps(card.as_json(), allow_nan=False))
    return stored


def test_intervals_by_hand() -> None:
    """Wilson's interval: the shares p that a z-test at 5% does not tell from what was counted."""
    low, high = wilson(0.1, 100)
    for p in (low, high):
        assert abs(0.1 - p) == pytest.approx(1.959963984540054 * (p * (1 - p) / 100) ** 0.5, rel=1e-9)
    assert low < 0.1 < high
    assert wilson(0.0, 300)[0] == 0.0
    assert wilson(0.0, 300)[1] == pytest.approx(1.959963984540054**2 / (300 + 1.959963984540054**2))
    assert wilson(1.0, 300)[1] == 1.0


def test_the_schema_takes_cards() -> None:
    jsonschema.Draft202012Validator.check_schema(CARD_SCHEMA)
    jsonschema.validate(as_stored(CARD), CARD_SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("errors", 0, "error"), 1.2),
        (("errors", 0, "images"), 0),
        (("errors", 0, "threat"), "magic"),
        (("errors",), []),
        (("input", "range"), [0, 255]),
        (("check", "labels_changed"), 1),
        (("files", 0, "sha256"), "a"),
        (("data", "terms"), None),
        (("network", "arch_id"), "best"),
        (("more",), 1),
    ],
)
def test_the_schema_refuses_other_things(path: tuple[str | int, ...], value: object) -> None:
    stored: Any = copy.deepcopy(as_stored(CARD))
    inner = stored
    for each in path[:-1]:
        inner = inner[each]
    inner[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(stored, CARD_SCHEMA)


@pytest.mark.parametrize("name", CARD_SCHEMA["properties"])
def test_the_schema_misses_nothing(name: str) -> None:
    stored = as_stored(CARD)
    del stored[name]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(stored, CARD_SCHEMA)


def test_the_page_says_what_the_json_says() -> None:
    page, low = card_page(CARD), wilson(0.1, 100)[0]
    assert f"| float32 | clean_error | 10.0% | {100 * low:.1f}% to" in page
    assert "81,042 parameters, 9,818,144 multiply-adds" in page
    assert "- white-box: the attacker knows the weights and follows the gradients. Measured: PGD, epsilon 0.03." in page
    assert "- transfer: " in page
    assert "- black-box: " not in page
    assert "black-box beats white-box: 40% and 30%" in page
    assert "Terms: CC BY 4.0" in page
    assert CARD.as_json()["script"].rstrip() in page
    assert "evonas" not in CARD.as_json()["script"]


def test_an_audit_is_read_where_it_is(tmp_path: Path) -> None:
    assert audited(tmp_path, KEY, "search") is None
    (tmp_path / "audit.csv").write_text(
        "arch_id,weights,status,clean_error,pgd20_error,params,macs,reason\n"
        f"{KEY},search,ok,0.25,0.5,10,20,\n{KEY},audit,ok,0.125,,10,20,\nfedcba9876543210,search,ok,0.75,1.0,1,2,\n"
    )
    assert audited(tmp_path, KEY, "search") == {
        "images": None,
        "epsilon": None,
        "measured": {"clean_error": 0.25, "pgd20_error": 0.5},
        "alarms": [],
    }
    alarm = {"arch_id": KEY, "weights": "search", "kind": "masked", "line": "noise beats attack"}
    other = {**alarm, "weights": "audit", "line": "another"}
    (tmp_path / "audit.json").write_text(json.dumps({"changed": {}, "alarms": [alarm, other], "images": 1000}))
    found = audited(tmp_path, KEY, "search")
    assert found is not None
    assert (found["images"], found["alarms"]) == (1000, ["noise beats attack"])
    trained = audited(tmp_path, KEY, "retrained/1a2b3c4d")
    assert trained is not None
    assert (trained["measured"], trained["alarms"]) == ({"clean_error": 0.125}, ["another"])
    assert audited(tmp_path, KEY, "retrained/1a2b3c4d", epochs=20) == trained  # the table does not say how long
    (tmp_path / "audit.json").write_text('{"alarms": [1]}')
    with pytest.raises(StorageError, match="expected the summary of an audit in"):
        audited(tmp_path, KEY, "search")


def test_an_audit_on_a_card_is_of_its_own_images_radius_and_training(tmp_path: Path) -> None:
    """The last audit's 1,000 images are not this row's 300; the pixel attack sees 50 of them; 20 epochs are not 2."""
    (tmp_path / "audit.csv").write_text(
        "arch_id,weights,status,clean_error,autoattack_error,pixel_error,adversarial_set_error,params,macs,epochs,"
        f"images,epsilon,reason\n{KEY},audit,ok,0.25,0.5,0.1,0.75,10,20,2,300,{4 / 255},\n"
    )
    (tmp_path / "audit.json").write_text(json.dumps({"changed": {}, "alarms": [], "images": 1000}))
    assert audited(tmp_path, KEY, "audit", epochs=20) is None
    assert audited(tmp_path, KEY, "audit", epochs=2, train_on="all") is None  # the table is older: the train part
    assert audited(tmp_path, KEY, "audit", epochs=2, train_on="train") is not None
    found = [*_audited(audited(tmp_path, KEY, "audit", epochs=2))]
    assert [(each.name, each.images, each.attack) for each in found] == [
        ("clean_error", 300, ""),
        ("autoattack_error", 300, "AutoAttack, L-inf epsilon 4/255"),
        ("pixel_error", 50, "Pixel attack, 1 pixel"),
    ]
    assert all(each.low <= each.error <= each.high for each in found)


@pytest.mark.parametrize("train_on", ["train", "all"])
def test_a_card_says_where_held_out_images_were_trained_on(train_on: str) -> None:
    export: Any = SimpleNamespace(weights="audit")
    trained: Any = SimpleNamespace(provenance=SimpleNamespace(train_on=train_on))
    limits = [*_limits(export, trained, 300, audited=True, int8=False)]
    assert [each for each in limits if "all images but the test part's" in each] == limits[3:]
    assert len(limits) == (4 if train_on == "all" else 3)
