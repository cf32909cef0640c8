"""Searches for latency_ms: where their table comes from, and that equal tables give equal journals."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from latency_tables import QUICK
from tiny_runs import ROCO, SPACE, genome_of, journal, rows, run

from evonas.cli import main
from evonas.errors import EvonasError
from evonas.methods.roco import RocoOptions
from evonas.runs import latency
from evonas.search import EvolutionConfig
from evonas.ship import LatencyTable, layers_of, load_table, measure_table, save_table
from evonas.ship.latency_measuring import network_of

OPTIONS = replace(ROCO, search=EvolutionConfig(population=4, generations=1, objectives=("clean_error", "latency_ms")))

pytestmark = pytest.mark.lengthy


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of its own; tables are measured roughly."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVONAS_CACHE", str(folder))

        def rough(space: Any, n_classes: int, image_size: int, report: Any) -> LatencyTable:
            return measure_table(space, n_classes, image_size, QUICK, report)

        patch.setattr(latency, "measure_table", rough)
        yield folder


@pytest.fixture(scope="module")
def finished(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run, and what was on its screen."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    return folder, run(replace(OPTIONS, out=folder))


def the_table(cache: Path) -> Path:
    (path,) = (cache / "latency").glob("*.json")
    return path


def refused(options: RocoOptions) -> str:
    with pytest.raises(EvonasError) as raised:
        run(options)
    assert str(raised.value).isprintable()
    return str(raised.value)


def test_a_run_says_and_keeps_the_table_and_its_error(finished: tuple[Path, str], cache: Path) -> None:
    folder, screen = finished
    table = load_table(folder / "latency.json")
    assert table == load_table(the_table(cache))
    config = json.loads((folder / "config.json").read_text())
    assert config["identity"]["objectives"]["latency_ms"] == {"table": {"fingerprint": table.fingerprint}}
    assert config["measured"]["latency_ms"]["median_error"] == table.median_error
    assert config["reference_point"]["latency_ms"] == table.slowest
    note = next(line for line in config["notes"] if line.startswith("latency table"))
    assert table.error in note
    assert note in screen


def test_every_value_is_that_of_the_table(finished: tuple[Path, str]) -> None:
    table = load_table(finished[0] / "latency.json")
    found = rows(finished[0] / "population.csv")
    assert len(found) >= 4
    for row in found:
        layers = layers_of(network_of(SPACE, genome_of(row), 10), 32)
        assert float(row["latency_ms"]) == table.predict(layers)


def test_a_second_run_takes_the_table_of_the_cache_and_gives_the_same_journal(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    screen = run(replace(OPTIONS, out=tmp_path))
    assert "found at" in screen
    assert "measuring" not in screen
    assert journal(tmp_path) == journal(finished[0])


def test_a_run_goes_on_with_its_own_table_and_says_that_another_machine_measured_it(
    finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished[0], tmp_path / "moved")
    monkeypatch.setenv("EVONAS_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(latency, "processor", lambda: "Another CPU")
    longer = replace(OPTIONS, out=tmp_path / "moved", search=replace(OPTIONS.search, generations=2))
    screen = run(longer)
    assert "the one of this run, measured on" in screen
    assert "this is Another CPU" in screen
    assert not (tmp_path / "empty").exists()
    assert main(["verify", str(tmp_path / "moved"), "--retrain", "best"]) == 0


@pytest.mark.parametrize("damage", ["missing", "damaged", "another"])
def test_a_run_without_its_table_is_refused_in_a_line(damage: str, finished: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(finished[0], tmp_path / "run")
    file = tmp_path / "run" / "latency.json"
    if damage == "missing":
        file.unlink()
    elif damage == "damaged":
        file.write_bytes(file.read_bytes()[:-40])
    else:
        save_table(file, dataclasses.replace(load_table(file), scale=9.0))
    line = refused(replace(OPTIONS, out=tmp_path / "run"))
    expected = {"missing": "there is no such file", "damaged": "it is damaged", "another": "was begun"}
    assert expected[damage] in line


@pytest.mark.parametrize("field", ["processor", "torch", "subject"])
def test_a_table_of_another_machine_in_the_cache_is_refused_in_a_line(
    field: str, finished: tuple[Path, str], cache: Path, tmp_path: Path
) -> None:
    path = the_table(cache)
    whole, table = path.read_bytes(), load_table(path)
    other: Any = {**table.subject, "n_classes": 3} if field == "subject" else "another"
    save_table(path, dataclasses.replace(table, **{field: other}))
    try:
        assert f"expected a latency table of {field}" in refused(replace(OPTIONS, out=tmp_path / "run"))
    finally:
        path.write_bytes(whole)


def test_the_command_times_the_front(finished: tuple[Path, str], tmp_path: Path, capsys: Any) -> None:
    words = ["latency", str(finished[0]), "--runs", "3", "--warm-up", "2", "--csv", str(tmp_path / "a.csv")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "milliseconds of a forward pass of 1 image, one thread" in printed
    front = [row["arch_id"] for row in rows(finished[0] / "front.csv")]
    assert [row["arch_id"] for row in rows(tmp_path / "a.csv")] == front
    assert all(
        float(row["p5_ms"]) <= float(row["median_ms"]) <= float(row["p95_ms"]) for row in rows(tmp_path / "a.csv")
    )


@pytest.mark.slow
def test_the_command_gives_json_of_named_networks_by_onnxruntime(finished: tuple[Path, str], capsys: Any) -> None:
    words = ["latency", str(finished[0]), "best", "--runtime", "onnx", "--runs", "3", "--batch", "2", "--json"]
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["networks"]) == 1
    assert (printed["threads"], printed["batch"], printed["warm_up"]["runs"]) == (1, 2, 10)
    assert printed["runtime"].startswith("onnxruntime ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nix"], "expected the arch_id of a row with status ok"),
        (["--threads", "0"], "expected threads >= 1, got 0"),
        (["--runtime", "tvm"], "torch"),
    ],
)
def test_what_the_command_refuses(words: list[str], expected: str, finished: tuple[Path, str], capsys: Any) -> None:
    assert main(["latency", str(finished[0]), *words]) == 2
    assert expected in capsys.readouterr().err


def test_a_missing_runtime_is_named(
    finished: tuple[Path, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["latency", str(finished[0]), "--runtime", "onnx"]) == 2
    assert "expected onnx, onnxscript, onnxruntime for --runtime onnx" in capsys.readouterr().err
