"""E2RNAS as runs: both versions, sweeps over L, their rows beside each other."""

import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from latency_tables import QUICK as QUICK_TABLE
from tiny_cells import TINY, WORDS, bare, end_in_call, run, searched
from tiny_runs import genome_of, rows

from evonas.cli import main
from evonas.costs import count_params
from evonas.errors import ConfigurationError, EvonasError
from evonas.gradient import (
    CrossEntropy,
    DeliveredCost,
    DeliveredLatency,
    ExpectedCost,
    GradientSearch,
    Method,
    Mgda,
    dsrna,
)
from evonas.methods import e2rnas
from evonas.methods.cell_search import CellSearch
from evonas.methods.cell_search_words import MOST, _limit, warning
from evonas.methods.cells import compose, plan_searches
from evonas.methods.e2rnas import PRESETS, E2rnasOptions
from evonas.networks.darts import DartsNetwork
from evonas.runs import DataOptions, Run, latency
from evonas.runs.interrupt import Interrupted
from evonas.runs.needs import refuse_unused
from evonas.ship import measure_table
from evonas.training.checkpoints import save_checkpoint

pytestmark = pytest.mark.lengthy

FIRST = E2rnasOptions(version=1, **TINY)
SECOND = replace(
    FIRST,
    version=2,
    data=DataOptions(data="digits", train_limit=40, val_limit=20, ood_data="noise"),
    levels=replace(FIRST.levels, search_epochs=1),
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("e2rnas") / "first"
    e2rnas.run(replace(FIRST, sweep_L=(0.0, 9.0), out=out))
    return out


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("e2rnas") / "second"
    with pytest.MonkeyPatch.context() as patch:
        bare(patch)
        run(replace(SECOND, out=out))
    return out


@pytest.mark.slow
def test_a_sweep_is_one_table(swept: Path) -> None:
    """L = 0 presses on the parameters, L = 9 is never reached, so that the validation loss alone counts."""
    assert {path.name for path in swept.glob("search*.csv")} == {"search-L0.csv", "search-L9.csv"}
    low, high = (rows(swept / f"search-{label}.csv") for label in ("L0", "L9"))
    assert all(float(row["weight_params_loss"]) == 0 and float(row["weight_loss"]) == 1 for row in high)
    assert float(low[-1]["expected_params"]) < float(high[-1]["expected_params"])
    sweep = rows(swept / "sweep.csv")
    assert [row["search"] for row in sweep] == ["L0", "L9"]
    table = rows(swept / "population.csv")
    assert {row["arch_id"] for row in sweep} == {row["arch_id"] for row in table}
    assert 1 <= len(table) <= 2
    assert {row["method"] for row in table} == {"e2rnas-v1"}
    assert not (swept / "repeats.csv").exists()


def test_the_second_version_weights_five_objectives(second: Path) -> None:
    (row,) = rows(second / "search.csv")
    weights, shares = (
        {name.removeprefix(kind): float(row[name]) for name in row if name.startswith(kind)}
        for kind in ("weight_", "share_")
    )
    assert len(weights) == 5
    assert shares.keys() == weights.keys()
    assert sum(shares.values()) == pytest.approx(1)
    assert {"loss", "params_loss"} < weights.keys()
    assert rows(second / "front.csv")[0]["method"] == "e2rnas-v2"


@pytest.mark.parametrize("below", [0.94, 0.96])
def test_one_objective_that_makes_all_of_an_epochs_steps_is_warned_of(below: float) -> None:
    """In a line that names what lets the others count, where something does."""
    (authors,), (default,) = (
        replace(SECOND, weights_on=weights_on).methods(32).values() for weights_on in ("raw", None)
    )
    row = {"share_loss": 1 - below, "share_flops_loss": below, "weight_loss": 1.0, "weight_flops_loss": 1.0}
    said = {each: warning(plan_of(each), row) for each in (authors, default)}
    if below < MOST:
        assert set(said.values()) == {""}
    else:
        assert "flops_loss made over 95% of the architecture's steps in an epoch" in said[default]
        assert said[authors] == f"{said[default]}; --weights-on normalised lets all count"
        part = {"share_bound": below, "share_loss": 1 - below, "weight_bound+loss": 1.0}
        said_of_a_sum = warning(plan_of(dsrna()), part)
        assert "bound made over 95% of the architecture's first step in an epoch" in said_of_a_sum
        assert said_of_a_sum.endswith("; --metric-share 0.5 makes both count alike")


def test_a_preference_whose_steps_are_zero_is_warned_of() -> None:
    """One without a turn in the epoch is not."""
    plan = plan_of(SECOND.methods(32)[""])
    moving = {"weight_loss": 0.5, "weight_size": -0.2, "share_loss": 0.01, "share_size": 0.99}
    assert warning(plan, {"preferences": [moving, {}]}) == ""
    row = {"preferences": [moving, {"weight_loss": 1e-17, "weight_size": 0.0}]}
    assert "all steps of the architecture of a preference were zero in an epoch" in warning(plan, row)


def plan_of(method: Method) -> CellSearch:
    return CellSearch(
        label="",
        method=method,
        data=None,  # type: ignore[arg-type]
        ood_data=None,
        seed=0,
        device="cpu",
        threads=1,
        precision="fp32",
    )


@pytest.mark.parametrize(("n_classes", "fixed"), [(10, "1.370134"), (100, "1.422064")])
def test_the_parameters_that_N_hat_leaves_out_stand_beside_L(n_classes: int, fixed: str) -> None:
    """Parameters of the network of 36 channels and 20 cells; 90 classes more are 90 x 577 weights more."""
    (method,) = E2rnasOptions(version=1).methods(32).values()
    plan = replace(plan_of(method), data=SimpleNamespace(n_classes=n_classes))  # type: ignore[arg-type]
    assert f"L = 1M of N-hat, the operations of all edges; besides, every network has {fixed}M in" in _limit(plan)
    assert _limit(plan_of(dsrna())) == ""


def test_parameters_alone_are_a_row_of_table_3() -> None:
    (method,) = replace(FIRST, adversarial_below=False, validate=False, L=0.0).methods(32).values()
    assert [loss.name for loss in method.upper] == ["params_loss"]
    assert method.lower == CrossEntropy()
    with pytest.raises(ConfigurationError, match="expected an objective, got --no-count-params with --no-validate"):
        replace(FIRST, count_params=False, validate=False)


def test_a_run_goes_on_with_the_other_images_that_it_began_with(second: Path) -> None:
    auto = replace(SECOND, data=replace(SECOND.data, ood_data="auto"), out=second)
    with Run.open("e2rnas-v2", auto) as begun:
        _, candidates, _ = compose(begun, auto)
        (search,) = plan_searches(begun, auto, candidates.data)
        assert search.ood_data is not None
        assert search.ood_data.name == "noise"
        assert "out-of-distribution images: noise, as this run was started with" in begun.notes
        assert begun.ood_data(candidates.data) is search.ood_data  # those of AUPR after the search


def test_parameters_that_are_only_watched_are_counted_as_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a supernet's scale they are a tenth of those of the network that is evaluated."""
    bare(monkeypatch)
    levels = replace(FIRST.levels, search_epochs=1)
    costs: dict[str, Any] = {"cost_channels": 16, "cost_layers": 8, "cost_affine": False}
    run(replace(FIRST, count_params=False, levels=levels, out=tmp_path, **costs))
    cost = ExpectedCost(channels=16, layers=8, nodes=2, affine=False)
    (probabilities,), (row,) = searched(tmp_path)["history"], rows(tmp_path / "search.csv")
    assert isinstance(probabilities, torch.Tensor)
    assert float(row["expected_params"]) == pytest.approx(float(cost.expected(probabilities.double())))
    assert float(row["expected_params"]) < 0.3
    assert "weight_params_loss" not in row


SIZED: dict[str, Any] = {"size": "delivered", "cost_channels": 16, "cost_layers": 8}


def test_a_size_is_that_of_the_network_that_is_counted() -> None:
    """N-hat stays the default; F is an objective of the delivered network only where it is given."""
    (usual,) = SECOND.methods(32).values()
    assert usual.size is None
    (second,) = replace(SECOND, L=0.15, **SIZED).methods(28, 3).values()
    assert second.size == DeliveredCost(limit=0.15, channels=16, layers=8, nodes=2, n_classes=3, image_size=28)
    assert [loss.name for loss in second.upper[3:]] == ["params_loss"]
    (both,) = replace(SECOND, L=0.15, F=25.0, size_within=0.05, **SIZED).methods(32).values()
    assert [(loss.kind, loss.limit) for loss in both.upper[3:] if isinstance(loss, DeliveredCost)] == [
        ("params", 0.15),
        ("macs", 25.0),
    ]
    (flops,) = replace(SECOND, F=25.0, **SIZED).methods(32).values()
    assert [(limit.kind, limit.limit) for limit in flops.limits] == [("macs", 25.0)]
    assert (second.identity().get("held"), flops.identity()["held"]) == (None, ["macs"])
    first = replace(FIRST, sweep_L=(0.1, 0.15), **SIZED).methods(32)
    combine = Mgda(normalisation="l2", solver="exact", applied_to="normalised")
    assert all(method.combine == combine for method in first.values())
    assert [method.size.limit for method in first.values() if method.size is not None] == [0.1, 0.15]


@pytest.mark.slow
def test_a_search_of_a_size_shows_and_delivers_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What search.csv, the screen and the found cells say is what the built network has."""
    bare(monkeypatch)
    options = replace(FIRST, L=0.15, out=tmp_path, **SIZED)
    text = run(options)
    assert "L = 0.15M parameters of the delivered network, within 1%, with 16 channels and 8 cells" in text
    last = rows(tmp_path / "search.csv")[-1]
    assert float(last["delivered_size"]) == pytest.approx(0.15, rel=0.01)
    assert f"{float(last['delivered_size']):.3f}M delivered; normal" in text
    with Run.open("e2rnas-v1", options) as begun:
        space, candidates, _ = compose(begun, options)
        (search,) = plan_searches(begun, options, candidates.data)
    (row,) = rows(tmp_path / "population.csv")
    network = DartsNetwork(space.genotype(genome_of(row)), 16, 8, 10)
    assert count_params(network) / 1e6 == pytest.approx(float(last["delivered_size"]))
    moved = last["derived_size"] != last["delivered_size"]
    assert ("the derived network has" in text) is moved
    assert search.identity()["method"]["upper"]["params_loss"]["within"] == 0.01
    with pytest.raises(EvonasError, match=r"cells.*params_loss"):
        run(replace(options, size="n-hat"))


TIMED: dict[str, Any] = {"size": "delivered", "cost_channels": 4, "cost_layers": 3}


def test_a_latency_is_a_limit_beside_the_others() -> None:
    """In version 1 alone or beside L, in version 2 beside F, too; without a table its range is not known yet."""
    (alone,) = replace(FIRST, latency=2.0, **TIMED).methods(32).values()
    assert [(limit.kind, limit.limit) for limit in alone.limits] == [("latency", 2.0)]
    (beside,) = replace(FIRST, latency=2.0, L=0.008, **TIMED).methods(32).values()
    assert [loss.name for loss in beside.upper] == ["loss", "params_loss", "latency_loss"]
    (second,) = replace(SECOND, latency=2.0, F=25.0, **SIZED).methods(28, 3).values()
    assert [limit.kind for limit in second.limits] == ["macs", "latency"]
    assert second.latency == DeliveredLatency(limit=2.0, channels=16, layers=8, nodes=2, n_classes=3, image_size=28)


def test_a_latency_is_a_limit_of_every_search_of_a_sweep() -> None:
    methods = replace(FIRST, latency=2.0, sweep_L=(0.008, 0.01), **TIMED).methods(32)
    assert [[(limit.kind, limit.limit) for limit in method.limits] for method in methods.values()] == [
        [("params", 0.008), ("latency", 2.0)],
        [("params", 0.01), ("latency", 2.0)],
    ]


@pytest.fixture
def rough_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables in a cache of their own, measured roughly."""
    monkeypatch.setenv("EVONAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(latency, "measure_table", partial(measure_table, effort=QUICK_TABLE))
    bare(monkeypatch)


@pytest.mark.slow
@pytest.mark.usefixtures("rough_tables")
def test_a_search_of_a_latency_delivers_it_by_the_table_that_scores_its_cells(tmp_path: Path) -> None:
    """Continued after a kill it is the same bit for bit, with the table in its folder; other limits are refused."""
    asked = replace(FIRST, objectives=("clean_error", "latency_ms"), latency=1e-3, out=tmp_path / "range", **TIMED)
    with pytest.raises(EvonasError, match="expected latency of the delivered network in") as refused:
        run(asked)
    least, most = map(float, re.findall(r"\d+\.\d{6}", str(refused.value)))
    options = replace(asked, latency=0.4 * least + 0.6 * most, size_within=0.05, out=tmp_path / "whole")
    text = run(options)
    assert f"latency = {options.latency:g} ms of the delivered network, within 5%, with 4 channels and 3 cells" in text
    assert text.count(" layers on ") == 1
    last, (row,) = rows(options.out / "search.csv")[-1], rows(options.out / "population.csv")  # type: ignore[operator]
    assert float(last["delivered_latency_ms"]) == pytest.approx(options.latency, rel=0.05)
    assert float(row["latency_ms"]) == pytest.approx(float(last["delivered_latency_ms"]), rel=1e-12)
    shutil.rmtree(tmp_path / "cache")
    stopped = tmp_path / "stopped"
    shutil.copytree(tmp_path / "whole", stopped)
    for name in ("journal.jsonl", "front.csv", "population.csv"):
        (stopped / name).unlink()
    run(replace(options, out=stopped))
    assert not (tmp_path / "cache").exists()
    assert rows(stopped / "population.csv")[0]["genome"] == row["genome"]
    with pytest.raises(EvonasError, match=r"expected the networks of this run's latency table, .* got .*'channels': 8"):
        run(replace(options, objectives=("clean_error",), cost_channels=8, out=stopped))
    (stopped / "latency.json").unlink()
    with pytest.raises(EvonasError, match="there is no such file"):
        run(replace(options, out=stopped))


def test_a_folder_of_another_method_is_refused_before_a_table_is_looked_for(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "training.pt", {"method": "imagenet"}, {})
    with pytest.raises(EvonasError, match=r"holds training\.pt of another method's run"):
        run(replace(FIRST, latency=2.0, out=tmp_path, **TIMED))


@pytest.mark.slow
@pytest.mark.usefixtures("rough_tables")
def test_a_killed_search_of_a_latency_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(FIRST, latency=2.0, size_within=0.5, **TIMED)
    with pytest.raises(EvonasError, match="expected latency of the delivered network in") as refused:
        run(replace(options, latency=1e-3, out=tmp_path / "range"))
    limit = sum(map(float, re.findall(r"\d+\.\d{6}", str(refused.value)))) / 2
    whole, stopped = (replace(options, latency=limit, out=tmp_path / name) for name in ("whole", "stopped"))
    run(whole)
    with monkeypatch.context() as patch:
        end_in_call(patch, GradientSearch, "run_epoch", 2)
        with pytest.raises(Interrupted):
            run(stopped)
    kept = (tmp_path / "stopped" / "latency.json").read_bytes()
    wider = replace(FIRST, objectives=("clean_error", "latency_ms"), cells=replace(FIRST.cells, eval_channels=8))
    with pytest.raises(EvonasError, match=r"expected the networks of this run's latency table, .* got .*'channels': 8"):
        run(replace(wider, out=stopped.out))
    assert (tmp_path / "stopped" / "latency.json").read_bytes() == kept
    shutil.rmtree(tmp_path / "cache")  # the search goes on with the table in its folder
    run(stopped)
    assert not (tmp_path / "cache").exists()
    (first,), (second,) = (rows(tmp_path / name / "population.csv") for name in ("whole", "stopped"))
    assert (first["genome"], first["clean_error"]) == (second["genome"], second["clean_error"])
    assert all(map(torch.equal, searched(tmp_path / "whole")["history"], searched(tmp_path / "stopped")["history"]))


@pytest.mark.slow
def test_one_front_over_methods(swept: Path, second: Path, tmp_path: Path) -> None:
    words = ["front", str(swept), str(second), "--objectives", "clean_error,params", "--out", str(tmp_path / "joint")]
    assert main(words) == 0
    assert {row["method"] for row in rows(tmp_path / "joint" / "population.csv")} == {"e2rnas-v1", "e2rnas-v2"}


def test_a_search_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(EvonasError, match=r"^the search diverged: "):
        run(replace(FIRST, levels=replace(FIRST.levels, search_lr=1e30), out=tmp_path))


def test_out_of_distribution_images_of_the_same_things_are_refused(tmp_path: Path) -> None:
    data = replace(SECOND.data, ood_data="mnist")
    with pytest.raises(ConfigurationError, match="expected out-of-distribution images of other classes"):
        run(replace(SECOND, data=data, out=tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"L": 1.0, "sweep_L": (1.0, 2.0)}, "expected --L or --sweep-L, got both"),
        ({"sweep_L": (1.0, 1.0000001)}, "expected L in --sweep-L that differ"),
        ({"latency": 2.0, "size": "delivered", "preferences": 3}, "expected --preferences 3.* without --latency"),
        ({"latency": 0.0, **SIZED}, "expected latency > 0, got 0.0"),
        (
            {"latency": 2.0, "objectives": ("clean_error", "latency_ms"), **SIZED},
            "got networks of 16 channels and 8 cells, and of 4 and 3; give --cost-channels 4 --cost-layers 3",
        ),
        ({"size": "derived"}, "expected size of n-hat, delivered, got 'derived'"),
        ({"size_within": 1.0}, "expected size_within in"),
    ],
)
def test_senseless_options_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        replace(SECOND, **change)


