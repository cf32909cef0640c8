"""Options that all searches of cells share: what they make of a method, and what is refused before anything is run."""

from dataclasses import replace
from typing import Any

import pytest
from tiny_cells import TINY, assert_refused_in_one_line

from evonas.errors import ConfigurationError, EvonasError
from evonas.gradient import METHODS, Method
from evonas.methods import darts, dsrna, e2rnas
from evonas.methods.cell_retraining import CellRetrainOptions
from evonas.methods.cells import LevelOptions
from evonas.methods.darts import DartsOptions
from evonas.runs import parse
from evonas.training import PgdTraining


def applied(method: str, **given: Any) -> Method:
    return LevelOptions(**given).applied(METHODS[method]())


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_given_is_the_methods_own(method: str) -> None:
    assert applied(method) == METHODS[method]()


def test_later_stages_follow_the_first_in_proportion() -> None:
    """P-DARTS: 5, 11 and 17 cells, 25 epochs of which the first 10 train weights alone."""
    found = applied("pdarts", search_layers=3, search_epochs=5, search_channels=4)
    assert [(stage.layers, stage.epochs, stage.weights_only, stage.channels) for stage in found.stages] == [
        (3, 5, 2, 4),
        (7, 5, 2, 4),
        (10, 5, 2, 4),
    ]
    given = applied("pdarts", search_epochs=5, weights_only=4)
    assert [stage.weights_only for stage in given.stages] == [4, 4, 4]


def test_a_learning_rate_below_the_methods_least_one_stays_as_it_is() -> None:
    config = METHODS["darts"]().config
    assert applied("darts", search_lr=0.01).config.search_lr_min == config.search_lr_min
    low = applied("darts", search_lr=1e-4).config
    assert (low.search_lr, low.search_lr_min) == (1e-4, 1e-4)


def test_the_published_presets_search_as_darts_does() -> None:
    (paper,) = darts.PRESETS["paper"].methods(32).values()
    assert (paper.name, paper.epochs, paper.config.order, paper.config.begin_with) == ("darts", 50, 1, "alpha")
    quick = replace(darts.PRESETS["quick"], method="pdarts").methods(32)[""]
    assert [stage.layers for stage in quick.stages] == [3, 7, 10]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectives": ("clean_error", "adversarial_set_error")}, "expected objectives without a set"),
        ({"objectives": ("speed",)}, "unknown objective 'speed'"),
        ({"levels": LevelOptions(hessian="exact", order=1)}, "expected --order 2 with --hessian exact"),
        ({"levels": LevelOptions(order=2, perturb_alpha=0.1)}, "expected order 1 with a perturbed alpha"),
        ({"levels": LevelOptions(nodes=0)}, "nodes"),
        ({"repeats": 0}, "expected repeats >= 1, got 0"),
    ],
)
def test_senseless_options_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(EvonasError, match=message):
        replace(DartsOptions(**TINY), **change)  # type: ignore[arg-type]


