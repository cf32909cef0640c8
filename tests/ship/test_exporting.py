"""Exports: what is refused, and a run's network in files that other programs take."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evonas.cli import main
from evonas.errors import ConfigurationError, DivergedError
from evonas.ship import CARD_SCHEMA, EXPORTS, OnnxNetwork, check_export, format_of, labelled_images

IMAGES = torch.rand(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))


class Plus(nn.Module):
    """Two logits, a threshold of the mean, with something added to the second."""

    def __init__(self, added: float = 0.0) -> None:
        super().__init__()
        self.added = added

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([torch.full_like(mean, 0.25), mean + self.added], dim=1)


class TestCheck:
    def test_equal_answers_and_small_differences_pass(self) -> None:
        assert check_export(Plus(), Plus(), IMAGES, "net").largest == {1: 0.0, 128: 0.0}
        found = check_export(Plus(), Plus(5e-5), IMAGES, "net")
        assert 4e-5 < found.largest[1] < 6e-5
        assert str(found).startswith("5 images: logits differ by at most 5.0e-05 in batches of 1, 5.0e-05 in batches")

    def test_a_difference_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^expected logits of net.onnx within 0\.0001 .*it was not wri"):
            check_export(Plus(), Plus(2e-4), IMAGES, "net.onnx")

    def test_another_label_is_refused_however_near_the_logits_are(self) -> None:
        images = torch.full((1, 3, 2, 2), 0.25)
        with pytest.raises(ConfigurationError, match="1 labels differ"):
            check_export(Plus(-1e-6), Plus(1e-6), images, "net")

    def test_what_is_not_finite_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="differ by at most inf"):
            check_export(Plus(), Plus(float("nan")), IMAGES, "net")
        with pytest.raises(DivergedError, match="expected finite logits"):
            check_export(Plus(float("nan")), Plus(), IMAGES, "net")


class TestRefusals:
    """One line, exit code 2, and nothing is loaded or written."""

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            ("best --to net.txt", "expected a file that ends with .onnx, .pt2, .pte for --to, got net.txt"),
            ("best --to net.pt2 --int8", "expected a file that ends with .onnx for --int8, got net.pt2"),
            ("best", "expected a file after --to, such as evonas export nowhere best --to net.onnx"),
            ("--to net.onnx", "expected an arch_id, or best, after the run, such as evonas export nowhere best --to"),
            ("best --to net.onnx --images 0", "expected images >= 1, got 0"),
            ("best --to net.onnx --epsilon 8", "expected epsilon in (0, 1], got 8.0: it is on the [0, 1] scale"),
            ("best --to net.onnx", "expected a run folder with config.json and journal.jsonl, nowhere is none"),
        ],
    )
    def test_of_usage(
        self, words: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["export", "nowhere", *words.split()]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {line}")
        assert said.count("\n") == 1
        assert [*tmp_path.iterdir()] == []

    @pytest.mark.parametrize(("suffix", "extra"), [(".onnx", "onnx"), (".pte", "executorch")])
    def test_a_missing_library_is_named(self, suffix: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
        absent = EXPORTS[suffix].needs
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ConfigurationError) as caught:
            format_of(Path(f"net{suffix}"))
        assert str(caught.value) == (
            f"expected {', '.join(absent)} for --to net{suffix}, not installed here; pip install 'evonas[{extra}]'"
        )


@pytest.mark.slow
def test_a_network_of_a_run_leaves_for_a_script_without_evonas(
    roco_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import evonas

    to = tmp_path / "out" / "net.onnx"
    words = "--int8 --images 40 --calibration-images 5 --attacked-images 8 --queries 20"
    assert main(["export", str(roco_run), "best", "--to", str(to), *words.split()]) == 0
    said = capsys.readouterr().out
    assert "checked on 40 images" in said
    assert all(name in said for name in ("accuracy, clean", "accuracy, PGD", "accuracy, black-box", "size", "median"))
    names = ["net.card.json", "net.card.md", "net.int8.onnx", "net.onnx"]
    assert sorted(path.name for path in to.parent.iterdir()) == names  # self-contained
    card = json.loads((to.parent / "net.card.json").read_text())
    jsonschema.validate(card, CARD_SCHEMA)
    assert card["quantisation"]["images"] == 10  # one of each class
    result = evonas.open_run(roco_run)
    entry = result.entry("best")
    assert (card["network"]["arch_id"], card["seed"]) == (entry.key, entry.result.seed)
    assert (card["network"]["params"], card["network"]["macs"]) == tuple(
        int(entry.result.objectives[name]) for name in ("params", "macs")
    )
    data = result.evaluator.prepare.data
    images, labels = labelled_images(data.test, 40, 10, "export test")
    floats, int8 = (OnnxNetwork((to.parent / name).read_bytes()) for name in ("net.onnx", "net.int8.onnx"))
    errors = {(row["network"], row["name"]): row for row in card["errors"] if row["source"] == "this export"}
    for name, network in (("float32", floats), ("int8", int8)):
        wrong = float((network(images).argmax(1) != labels).double().mean())
        assert (errors[name, "clean_error"]["error"], errors[name, "clean_error"]["images"]) == (wrong, 40)
        assert errors[name, "pgd_error"]["images"] == errors[name, "square_error"]["images"] == 8
    assert (errors["float32", "pgd_error"]["threat"], errors["int8", "pgd_error"]["threat"]) == (
        "white-box",
        "transfer",
    )
    types = {node.op_type for node in _model(to.parent / "net.int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= types
    about = floats.session.get_modelmeta().custom_metadata_map
    assert (about["value_range"], about["input_name"], about["opset"]) == ("[0, 1]", "images", "18")
    expected = result.load("best")(torch.zeros(1, 3, 32, 32)).argmax(1).tolist()
    script = f"import sys\nsys.modules['evonas'] = sys.modules['torch'] = None\n{card['script']}"
    done = subprocess.run([sys.executable, "-c", script], cwd=to.parent, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[0, 1]", str(expected)]


@pytest.mark.slow
def test_a_file_that_answers_otherwise_is_not_left(
    roco_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same folder before and after, an older file of that name included."""
    to = tmp_path / "net.pt2"
    to.write_bytes(b"older")
    monkeypatch.setitem(EXPORTS, ".pt2", replace(EXPORTS[".pt2"], read=lambda data: _Shifted(EXPORTS_PT2.read(data))))
    assert main(["export", str(roco_run), "best", "--to", str(to)]) == 2
    assert capsys.readouterr().err.startswith(f"error: expected logits of {to} within 0.0001 of the network's")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("net.pt2", b"older")]


EXPORTS_PT2 = EXPORTS[".pt2"]


class _Shifted(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images) + 1e-3
        return logits


def _model(path: Path) -> Any:
    import onnx

    return onnx.load(path)


def test_images_of_a_check_are_of_every_class() -> None:
    from evonas.data import load_data

    images, labels = labelled_images(load_data("digits").test, 30, 10, "purpose")
    assert images.shape == (30, 3, 32, 32)
    assert images.is_contiguous()
    assert (float(images.min()), float(images.max())) == (0.0, 1.0)
    assert np.bincount(labels.numpy()).tolist() == 10 * [3]