def images_of(side: int, path: Path) -> str:
    """Drawn images of three classes, in a file."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(256, size=(60, side, side), dtype=np.uint8), np.arange(60) % 3
    np.savez(path, x_train=images, y_train=labels, x_test=images[:12], y_test=labels[:12])
    return f"npz:{path}"


def test_limits_are_those_of_the_datas_own_network(tmp_path: Path) -> None:
    """F = 100 is beyond all networks for 32x32 images, which have 43 million multiply-adds at most."""
    data = DataOptions(data=images_of(64, tmp_path / "large.npz"), ood_data="noise")
    options = replace(SECOND, F=100.0, data=data, out=tmp_path / "run", **SIZED)
    with Run.open("e2rnas-v2", options) as begun:
        _, candidates, _ = compose(begun, options)
        (search,) = plan_searches(begun, options, candidates.data)
    (limit,) = search.method.limits
    assert (limit.image_size, limit.n_classes, limit.limit) == (64, 3, 100.0)
    with pytest.raises(ConfigurationError, match="expected F of the delivered network"):
        options.methods(32, 3)


@pytest.mark.parametrize(
    ("side", "limits", "message"),
    [
        (64, {"F": 30}, "expected F of the delivered network in [48.300416, 171.114880]M multiply-adds"),
        (16, {"F": 30}, "expected F of the delivered network in ["),
        (32, {"L": 0.1, "cost-channels": 36, "cost-layers": 20}, "expected L of the delivered network in ["),
        (32, {"L": 0.15, "F": 40}, "expected limits that one network meets, each within 1%, got L = 0.15 and F = 40; "),
    ],
)
def test_limits_that_no_network_of_the_data_meets_end_a_run_before_its_search(
    side: int, limits: dict[str, float], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"cost-channels": 16, "cost-layers": 8, **limits}
    words = [word for word in WORDS if not word.startswith(("--data", "--train-limit", "--val-limit"))]
    words += [f"--data={images_of(side, tmp_path / 'images.npz')}", "--ood-data=noise", "--size=delivered"]
    words += [f"--{name}={value}" for name, value in given.items()]
    assert main(["e2rnas", *words, f"--out={tmp_path / 'run'}"]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "expected" in line]
    assert len(said) == 1
    assert message in said[0]
    assert not list((tmp_path / "run").glob("search*"))


def test_a_latency_without_the_size_of_the_delivered_network_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--latency changes nothing without --size delivered"):
        refuse_unused(replace(FIRST, latency=2.0), FIRST)
    with pytest.raises(ConfigurationError, match="expected --L or --latency with --size delivered in version 1"):
        replace(FIRST, **SIZED)


def test_presets_are_what_the_papers_state() -> None:
    (second,) = PRESETS["paper"].methods(32).values()
    assert (second.name, second.config.order, second.config.begin_with) == ("e2rnas-v2", 2, "weights")
    (first,) = replace(PRESETS["paper"], version=1).methods(32).values()
    assert (first.name, [loss.name for loss in first.upper]) == ("e2rnas-v1", ["loss", "params_loss"])


def test_L_is_the_versions_own_unless_it_is_given() -> None:
    def limits(**given: Any) -> list[float]:
        methods = replace(PRESETS["paper"], **given).methods(32).values()
        costs = [loss for method in methods for loss in method.upper if isinstance(loss, ExpectedCost)]
        return [cost.limit for cost in costs if cost.kind == "params"]

    assert (limits(version=1), limits(version=2), limits(L=3.5)) == ([1.0], [2.5], [3.5])
    assert limits(version=1, sweep_L=(0.5, 2.0)) == [0.5, 2.0]
