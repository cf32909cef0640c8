"""DSRNA as runs: both metrics, stopped and continued, beside baselines and over repeats, measured as its tables are."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_cells import TINY, bare, end_in_call, kill_and_continue, run, searched
from tiny_runs import contents, rows

from evonas.attacks import FGSM
from evonas.audit import ErrorUnder, MeanRadius
from evonas.cli import main
from evonas.errors import EvonasError, RunMismatchError
from evonas.gradient import BoundLoss, GradientSearch, JacobianLoss, Mgda, SquaredJacobianLoss
from evonas.methods import darts, dsrna
from evonas.methods.cell_retraining import CellRetrainOptions, RobustnessOptions
from evonas.methods.dsrna import PRESETS, BoundOptions, DsrnaOptions
from evonas.runs.interrupt import Interrupted

pytestmark = pytest.mark.lengthy

BOUND = DsrnaOptions(metric_images=2, **TINY)
JACOBIAN = replace(BOUND, metric="jacobian", levels=replace(BOUND.levels, search_epochs=1))
HALVES = (("metric_share", 0.5), ("combine", "normalised"))
LABELS = ["dsrna-jacobian-r1", "dsrna-jacobian-r2", "pcdarts-adv-r1", "pcdarts-adv-r2"]


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dsrna") / "bound"
    dsrna.run(replace(BOUND, out=out))
    return out


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two searches of DSRNA and of PC-DARTS-ADV each, their cells trained again and measured."""
    out = tmp_path_factory.mktemp("dsrna") / "repeated"
    options = replace(
        JACOBIAN,
        repeats=2,
        baselines=("pcdarts-adv",),
        data=replace(JACOBIAN.data, ood_data="noise"),
        after=CellRetrainOptions(
            retrain=True, retrain_epochs=1, retrain_batch_size=20, cutout=0, test_limit=10, retrain_precision="fp32"
        ),
        robustness=RobustnessOptions(robust_attacks=("fgsm", "pgd10"), radius_images=2),
        out=out,
    )
    with pytest.MonkeyPatch.context() as patch:
        bare(patch)
        run(options)
    return out


@pytest.mark.slow
def test_what_a_search_with_a_bound_logs(bounded: Path) -> None:
    found = rows(bounded / "search.csv")
    for name in ("upper_loss", "upper_bound", "certified_bound", "certified_difference", "epsilon"):
        assert all(math.isfinite(float(row[name])) for row in found)
    assert float(found[0]["epsilon"]) != 0.03
    (row,) = rows(bounded / "front.csv")
    assert (row["method"], row["status"]) == ("dsrna-bound", "ok")


