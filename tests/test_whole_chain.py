"""Every command on a finished run of every method and space: what a user may type after any search must work."""

import io
import json
from pathlib import Path

import onnxruntime
import pytest
import torch
from latency_tables import QUICK
from rich.console import Console
from tiny_runs import HERE, rows

import evonas
from evonas.cli import main
from evonas.costs import count_macs, count_params
from evonas.data import load_data
from evonas.runs import latency
from evonas.search import EvolutionConfig
from evonas.ship import measure_table
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig

pytestmark = pytest.mark.slow

FLAGS = ("--data=digits", "--device=cpu", "--threads=1", "--executor=local")
SEARCH = ("--epochs=1", "--batch-size=20", "--population=3", "--generations=1", "--precision=fp32")
ROCO = ("roco", "--train-limit=60", "--val-limit=40", *SEARCH, "--objectives=clean_error,pgd_error,params")
CELLS = (
    "--precision=fp32",
    *("--train-limit=40", "--val-limit=20", "--search-epochs=1", "--weights-only=0", "--search-channels=4"),
    *("--search-layers=3", "--search-batch-size=20", "--nodes=2", "--search-precision=fp32", "--eval-channels=4"),
    *("--eval-layers=3", "--epochs=1", "--batch-size=20", "--objectives=clean_error,pgd_error,params"),
)
TAM = (
    *("tam", "--train-limit=60", "--val-limit=30", "--width=0.17", "--depth=0.1", "--supernet-recipe=standard"),
    *("--block-epochs=1", "--joint-epochs=1", "--resample-epochs=1", "--first-ratio-epochs=1", "--block-milestones="),
    *("--joint-milestones=", "--supernet-batch-size=30", "--supernet-precision=fp32", "--recalibration-batches=1"),
    *("--recalibration-batch-size=30", "--population=3", "--generations=1", "--finalise="),
)
RUNS: dict[str, tuple[str, ...]] = {
    "roco, phase": (*ROCO, "--phases=2", "--nodes=3", "--channels=2", "--designs="),
    "roco, nasbench201": (*ROCO, "--space=nasbench201", "--channels=2", "--cells=1"),
    "roco, darts": (*ROCO, "--space=darts", "--channels=2", "--cells=3"),
    "roco, shuffle": (*ROCO, "--space=shuffle"),
    "tam": (*TAM, "--objectives=clean_error,pgd_error,params"),
    "tam, latency": (*TAM, "--objectives=clean_error,latency_ms"),
    "e2rnas 1": ("e2rnas", *CELLS, "--version=1", "--cost-channels=4", "--cost-layers=3"),
    "e2rnas 2": ("e2rnas", *CELLS, "--version=2", "--cost-channels=4", "--cost-layers=3", "--ood-data=noise"),
    "dsrna, bound": ("dsrna", *CELLS, "--metric=bound", "--metric-images=2"),
    "dsrna, jacobian": ("dsrna", *CELLS, "--metric=jacobian", "--metric-images=2"),
    "darts": ("darts", *CELLS, "--method=darts"),
    "pcdarts": ("darts", *CELLS, "--method=pcdarts"),
    "pdarts": ("darts", *CELLS, "--method=pdarts"),
}


AUDIT = ("--measure=clean,fgsm_linf,gradient_check", "--images=20", "--device=cpu", "--executor=local")
EXPORT = ("--images=20", "--calibration-images=20", "--attacked-images=4", "--queries=4")
TRAINED = ("--recipe=fast_adversarial", "--epochs=1")


def searched_by_script(out: Path) -> None:
    evonas.run_search(
        PhaseSpace(phases=2, nodes=3, channels=2),
        load_data("digits", train_limit=60, val_limit=40),
        ("clean_error", "pgd_error", "macs"),
        out=out,
        training=TrainingConfig(epochs=1, batch_size=20, precision="fp32"),
        search=EvolutionConfig(population=3, generations=1),
        execution=HERE,
        console=Console(file=io.StringIO()),
    )


