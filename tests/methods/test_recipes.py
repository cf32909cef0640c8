"""Recipes as options: what each command trains by, and networks of cells under any of them."""

from dataclasses import replace
from typing import Any

import pytest

from evonas.audit import FinalTraining
from evonas.data import load_data
from evonas.errors import ConfigurationError, UnknownNameError
from evonas.executors import ignore
from evonas.methods.cell_retraining import CellRetrainOptions
from evonas.methods.darts import DartsOptions
from evonas.methods.recipes import recipe_words, under_recipe
from evonas.methods.roco import RocoOptions
from evonas.methods.roco_retraining import RetrainOptions
from evonas.methods.stored_audit import AuditPlan, _as_planned
from evonas.methods.tam import PRESETS, TamOptions
from evonas.methods.tam_finalise import FinaliseOptions
from evonas.networks.darts import GENOTYPES
from evonas.runs.needs import refuse_unused
from evonas.spaces import DartsSpace, PhaseSpace
from evonas.training import (
    CellTraining,
    FastAdversarial,
    PgdTraining,
    Trades,
    TradesAwp,
    TradesYopo,
    TrainingConfig,
    recipe_within,
    standard,
)
from evonas.training.published import PUBLISHED, published_training

DIGITS = load_data("digits", train_limit=40, val_limit=20)
TRAINING = TrainingConfig(epochs=1, batch_size=20, lr=0.1, precision="fp32")
PHASES = FinalTraining(space=PhaseSpace(phases=2, nodes=3, channels=4), data=DIGITS, training=TRAINING, seed=3)
SPACE = DartsSpace(channels=4, layers=3)
CELLS = replace(PHASES, space=SPACE, recipe=CellTraining(drop_path=0.3))
DARTS = SPACE.canonical(SPACE.from_genotype(GENOTYPES["DARTS_V2"]))


def test_cells_are_trained_again_by_any_recipe() -> None:
    robust = CellRetrainOptions(retrain_recipe="pgd_at", retrain_recipe_epsilon=4 / 255, retrain_average="ema")
    assert robust.recipe == CellTraining(robust=PgdTraining(epsilon=4 / 255, step=1 / 255))
    assert robust.training("fp32").average == "ema"
    assert CellRetrainOptions().recipe == CellTraining()
    with pytest.raises(UnknownNameError, match="unknown recipe 'pgdat'"):
        CellRetrainOptions(retrain_recipe="pgdat")
    with pytest.raises(ConfigurationError, match="expected a recipe for networks without an auxiliary head, got cells"):
        CellRetrainOptions(retrain_recipe="cells")


def test_a_radius_or_a_decay_that_nothing_reads_is_refused() -> None:
    usual = RocoOptions()
    with pytest.raises(ConfigurationError, match="--recipe-epsilon changes nothing without a robust recipe"):
        refuse_unused(replace(usual, recipe_epsilon=4 / 255), usual)
    with pytest.raises(ConfigurationError, match="--average-decay changes nothing without --average ema"):
        refuse_unused(replace(usual, training=TrainingConfig(average_decay=0.5)), usual)
    after = RetrainOptions(retrain=True, retrain_recipe_epsilon=4 / 255)
    with pytest.raises(ConfigurationError, match="--retrain-recipe-epsilon changes nothing without a robust recipe"):
        refuse_unused(replace(usual, after=after), usual)
    cells = DartsOptions()
    with pytest.raises(ConfigurationError, match="--retrain-recipe-epsilon changes nothing without a robust recipe"):
        refuse_unused(replace(cells, after=CellRetrainOptions(retrain=True, retrain_recipe_epsilon=0.1)), cells)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("trades_awp", TradesAwp(epsilon=0.031, step=2 / 255 * 0.031 / (8 / 255))),
        ("trades", Trades()),
        ("pgd_at", PgdTraining(epsilon=0.031, step=2 / 255 * 0.031 / (8 / 255))),
        ("fast_adversarial", FastAdversarial(epsilon=0.031)),
        ("standard", standard),
    ],
)
def test_a_supernet_is_trained_by_any_recipe(name: Any, expected: object) -> None:
    found = TamOptions(supernet_recipe=name, supernet_epsilon=0.031).recipe()
    assert found == expected


@pytest.mark.parametrize("name", ["trades_awp", "trades", "pgd_at"])
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_a_supernet_s_attack_reaches_as_far_as_the_paper_s_by_any_number_of_steps(name: Any, steps: int) -> None:
    paper: Any = recipe_within(name, 4 / 255)
    made: Any = TamOptions(supernet_recipe=name, supernet_epsilon=4 / 255, supernet_steps=steps).recipe()
    assert made.steps * made.step == pytest.approx(paper.steps * paper.step)
    assert replace(made, step=paper.step, steps=paper.steps) == paper
    quick: Any = replace(PRESETS["quick"], supernet_recipe=name).recipe()
    assert quick.steps == 2
    assert 2 * quick.step > 1.7 * 8 / 255


def test_given_settings_of_a_supernet_s_attack_count() -> None:
    options = TamOptions(supernet_recipe="trades_awp", supernet_steps=7, supernet_step=0.01, supernet_balance=0.5)
    assert options.recipe() == TradesAwp(step=0.01, steps=7, balance=0.5)
    assert TamOptions(supernet_recipe="fast_adversarial", supernet_step=0.01).recipe() == FastAdversarial(step=0.01)


def test_a_front_is_finalised_by_any_recipe_within_the_supernet_s_radius() -> None:
    options = FinaliseOptions(finalise_recipe="pgd_at", finalise_average="swa")
    assert options.recipe(4 / 255) == PgdTraining(epsilon=4 / 255, step=1 / 255)
    assert options.training("fp32").average == "swa"
    assert FinaliseOptions(finalise_recipe="standard").recipe(4 / 255) is standard
    assert isinstance(FinaliseOptions().recipe(8 / 255), TradesYopo)