def test_a_finished_run_measures_nothing_and_verifies(
    bounded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(bounded)
    for name in ("run_epoch", "batches"):  # the seconds of a metric are of the first batch
        monkeypatch.setattr(GradientSearch, name, lambda *arguments: pytest.fail("measured again"))
    run(replace(BOUND, out=bounded))
    assert contents(bounded) == before
    assert main(["verify", str(bounded)]) == 0
    assert "all counts are equal" in capsys.readouterr().out


@pytest.mark.slow
def test_the_seconds_of_both_metrics_are_told_before_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DSRNA, 4.3.1. Two images are what the metric is taken on."""
    monkeypatch.setattr(GradientSearch, "run_epoch", lambda *arguments: pytest.fail("nothing else is wanted"))
    screen: list[str] = []
    monkeypatch.setattr("evonas.runs.screen.Screen.say", lambda self, text: screen.append(text))
    with pytest.raises(pytest.fail.Exception, match="nothing else"):
        run(replace(BOUND, out=tmp_path))
    (line,) = (text for text in screen if "certified bound" in text)
    assert "Jacobian" in line
    assert "2 images" in line


@pytest.mark.slow
def test_stopped_in_the_search_it_goes_on_bit_for_bit(
    bounded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare(monkeypatch)
    with monkeypatch.context() as patch:
        end_in_call(patch, GradientSearch, "run_epoch", 2)
        with pytest.raises(Interrupted):
            run(replace(BOUND, out=tmp_path))
    torch.manual_seed(1)
    run(replace(BOUND, out=tmp_path))
    assert_equal_searches(tmp_path, bounded)


@pytest.mark.slow
def test_killed_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    out, whole = tmp_path / "killed", tmp_path / "whole"
    words = ("--metric=bound", "--metric-images=2", "--search-epochs=2")
    kill_and_continue("dsrna_cifar10.py", words, out, whole)
    assert_equal_searches(out, whole)


def assert_equal_searches(one: Path, other: Path) -> None:
    for name in ("search.csv", "front.csv"):
        assert rows(one / name) == rows(other / name)
    first, second = searched(one), searched(other)
    assert first["epsilon"] == second["epsilon"] != 0.03
    for name, value in first["architecture"].items():
        assert torch.equal(value, second["architecture"][name])


def test_another_radius_is_another_search(bounded: Path) -> None:
    other = replace(BOUND, bound=BoundOptions(epsilon_start=0.02), out=bounded)
    with pytest.raises(RunMismatchError, match=r"upper\.bound\+loss"):
        run(other)


@pytest.mark.slow
def test_repeats_and_baselines_are_searches_of_one_table(repeated: Path) -> None:
    assert {path.name for path in repeated.glob("search-*.pt")} == {f"search-{label}.pt" for label in LABELS}
    sweep = rows(repeated / "sweep.csv")
    assert [row["search"] for row in sweep] == LABELS
    assert rows(repeated / "search-dsrna-jacobian-r1.csv") != rows(repeated / "search-dsrna-jacobian-r2.csv")
    assert "jacobian_norm" not in rows(repeated / "search-pcdarts-adv-r1.csv")[0]
    means = {(row["search"], row["column"]): row for row in rows(repeated / "repeats.csv")}
    errors = [float(row["clean_error"]) for row in sweep[:2]]
    found = means["dsrna-jacobian", "clean_error"]
    assert float(found["mean"]) == pytest.approx(sum(errors) / 2)
    assert float(found["deviation"]) == pytest.approx(abs(errors[0] - errors[1]) / 2**0.5)
    assert (found["searches"], means["pcdarts-adv", "clean_error"]["searches"]) == ("2", "2")


@pytest.mark.slow
def test_the_first_repeat_is_the_search_without_repeats(
    repeated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare(monkeypatch)
    run(replace(JACOBIAN, out=tmp_path))
    assert rows(tmp_path / "search.csv") == rows(repeated / "search-dsrna-jacobian-r1.csv")


@pytest.mark.slow
def test_networks_that_were_trained_again_are_measured(repeated: Path) -> None:
    found = rows(repeated / "robust" / "retrained.csv")
    assert [row["configuration"] for row in found] == [label.replace("-r", " r") for label in LABELS]
    for row in found:
        assert row["status"] == "ok"
        assert 0 <= float(row["fgsm_error"]) <= 1
        assert float(row["pgd10_error"]) >= 0
        assert float(row["certified_radius_linf"]) >= 0
        assert float(row["certified_radius_l2"]) >= float(row["certified_radius_linf"])  # the ball lies within
    means = {(row["search"], row["column"]) for row in rows(repeated / "robust" / "repeats.csv")}
    assert ("pcdarts-adv", "fgsm_error") in means
    assert ("dsrna-jacobian", "certified_radius_l2") in means
    page = (repeated / "robust" / "tables.md").read_text()
    assert "| dsrna-jacobian | 2 |" in page
    assert "Robustness of cells trained again, on digits" in page
    assert "As reported" not in page  # the paper has no digits


@pytest.mark.slow
def test_robustness_over_repeats_is_that_of_each_preference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps so short that two preferences of one search keep the same cells, which count for both."""
    bare(monkeypatch)
    after = CellRetrainOptions(
        retrain=True, retrain_epochs=2, retrain_batch_size=10, cutout=0, test_limit=200, retrain_precision="fp32"
    )
    options = replace(
        JACOBIAN,
        preferences=3,
        repeats=2,
        levels=replace(BOUND.levels, search_epochs=3, alpha_lr=1e-4),
        after=after,
        robustness=RobustnessOptions(robust_attacks=("fgsm",), radius_images=0),
        out=tmp_path,
    )
    run(options)
    sweep = {(row["search"], row["preference"]): row["arch_id"] for row in rows(tmp_path / "sweep.csv")}
    assert {*sweep} == {(search, number) for search in ("r1", "r2") for number in "123"}
    found = {
        (row["configuration"].split()[1], row["arch_id"]): row for row in rows(tmp_path / "robust" / "retrained.csv")
    }
    assert {*found} == {(search, name) for (search, _), name in sweep.items()}
    assert len(found) < len(sweep)
    assert len({row["fgsm_error"] for row in found.values()}) > 1  # or any mean would be right
    means = {(row["search"], row["column"]): row for row in rows(tmp_path / "robust" / "repeats.csv")}
    columns = ("clean_error", "fgsm_error")
    assert {*means} == {(f"dsrna-jacobian p{number}", column) for number in "123" for column in columns}
    for (name, column), row in means.items():
        one, other = (float(found[search, sweep[search, name[-1]]][column]) for search in ("r1", "r2"))
        assert row["searches"] == "2"
        assert float(row["mean"]) == pytest.approx((one + other) / 2)
        assert float(row["deviation"]) == pytest.approx(abs(one - other) / 2**0.5)


def test_presets_are_what_the_paper_states() -> None:
    paper = PRESETS["paper"]
    (bound,) = paper.methods(32).values()
    (jacobian,) = replace(paper, metric="jacobian").methods(32).values()
    assert (bound.name, bound.config.search_batch_size, bound.config.search_lr) == ("dsrna-bound", 256, 0.1)
    assert (jacobian.name, jacobian.config.search_batch_size, jacobian.config.search_lr) == (
        "dsrna-jacobian",
        128,
        0.025,
    )
    metric = bound.upper[0].parts[0]  # type: ignore[attr-defined]
    assert isinstance(metric, BoundLoss)
    assert (metric.gamma, metric.images, metric.epsilon.start, bound.nodes) == (0.01, None, 0.03, 4)
    after = paper.after
    assert (after.retrain_epochs, after.retrain_batch_size, after.drop_path) == (600, 128, 0.3)
    assert (paper.cells.eval_channels, paper.cells.eval_layers) == (36, 20)
    fgsm = paper.robustness.attacks[0].measure
    assert isinstance(fgsm, ErrorUnder)
    assert fgsm.attack == FGSM(epsilon=2 / 255)
    three = replace(paper, levels=replace(paper.levels, nodes=3)).methods(32)[""]
    assert three.nodes == 3
    (against_l2,) = replace(paper, metric="jacobian", norm="l2").methods(32)[""].upper
    assert against_l2.parts[0] == JacobianLoss(norm="l2")  # type: ignore[attr-defined]


def test_the_jacobian_and_its_combination_with_the_loss_are_what_was_asked_for() -> None:
    for given, metric in (
        ({"jacobian": "rows"}, JacobianLoss(images=2)),
        ({"jacobian": "exact"}, SquaredJacobianLoss(images=2, projections=None)),
        ({"jacobian": "projected", "projections": 3}, SquaredJacobianLoss(images=2, projections=3)),
    ):
        options: dict[str, Any] = {**given, "combine": "mgda"}
        method = replace(JACOBIAN, **options).methods(32)[""]
        assert method.upper[0] == metric
        assert method.combine == Mgda(normalisation="loss", applied_to="normalised")
    share, normalised = (replace(JACOBIAN, **{name: value}).methods(32)[""] for name, value in HALVES)  # type: ignore[arg-type]
    assert share == normalised


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        (("--gamma=1", "--combine=normalised"), "--gamma changes nothing without the sum of Eq. 16"),
        (("--jacobian=projected",), "--jacobian changes nothing without --metric jacobian"),
        (("--metric=jacobian", "--projections=2"), "--projections changes nothing without --jacobian projected"),
        (("--metric=jacobian", "--jacobian=exact", "--norm=l2"), "--norm changes nothing without --jacobian rows"),
        (("--combine=mgda", "--metric-share=0.5"), "expected --combine mgda, which finds both shares, without"),
    ],
)
def test_options_that_change_nothing_are_refused(
    words: tuple[str, ...], unused: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dsrna", "--data=digits", f"--out={tmp_path / 'none'}", *words]) == 2
    assert unused in " ".join(capsys.readouterr().err.split())


def test_a_baseline_is_the_method_itself() -> None:
    found = replace(BOUND, baselines=("darts", "pcdarts-adv")).methods(32)
    assert list(found) == ["dsrna-bound", "darts", "pcdarts-adv"]
    alone = replace(darts.PRESETS["paper"], levels=BOUND.levels).methods(32)[""]
    assert found["darts"] == alone
    assert found["pcdarts-adv"].perturbation is not None
    assert found["pcdarts-adv"].perturbation.epsilon == 0.3
    levels = replace(BOUND.levels, perturb_alpha=0.1)
    adversarial = replace(BOUND, levels=levels, baselines=("pcdarts-adv",)).methods(32)
    assert list(adversarial) == ["dsrna-bound-adv", "pcdarts-adv"]
    assert adversarial["pcdarts-adv"].perturbation == adversarial["dsrna-bound-adv"].perturbation


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baselines": ("robnet",)}, "unknown baseline 'robnet'"),
        ({"baselines": ("darts", "darts")}, "every one of --baselines once"),
        ({"levels": replace(BOUND.levels, order=2, perturb_alpha=0.1)}, "expected order 1 with a perturbed alpha"),
        ({"bound": BoundOptions(epsilon_min=0.2)}, "expected 0 < minimum <= start"),
        ({"metric_images": 0}, "expected metric_images >= 1, got 0"),
    ],
)
def test_senseless_options_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EvonasError, match=message):
        replace(BOUND, **change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"robust_attacks": ("pgd30",)}, "unknown measurement 'pgd30'"),
        ({"robust_attacks": ("fgsm", "fgsm")}, "every one of --robust-attacks once"),
        ({"radius_images": -1}, "expected radius_images >= 0"),
        ({"fgsm_epsilon": 0.0}, "fgsm_epsilon"),
        ({"radius_targets": "some"}, "radius_targets of random, all, got 'some'"),
    ],
)
def test_senseless_measurements_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EvonasError, match=message):
        RobustnessOptions(**options)


def test_measurements_are_those_that_were_asked_for() -> None:
    options = RobustnessOptions(
        robust_attacks=("pgd20", "fgsm"), fgsm_epsilon=0.1, radius_images=3, radius_targets="all"
    )
    assert [each.column for each in options.attacks] == ["pgd20_error", "fgsm_error"]
    assert options.attacks[1].measure == ErrorUnder("fgsm_error", FGSM(epsilon=0.1))
    assert [each.measure for each in options.radii] == [
        MeanRadius("certified_radius_linf", "linf", images=3, targets="all"),
        MeanRadius("certified_radius_l2", "l2", images=3, targets="all"),
    ]
    assert RobustnessOptions(radius_images=0).radii == ()