@pytest.fixture(scope="module", params=[*RUNS, "script"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tables of latency are measured roughly."""
    folder = tmp_path_factory.mktemp("chain") / "run"
    if request.param == "script":
        searched_by_script(folder)
        return folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            latency,
            "measure_table",
            lambda space, classes, size, report: measure_table(space, classes, size, QUICK, report),
        )
        assert main([*RUNS[request.param], *FLAGS, "--out", str(folder)]) == 0
    return folder


def best(run: Path) -> dict[str, str]:
    return rows(run / "front.csv")[0]


def test_it_is_looked_at(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = best(run)["arch_id"]
    for words in (["status"], ["show"], ["show", key], ["choose"], ["front"]):
        capsys.readouterr()
        assert main([words[0], str(run), *words[1:]]) == 0
        assert key[:8] in capsys.readouterr().out
    assert main(["choose", str(run), "--where", "params >= 0 and clean_error <= 1", "--json"]) == 0
    assert {row["arch_id"] for row in json.loads(capsys.readouterr().out)["networks"]} >= {key}
    assert main(["choose", str(run), "--knee", "--csv", str(run.parent / "chosen.csv")]) == 0
    assert len(rows(run.parent / "chosen.csv")) == 1


def test_it_is_audited_as_searched_and_trained_to_the_end(run: Path) -> None:
    key = best(run)["arch_id"]
    assert main(["audit", str(run), *AUDIT]) == 0
    assert main(["audit", str(run), key, *AUDIT, "--train", "--searched-size", *TRAINED]) == 0
    table = rows(run / "audit.csv")
    assert {row["status"] for row in table} == {"ok"}
    assert [row["arch_id"] for row in table if row["weights"] == "audit"] == [key]
    assert {row["arch_id"] for row in table if row["weights"] == "search"} == {
        row["arch_id"] for row in rows(run / "front.csv")
    }
    assert main(["choose", str(run), "--where", "audit.fgsm_linf_error <= 1"]) == 0


def test_it_is_reported(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run), "--charts", str(run.parent / "charts")]) == 0
    assert best(run)["arch_id"] in (run / "report.html").read_text()
    assert {path.suffix for path in (run.parent / "charts").iterdir()} == {".svg", ".png"}


@pytest.mark.parametrize(("name", "more"), [("net.onnx", ("--int8",)), ("net.pt2", ()), ("tables", ())])
def test_it_is_exported(run: Path, name: str, more: tuple[str, ...], tmp_path: Path) -> None:
    if name == "tables":
        before = (run / "front.csv").read_bytes()
        assert main(["export", str(run)]) == 0
        assert (run / "front.csv").read_bytes() == before
        return
    assert main(["export", str(run), "best", "--to", str(tmp_path / name), *EXPORT, *more]) == 0
    card = json.loads((tmp_path / "net.card.json").read_text())
    row = best(run)
    assert card["network"]["arch_id"] == row["arch_id"]
    assert (card["network"]["params"], card["network"]["macs"]) == (int(row["params"]), int(row["macs"]))


def test_it_is_timed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for runtime in ("torch", "onnx"):
        capsys.readouterr()
        assert main(["latency", str(run), "best", "--runtime", runtime, "--runs", "2", "--warm-up", "1", "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)["networks"]
        assert row["arch_id"] == best(run)["arch_id"]
        assert 0 < row["p5_ms"] <= row["median_ms"] <= row["p95_ms"]
        if "latency_ms" in best(run):  # as the search has looked it up
            assert row["latency_ms"] == float(best(run)["latency_ms"]) > 0
            assert (run / "latency.json").is_file()


def test_it_is_shipped_and_its_weights_are_those_of_the_file(run: Path, tmp_path: Path) -> None:
    assert main(["ship", str(run), "--out", str(tmp_path), "--measure=clean", *TRAINED, *EXPORT]) == 0
    key = json.loads((tmp_path / "ship.json").read_text())["arch_id"]
    network = evonas.load_network(run, key, weights="audit")
    row = next(row for row in rows(run / "population.csv") if row["arch_id"] == key)
    assert (count_params(network), count_macs(network, (3, 32, 32))) == (int(row["params"]), int(row["macs"]))
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    (logits,) = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), network(images), atol=1e-4, rtol=0)


def test_its_networks_are_loaded(run: Path) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for row in rows(run / "front.csv"):
        network = evonas.load_network(run, row["arch_id"])
        assert network(images).shape == (2, 10)
        assert count_params(network) == int(row["params"])