def test_an_audit_takes_recipe_average_and_the_paper_s_training() -> None:
    plan = AuditPlan(train=True, recipe="trades", published=True, average="ema", epochs=7)
    found = _as_planned(PHASES, plan, PHASES.space)
    assert found.recipe == Trades()
    paper = replace(PUBLISHED["trades"], epochs=7, milestones=(6,))
    assert found.training == replace(paper, average="ema", precision="fp32")
    assert _as_planned(PHASES, AuditPlan(train=True), PHASES.space) == PHASES
    with pytest.raises(UnknownNameError, match="unknown recipe with a published training 'standard'"):
        AuditPlan(train=True, recipe="standard", published=True)
    with pytest.raises(ConfigurationError, match="expected --recipe with --published"):
        AuditPlan(train=True, published=True)
    with pytest.raises(ConfigurationError, match="expected --train with --average"):
        AuditPlan(average="ema")


def test_a_published_schedule_is_in_proportion_to_the_epochs() -> None:
    falls = {name: published_training(name, 20).milestones for name, each in PUBLISHED.items() if each.milestones}
    assert falls == {
        "pgd_at": (9, 15),
        "trades": (19,),
        "trades_awp": (9, 14),
        "gaussian": (6, 13),
        "ibp": (12, 18),
        "crown_ibp": (16, 19),
    }
    for name, paper in PUBLISHED.items():
        assert published_training(name) == published_training(name, paper.epochs) == paper
    plan = AuditPlan(train=True, recipe="pgd_at", published=True, epochs=20)
    assert _as_planned(PHASES, plan, PHASES.space).training.milestones == (9, 15)
    with pytest.raises(ConfigurationError, match=r"learning rate falls after 102 and 154 of 205, got 2; give more"):
        AuditPlan(train=True, recipe="pgd_at", published=True, epochs=2)


def test_an_audit_averages_as_the_run_s_settings_state() -> None:
    settings = replace(TRAINING, epochs=8, average="ema", average_decay=0.9, average_from=0.5)
    own = replace(PHASES, training=settings)
    for plan in (AuditPlan(train=True, recipe="pgd_at", published=True), AuditPlan(train=True, average="swa")):
        found = _as_planned(own, plan, own.space).training
        assert (found.average, found.average_decay, found.average_from) == (plan.average or "ema", 0.9, 0.5)
    short = AuditPlan(train=True, epochs=3)
    swa = replace(own, training=replace(settings, average="swa"))
    assert _as_planned(swa, replace(short, average="none"), own.space).training.epochs == 3
    with pytest.raises(ConfigurationError, match="expected two epochs or more that swa averages, got 1 of 1"):
        _as_planned(swa, replace(short, epochs=1), own.space)


def test_swa_of_one_epoch_is_refused_before_a_search() -> None:
    said = "expected two epochs or more that swa averages, got 1 of 4"
    settings = TrainingConfig(epochs=8, average="swa")
    for make in (
        lambda: RocoOptions(after=RetrainOptions(retrain=True, retrain_epochs=4, retrain_average="swa")),
        lambda: RocoOptions(training=settings, after=RetrainOptions(retrain=True, retrain_epochs=4)),
        lambda: DartsOptions(after=CellRetrainOptions(retrain=True, retrain_epochs=4, retrain_average="swa")),
        lambda: FinaliseOptions(finalise_epochs=4, finalise_average="swa"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            make()
    after = RetrainOptions(retrain=True, retrain_epochs=4, retrain_average="none")
    assert RocoOptions(training=settings, after=after).after.training(settings).average == "none"


def test_decay_and_share_count_for_a_retraining_s_average() -> None:
    settings = TrainingConfig(average_decay=0.99)
    usual = RocoOptions()
    ema = replace(usual, training=settings, after=RetrainOptions(retrain=True, retrain_average="ema"))
    refuse_unused(ema, usual)
    assert ema.after.training(settings).average_decay == 0.99
    for after in (RetrainOptions(retrain=True), RetrainOptions(retrain=True, retrain_average="swa")):
        with pytest.raises(ConfigurationError, match="--average-decay changes nothing without --average ema"):
            refuse_unused(replace(ema, after=after), usual)
    cells = DartsOptions()
    share = replace(cells.training, average_from=0.5)
    swa = CellRetrainOptions(retrain=True, retrain_average="swa", retrain_epochs=4)
    refuse_unused(replace(cells, training=share, after=swa), cells)
    assert swa.training("fp32", share).average_from == 0.5


def test_cells_keep_their_heads_and_their_drop_path_under_another_recipe() -> None:
    robust = under_recipe(CELLS, TradesAwp())
    assert robust.recipe == CellTraining(drop_path=0.3, robust=TradesAwp())
    assert under_recipe(robust, standard) == CELLS
    assert robust.digest != CELLS.digest
    assert robust.settings()["recipe"] == "trades_awp"
    assert "recipe" not in CELLS.settings()
    assert [recipe_words(each.recipe) for each in (robust, CELLS)] == ["trades_awp within 8/255", "standard"]


@pytest.mark.lengthy
def test_robust_cells_are_trained_without_leaving_an_auxiliary_head() -> None:
    robust = under_recipe(CELLS, FastAdversarial())
    weights, _ = robust.train(DARTS, ignore)
    network = robust.candidate(DARTS, weights).network
    assert not any(name.startswith("auxiliary") for name in network.state_dict())
    assert weights != CELLS.train(DARTS, ignore)[0]
