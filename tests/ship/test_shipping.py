"""`evonas ship`: one folder from a run, gone on with, and what is refused."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from evonas.cli import main
from evonas.costs import count_macs, count_params
from evonas.ship import CARD_SCHEMA
from evonas.types import arch_id

SMALL = (
    *("--recipe", "fast_adversarial", "--epochs", "1", "--measure", "clean,pgd10", "--images", "30"),
    *("--calibration-images", "20", "--attacked-images", "6", "--queries", "4"),
)


def shipped(run: Path, *words: str) -> int:
    return main(["ship", str(run), *words])


@pytest.mark.slow
def test_a_run_is_made_ready_and_gone_on_with(copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import evonas

    out, where = copied_run / "shipped", ("--where", "macs > 0 and clean_error <= 1")
    assert shipped(copied_run, *where, *SMALL) == 0
    said = capsys.readouterr().out
    assert [line[:6] for line in said.splitlines() if line[1:6] == " of 3"] == ["1 of 3", "2 of 3", "3 of 3"]
    names = ["net.card.json", "net.card.md", "net.int8.onnx", "net.onnx", "ship.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    card: dict[str, Any] = json.loads((out / "net.card.json").read_text())
    jsonschema.validate(card, CARD_SCHEMA)
    key = json.loads((out / "ship.json").read_text())["arch_id"]
    assert card["network"]["arch_id"] == key == arch_id(card["network"]["genome"])
    assert card["training"]["recipe"]["name"] == "fast_adversarial"
    assert card["training"]["training"]["epochs"] == 1
    assert {"clean_error", "pgd10_error"} <= {*card["audit"]["measured"]}
    assert {row["name"] for row in card["errors"] if row["source"] == "audit"} == {"clean_error", "pgd10_error"}
    network = evonas.load_network(copied_run, key, weights="audit")
    counted = count_params(network), count_macs(network, (3, 32, 32))
    assert (card["network"]["params"], card["network"]["macs"]) == counted

    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert shipped(copied_run, *where, *SMALL) == 0  # nothing is trained, measured or written again
    assert "as its card says" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (out / "net.onnx").write_bytes(b"cut")
    assert shipped(copied_run, *where, *SMALL) == 0
    assert (out / "net.onnx").read_bytes() == before["net.onnx"]

    assert shipped(copied_run, "--where", "macs > 1", *SMALL) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: expected the settings that {out} was begun with, got another where; give the same")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"arch_id": 1}', '{"arch_id": "a", "why": "", "asked": 3}'])
@pytest.mark.lengthy
def test_a_damaged_choice_is_said(content: str, copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun = copied_run / "shipped" / "ship.json"
    begun.parent.mkdir()
    begun.write_text(content)
    assert shipped(copied_run) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: expected ")
    assert str(begun) in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--where", "macs < 0"), "error: expected a network with macs < 0, got none of "),
        (("--where", "magic < 1"), "error: "),
        (("--measure", "magic"), "error: unknown measurement 'magic'"),
        (("--recipe", "magic"), "error: unknown recipe 'magic'"),
        (("--epochs", "0"), "error: expected epochs >= 1, got 0"),
    ],
)
@pytest.mark.lengthy
def test_what_is_refused_before_anything_begins(
    words: tuple[str, ...], line: str, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shipped(copied_run, *words) == 2
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1
    assert not (copied_run / "shipped").exists()
