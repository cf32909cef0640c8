"""A supernet that another run has trained, its recalibrations, all of its networks trained alone, orders of layers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_tam import AFTER, TINY, run
from tiny_runs import rows

from evonas.cli import main
from evonas.errors import ConfigurationError, RunMismatchError

pytestmark = pytest.mark.lengthy

RANDOM = replace(TINY, window=None, search=replace(TINY.search, population=3, generations=0))
"""Three random networks, scored and no more."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three trained alone, and Lego-Net in other orders."""
    out = tmp_path_factory.mktemp("supernets") / "alone"
    after = replace(
        AFTER,
        finalise="scratch",
        finalise_all=True,
        lego=True,
        lego_orders=("reversed", "random"),
        random_orders=1,
    )
    run(replace(RANDOM, after=after, out=out))
    return out


@pytest.mark.slow
def test_every_scored_network_is_trained_alone(alone: Path) -> None:
    scored, trained = rows(alone / "population.csv"), rows(alone / "finalised" / "finalised.csv")
    assert len(scored) == 3
    assert [row["arch_id"] for row in trained][:3] == [row["arch_id"] for row in scored]
    assert {row["mode"] for row in trained} == {"scratch"}
    names = [row["name"] for row in trained[3:]]
    assert names == ["Lego-Net", "Lego-Net, reversed", "Lego-Net, random 1"]
    params = [int(row["params"]) for row in trained[3:]]
    assert all(abs(each / params[0] - 1) <= 0.02 for each in params)


@pytest.mark.slow
def test_a_supernet_is_taken_over_and_scored_alike(alone: Path, tmp_path: Path) -> None:
    screen = run(replace(RANDOM, supernet_from=str(alone), out=tmp_path / "clean"))
    assert f"supernet taken over from {alone / 'supernet.pt'}" in screen
    assert (tmp_path / "clean" / "supernet.pt").read_bytes() == (alone / "supernet.pt").read_bytes()
    assert rows(tmp_path / "clean" / "supernet.csv") == rows(alone / "supernet.csv")
    own, other = rows(tmp_path / "clean" / "population.csv"), rows(alone / "population.csv")
    assert [{**row, "train_seconds": ""} for row in own] == [{**row, "train_seconds": ""} for row in other]
    (alone_config, config) = (json.loads((each / "config.json").read_text()) for each in (alone, tmp_path / "clean"))
    assert config["identity"] == alone_config["identity"]


@pytest.mark.slow
def test_recalibration_is_a_part_of_the_identity(alone: Path, tmp_path: Path) -> None:
    scores = {}
    for kind in ("off", "attacked"):
        options = replace(RANDOM, supernet_from=str(alone), recalibration=kind, out=tmp_path / kind)
        run(options)
        found = rows(tmp_path / kind / "population.csv")
        assert [row["genome"] for row in found] == [row["genome"] for row in rows(alone / "population.csv")]
        scores[kind] = [(row["clean_error"], row["pgd_error"]) for row in found]
        with pytest.raises(RunMismatchError, match="recalibration"):
            run(replace(options, recalibration="clean"))
    stored = json.loads((tmp_path / "attacked" / "config.json").read_text())["identity"]["recalibration"]
    assert stored[:2] == [1, 30]
    assert stored[2]["name"] == "pgd"
    assert json.loads((tmp_path / "off" / "config.json").read_text())["identity"]["recalibration"] == "off"
    assert main(["verify", str(tmp_path / "attacked")]) == 0
    assert main(["verify", str(tmp_path / "off")]) == 0


@pytest.mark.slow
def test_another_training_s_supernet_is_refused_and_nothing_is_copied(alone: Path, tmp_path: Path) -> None:
    other = replace(RANDOM, supernet=replace(RANDOM.supernet, sampling="fair"), supernet_from=str(alone))
    with pytest.raises(RunMismatchError, match="sampling"):
        run(replace(other, out=tmp_path / "other"))
    assert not (tmp_path / "other" / "supernet.pt").exists()
    with pytest.raises(ConfigurationError, match=r"expected a run with a supernet in .*nowhere, got none"):
        run(replace(RANDOM, supernet_from=str(tmp_path / "nowhere"), out=tmp_path / "none"))


@pytest.mark.slow
def test_fair_sampling_is_reported_and_leaves_nothing_untrained_in_time(tmp_path: Path) -> None:
    """One round of the blocks: 22 batches of the largest ratio, of a layer of stride 1."""
    supernet = replace(RANDOM.supernet, sampling="fair", block_epochs=11, joint_epochs=0)
    run(replace(RANDOM, supernet=supernet, out=tmp_path))
    epochs = rows(tmp_path / "supernet.csv")
    left = [int(row["untrained"]) for row in epochs]
    assert left == sorted(left, reverse=True)
    blocks = {(row["layer"], row["block"]): row["ratios"].split() for row in rows(tmp_path / "untrained.csv")}
    assert not any("2" in ratios for ratios in blocks.values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--recalibration", "attacked", "--objectives", "clean_error,params"),
            "expected pgd_error among the objective",
        ),
        (("--recalibration", "off", "--recalibration-batches", "3"), "--recalibration-batches changes nothing"),
        (("--sampling", "fair", "--block-window", "1e6", "2e6"), "--block-window changes nothing without --sampling"),
        (("--lego-orders", "reversed"), "--lego-orders changes nothing without --lego"),
        (("--lego", "--lego-orders", "sideways"), "unknown order of layers 'sideways'"),
        (("--lego", "--lego-orders", "middle,middle"), "expected every one of lego_orders once"),
        (("--lego", "--lego-orders", "middle", "--random-orders", "2"), "--random-orders changes nothing without"),
    ],
)
def test_what_is_refused(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tam", "--data", "digits", "--out", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