def test_a_precision_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected a precision of auto, bf16, fp32, got 'fp8'"):
        LevelOptions(search_precision="fp8")


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["darts", "--ood-data", "noise"], "--ood-data changes nothing without --objectives ood_aupr, --retrain or"),
        (["e2rnas", "--version", "1", "--ood-data", "noise"], "--ood-data changes nothing without"),
        (["darts", "--retrain-epochs", "3"], "--retrain-epochs changes nothing without --retrain"),
        (["darts", "--published", "PDARTS"], "--published changes nothing without --retrain"),
        (["dsrna", "--radius-images", "3"], "--radius-images changes nothing without --retrain"),
        (["dsrna", "--metric", "jacobian", "--epsilon-start", "0.01"], "changes nothing without --metric bound"),
        (["e2rnas", "--version", "1", "--F", "500"], "--F changes nothing without --version 2"),
        (["e2rnas", "--version", "1", "--no-ood-below"], "--ood-below changes nothing without --version 2"),
        (["e2rnas", "--no-count-params"], "--count-params changes nothing without --version 1"),
        (["e2rnas", "--version", "1", "--no-count-params", "--L", "2"], "--L changes nothing without --count-params"),
        (["e2rnas", "--no-mgda", "--solver", "exact"], "--solver changes nothing without --mgda"),
        (["darts", "--retrain", "--against", "DARTS_V2"], "unknown option --against; did you mean --published?"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_what_changes_nothing_is_refused_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused_in_one_line(words, message, capsys)


@pytest.mark.parametrize("words", [["--retrain"], ["--objectives", "ood_aupr,params"]])
def test_other_images_are_of_use_to_some(words: list[str]) -> None:
    assert parse(darts.PRESETS, ["--ood-data", "noise", *words]).data.ood_data == "noise"
    assert parse(e2rnas.PRESETS, ["--ood-data", "noise"]).data.ood_data == "noise"  # version 2 trains on them


@pytest.mark.lengthy
@pytest.mark.parametrize("method", [darts, dsrna, e2rnas])
def test_every_preset_can_be_parsed(method: Any) -> None:
    for name, preset in method.PRESETS.items():
        assert parse(method.PRESETS, ["--preset", name]) == replace(preset, preset=name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"published": ("DARTS_V3",)}, r"unknown published cells 'DARTS_V3'; did you mean DARTS_V[12]\? known"),
        ({"published": ("PDARTS", "PDARTS")}, "every one of --published once"),
        ({"retrain_channels": 36, "retrain_params": (2.0,)}, r"got both: 36 and \(2.0,\)"),
        ({"retrain_params": (2.0, 2.0)}, "different numbers of --retrain-params"),
        ({"retrain_params": ()}, "different numbers of --retrain-params"),
        ({"retrain_channels": 0}, "retrain_channels >= 1, got 0"),
        ({"retrain_layers": 0}, "retrain_layers >= 1"),
        ({"retrain_params": (0.0,)}, "retrain_params > 0"),
        ({"retrain_epochs": 0}, "retrain_epochs >= 1"),
        ({"retrain_batch_size": 0}, "retrain_batch_size >= 2"),
        ({"retrain_lr": 0.0}, "retrain_lr > 0"),
        ({"retrain_weight_decay": -1.0}, "weight_decay >= 0"),
        ({"retrain_precision": "fp8"}, "expected a precision"),
        ({"auxiliary": -1.0}, "auxiliary >= 0"),
        ({"drop_path": 1.0}, "drop_path in"),
        ({"cutout": -1}, "cutout >= 0"),
        ({"test_epsilon": 0.0}, r"test_epsilon in \(0, 1\]"),
        ({"test_steps": 0}, "test_steps >= 1"),
        ({"test_step_size": float("inf")}, r"test_step_size in \(0, 1\]"),
        ({"test_limit": 0}, "test_limit >= 1"),
    ],
)
def test_senseless_retraining_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EvonasError, match=message):
        CellRetrainOptions(retrain=True, **options)


@pytest.mark.parametrize("method", [darts, dsrna, e2rnas])
def test_the_recipe_of_the_weights_is_that_of_every_search(method: Any) -> None:
    """Radius 0.1, step in proportion: 2/255 within 8/255. Networks that are scored keep their own recipe."""
    words = ["--search-recipe", "pgd_at", "--search-recipe-epsilon", "0.1"]
    baselines = ["--baselines", "darts,pdarts-adv"] if method is dsrna else []
    options = parse(method.PRESETS, [*words, *baselines])
    searches = options.methods(32).values()
    assert len(searches) == 1 + 2 * (method is dsrna)
    for each in searches:
        assert isinstance(each.recipe, PgdTraining)
        assert (each.recipe.epsilon, each.recipe.steps) == (0.1, 7)
        assert each.recipe.step == pytest.approx(0.025)
    assert options.recipe == "standard"
    assert all(each.recipe is None for each in parse(method.PRESETS, baselines).methods(32).values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["darts", "--search-recipe-epsilon", "0.1"], "without a robust recipe, such as --search-recipe trades"),
        (
            ["darts", "--search-recipe", "gaussian", "--search-recipe-epsilon", "0.1"],
            "without a robust recipe, such as --search-recipe trades",
        ),
        (["dsrna", "--search-recipe", "ibp"], "expected a recipe of an attack and a loss"),
        (["darts", "--search-recipe", "trades_yopo"], "expected a recipe of an attack and a loss"),
        (["darts", "--search-recipe", "trade"], "unknown recipe 'trade'"),
        (["darts", "--search-recipe", "trades", "--search-recipe-epsilon", "2"], "search_recipe_epsilon in (0, 1]"),
        (["darts", "--search-recipe", "trades_awp", "--order", "2"], "expected order 1 with trades_awp"),
        (
            ["e2rnas", "--search-recipe", "trades", "--adversarial-below"],
            "--adversarial-below changes nothing without --search-recipe standard",
        ),
        (
            ["e2rnas", "--version", "1", "--search-recipe", "trades", "--search-epsilon", "0.1"],
            "--search-epsilon changes nothing without --search-recipe standard",
        ),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_recipes_of_the_weights_that_cannot_be_are_refused_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused_in_one_line(words, message, capsys)
