"""What networks are measured under: its settings, values worked out by hand, and which images are seen."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_trainings import (
    CELL_SPACE,
    CELLS,
    CHAIN,
    DARTS,
    DIGITS,
    GENOMES,
    KINDS,
    PHASES,
    SCRATCH,
    SLICE,
    SLICE_SPACE,
    able,
    broken,
    distinct,
    measure,
    trained,
)
from torch import Tensor, nn
from torch.nn import functional

from evonas.adversarial_sets import AdversarialSet
from evonas.attacks import BIM, FGSM, PGD, Attack
from evonas.audit import (
    CLEAN,
    MEASUREMENTS,
    AdversarialSetShare,
    AuditNetwork,
    ErrorUnder,
    MeanRadius,
    Measured,
    Measurement,
    OodPrecision,
    measurements,
    pgd_grid,
    require_libraries,
    with_attack,
)
from evonas.audit.measurements import in_one_pass, joined
from evonas.certify import certified_radius, random_targets
from evonas.data import Dataset, DeviceData, DevicePart, Part, batches
from evonas.data.out_of_distribution import load_ood_data
from evonas.errors import ConfigurationError, DataError, DivergedError, UnknownNameError
from evonas.evaluation import recalibrate
from evonas.methods.cell_retraining import CellRetrainOptions
from evonas.networks.blocks import seeded
from evonas.objectives import AdversarialSetError, Candidate
from evonas.objectives.scoring import error_under
from evonas.seeding import derive_seed
from evonas.spaces.darts_costs import paper_flops
from evonas.types import Progress

GREY = [100, 120, 135, 160]
CPU = torch.device("cpu")


def grey_images() -> DevicePart:
    """Even images of these grey levels; class 1 is brighter than 127.5."""
    images = np.array(GREY, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, 1).repeat(8, 2).repeat(8, 3)
    return DevicePart(Part(images, np.array([0, 0, 1, 1])), CPU)


class Brightness(nn.Module):
    """Class 1 where the mean pixel is above 1/2: FGSM moves every pixel toward it by epsilon."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        brighter = images.mean(dim=(1, 2, 3)) - 0.5
        return torch.stack([torch.zeros_like(brighter), self.factor * brighter], dim=1)


def error(attack: FGSM | None, batch_size: int = 3, network: nn.Module | None = None) -> float:
    return error_under(network or Brightness(), batches(grey_images(), batch_size), attack, torch.Generator())


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
@pytest.mark.parametrize(("epsilon", "wrong"), [(0.0, 0.0), (0.1, 0.5), (0.2, 1.0)])
def test_an_image_is_lost_where_epsilon_reaches_the_boundary(epsilon: float, wrong: float, batch_size: int) -> None:
    """Boundary at 127.5; distances 27.5, 7.5, 7.5, 32.5 grey levels; epsilon 0.1 is 25.5 of them, 0.2 is 51."""
    assert error(FGSM(epsilon=epsilon), batch_size) == wrong


def test_without_an_attack_the_clean_images_are_scored() -> None:
    assert error(None) == 0.0
    assert error(None, network=Brightness(-1.0)) == 1.0


def test_progress_counts_images() -> None:
    told: list[int] = []
    error_under(Brightness(), batches(grey_images(), 3), on_batch=told.append)
    assert told == [3, 4]


@pytest.mark.parametrize("attack", [None, FGSM(epsilon=0.1)])
def test_logits_that_are_not_finite_are_no_score(attack: FGSM | None) -> None:
    with pytest.raises(DivergedError, match="not finite"):
        error(attack, network=Brightness(float("nan")))


SUITE = ("pgd", "fgsm", "bim", "cw", "deepfool")
"""RoCo-NAS, IV-C."""
ROBUST = ("fgsm2", "pgd10", "pgd20", "pgd100", "cw60")
"""DSRNA, 4.3.1."""


def attack_of(measurement: Measurement) -> Any:
    assert isinstance(measurement.measure, ErrorUnder)
    return measurement.measure.attack


def test_the_columns_of_the_suite_and_their_bounds() -> None:
    columns = {each.column: attack_of(each) for each in measurements(SUITE)}
    assert list(columns) == [
        "pgd_error",
        "fgsm_0.1_error",
        "fgsm_0.2_error",
        "fgsm_0.3_error",
        "bim_error",
        "cw_error",
        "deepfool_error",
    ]
    assert columns["pgd_error"] == PGD(epsilon=1 / 255, step_size=1 / 1020, steps=10)  # weak; the last iterate counts
    assert [columns[f"fgsm_{epsilon}_error"].radius for epsilon in (0.1, 0.2, 0.3)] == [0.1, 0.2, 0.3]
    assert columns["bim_error"].radius == 2 / 255
    assert columns["deepfool_error"].radius == 0.25
    assert columns["cw_error"].radius == float("inf")
    assert [columns[name].norm for name in ("pgd_error", "cw_error", "deepfool_error")] == ["linf", "l2", "l2"]


def test_the_columns_of_cells_and_their_bounds() -> None:
    columns = {each.column: attack_of(each) for each in measurements(ROBUST)}
    assert list(columns) == ["fgsm_error", "pgd10_error", "pgd20_error", "pgd100_error", "cw_error"]
    assert columns["fgsm_error"] == FGSM(epsilon=2 / 255)
    for steps in (10, 20, 100):
        assert columns[f"pgd{steps}_error"] == PGD(epsilon=8 / 255, step_size=2 / 255, steps=steps)
    assert columns["cw_error"] == attack_of(MEASUREMENTS["cw"][0])
    stronger = with_attack(MEASUREMENTS["fgsm2"][0], FGSM(epsilon=4 / 255))
    assert (stronger.column, attack_of(stronger), stronger.label) == ("fgsm_error", FGSM(epsilon=4 / 255), "FGSM")


def test_every_column_of_the_suite_says_where_its_settings_come_from() -> None:
    for each in measurements(SUITE):
        assert each.column.endswith("_error")
        assert "the paper" in each.note
        bound = attack_of(each).radius
        assert ("no bound" if bound == float("inf") else "epsilon") in each.label


def test_a_measurement_that_does_not_exist_is_one_line() -> None:
    with pytest.raises(UnknownNameError, match="unknown measurement 'circle'; known: apgd_ce, apgd_t, autoattack, "):
        measurements(("pgd", "circle"))


def test_a_missing_library_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)  # importing it fails, as where it is not installed
    with pytest.raises(ConfigurationError) as refused:
        require_libraries(measurements(SUITE), "--suite")
    text = str(refused.value)
    assert "foolbox for C&W L2, c 1, 60 steps, no bound, DeepFool, L2 epsilon 0.25, 50 steps, it is not" in text
    assert "pip install 'evonas[audit]'" in text
    assert text.endswith("or leave them out with --suite")
    assert "\n" not in text
    with pytest.raises(ConfigurationError, match=r"pip install 'evonas\[audit\]'$"):
        require_libraries(measurements(("cw",)))
    require_libraries(measurements(("pgd", "fgsm", "bim")))


def test_columns_are_measured_once() -> None:
    """cw and cw60 are one attack under one name."""
    with pytest.raises(ConfigurationError, match="measurements of different columns, got cw_error, cw_error"):
        Measured(measurements=measurements(("cw", "cw60")))


def test_the_test_part_is_scored_and_no_other() -> None:
    network = PHASES.candidate(CHAIN, trained("phases")).network
    with torch.no_grad():
        found = network(torch.from_numpy(PHASES.data.test.images).float() / 255).argmax(dim=1).numpy()
    expected = float((found != PHASES.data.test.labels).mean())
    clean = Measured(measurements=(CLEAN,))
    assert measure(clean, PHASES, CHAIN, trained("phases")) == {"clean_error": pytest.approx(expected, abs=1e-12)}
    perfect = replace(PHASES, data=replace(PHASES.data, test=Part(PHASES.data.test.images, found)))
    assert measure(clean, perfect, CHAIN, trained("phases")) == {"clean_error": 0.0}


def test_all_test_images_are_seen_whatever_the_limit() -> None:
    """All but some of one class, so that classes are not equally frequent, as they are in the subset."""
    kept = np.flatnonzero((PHASES.data.test.labels != 3) | (np.arange(300) < 200))
    test = Part(PHASES.data.test.images[kept], PHASES.data.test.labels[kept])
    uneven = replace(PHASES, data=replace(PHASES.data, test=test))
    every = Measured(measurements=measurements(("clean",)))
    few = Measured(measurements=measurements(("clean", "clean_on_all")), test_limit=40)
    found = measure(few, uneven, CHAIN, trained("phases"))
    assert 40 < len(kept) < 300
    assert found["clean_on_all_error"] == measure(every, uneven, CHAIN, trained("phases"))["clean_error"]
    assert found["clean_on_all_error"] != found["clean_error"]


def test_a_limit_takes_as_many_images_of_each_class() -> None:
    measured = Measured(measurements=(), test_limit=40)
    part = measured.test_part(DIGITS, seed=3)
    assert np.bincount(part.labels).tolist() == [4] * 10
    assert part.images.tobytes() == replace(measured).test_part(DIGITS, seed=3).images.tobytes()
    assert part.images.tobytes() != measured.test_part(DIGITS, seed=4).images.tobytes()
    assert len(Measured(measurements=()).test_part(DIGITS, seed=3)) == 300
    with pytest.raises(DataError, match="at least one image a class"):
        replace(measured, test_limit=9).test_part(DIGITS, seed=3)


@pytest.mark.lengthy
def test_columns_come_in_their_order_and_attacks_do_not_help() -> None:
    told: list[Progress] = []
    measured = Measured(measurements=(CLEAN, *measurements(("fgsm", "pgd"))), test_limit=40, batch_size=25)
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    values = measure(measured, PHASES, CHAIN, trained("phases"), told.append)
    assert torch.equal(torch.rand(3), drawn)  # torch's own generator is left alone
    assert list(values) == ["clean_error", "fgsm_0.1_error", "fgsm_0.2_error", "fgsm_0.3_error", "pgd_error"]
    assert all(value in [n / 40 for n in range(41)] for value in values.values())
    assert [(each.done, each.total) for each in told] == [(0, 40), (25, 40), (40, 40)] * 5
    assert [each.note for each in told[-3:]] == [f"scoring pgd_error, {done}/40 images" for done in (0, 25, 40)]


NOT_FINITE = {
    "no attack": CLEAN,
    "fgsm": MEASUREMENTS["fgsm2"][0],
    "ood": Measurement("ood_aupr", "AUPR", OodPrecision(load_ood_data("noise", DIGITS), 0)),
}


@pytest.mark.lengthy
@pytest.mark.parametrize("name", NOT_FINITE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_is_broken_has_no_score(kind: str, name: str) -> None:
    measured = Measured(measurements=(NOT_FINITE[name],), test_limit=10)
    with pytest.raises(DivergedError, match="not finite"):
        measure(measured, KINDS[kind], GENOMES[kind], broken(trained(kind)))


@pytest.mark.slow
def test_the_adapted_attacks_only_add_errors() -> None:
    pytest.importorskip("foolbox")
    measured = Measured(measurements=(CLEAN, *measurements(("cw", "deepfool"))), test_limit=20, batch_size=8)
    values = measure(measured, PHASES, CHAIN, trained("phases"))
    assert list(values) == ["clean_error", "cw_error", "deepfool_error"]
    assert values["clean_error"] <= min(values["cw_error"], values["deepfool_error"])
    other = measure(replace(measured, batch_size=20), PHASES, CHAIN, trained("phases"))
    assert other == values  # what an image's result is does not depend on its batch


@pytest.mark.lengthy
def test_the_grid_is_pgd_from_the_clean_image_whose_last_iterate_counts() -> None:
    """On random weights with batch statistics of the images, which answer differently to different images."""
    network = seeded(lambda: SLICE_SPACE.build(SLICE), 8)
    recalibrate(network, (images for images, _ in batches(DevicePart(DIGITS.train, CPU), 20)))
    grid = pgd_grid(((2, 8), (1, 4)), 2 / 255)
    measured = Measured(measurements=(CLEAN, *grid), test_limit=100, batch_size=40)
    part = DevicePart(measured.test_part(DIGITS, 3), CPU)
    candidate = replace(SCRATCH.candidate(SLICE, trained("scratch")), network=network)
    values: dict[str, float] = {}
    for each in measured.measurements:
        values |= each.measure(candidate, measured.tested(DIGITS, 3), measured.batch_size, lambda progress: None)
    assert list(values) == ["clean_error", "pgd2_8_error", "pgd1_4_error"]
    assert [each.label for each in grid] == ["P2 8/255", "P1 4/255"]
    attacks = {
        "clean_error": None,
        "pgd2_8_error": PGD(epsilon=8 / 255, step_size=2 / 255, steps=2),
        "pgd1_4_error": PGD(epsilon=4 / 255, step_size=2 / 255, steps=1),
    }
    assert values == {name: error_under(network, batches(part, 50), attack) for name, attack in attacks.items()}
    assert values["clean_error"] < values["pgd2_8_error"]
    assert all(not attack_of(each).stop_when_fooled for each in grid)


def under(column: str, attack: Attack) -> Measurement:
    return Measurement(column, column, ErrorUnder(column, attack))


def test_beginnings_of_one_pgd_share_its_pass_and_everything_else_stays_alone() -> None:
    class Own(PGD):
        """May do anything."""

    mixed = (
        CLEAN,
        under("ten", PGD(steps=10)),
        under("drawn", PGD(steps=20, random_start=True)),
        under("drawn longer", PGD(steps=30, random_start=True)),
        under("fifty", PGD(steps=50)),
        under("smaller", PGD(steps=50, epsilon=4 / 255)),
        under("shorter", PGD(steps=50, step_size=1 / 255)),
        under("stopped", PGD(steps=50, stop_when_fooled=True)),
        under("another class", BIM(steps=50, step_size=2 / 255)),
        under("fgsm", FGSM()),
        under("own", Own(steps=10)),
        under("own longer", Own(steps=20)),
        under("twenty", PGD(steps=20)),
        *MEASUREMENTS["radius_l2"],
    )
    assert in_one_pass(mixed) == [[0], [1, 4, 12], *[[place] for place in (2, 3, *range(5, 12), 13)]]
    assert in_one_pass([]) == []
    assert joined(mixed[:1]) is CLEAN.measure


def test_the_suites_of_the_papers_take_fewer_passes() -> None:
    """TAM-NAS, Tables II to V: 12 attacks of 10, 30 and 50 steps in four passes of 50. DSRNA: 10, 20, 100 in one."""
    tam = pgd_grid([(steps, epsilon) for steps in (10, 30, 50) for epsilon in (2, 4, 6, 8)], 2 / 255)
    assert in_one_pass(tam) == [[place, place + 4, place + 8] for place in range(4)]
    assert in_one_pass(measurements(["clean", "fgsm2", "pgd10", "pgd20", "pgd100"])) == [[0], [1], [2, 3, 4]]


def test_one_pass_gives_the_errors_of_all() -> None:
    """Not in the order of the steps, and of a last batch that is smaller."""
    network = seeded(lambda: SLICE_SPACE.build(SLICE), 8)
    recalibrate(network, (images for images, _ in batches(DevicePart(DIGITS.train, CPU), 20)))
    candidate = replace(SCRATCH.candidate(SLICE, trained("scratch")), network=network)
    grid = pgd_grid([(steps, 2) for steps in (2, 5, 1)], 1 / 255)
    tested, said = Measured(measurements=grid, test_limit=50, batch_size=40).tested(DIGITS, 3), list[Progress]()
    together = joined(grid)(candidate, tested, 40, said.append)
    alone: dict[str, float] = {}
    for each in grid:
        alone |= each.measure(candidate, tested, 40, lambda progress: None)
    assert together == alone
    assert list(together) == ["pgd2_2_error", "pgd5_2_error", "pgd1_2_error"]
    assert len(set(alone.values())) > 1
    columns = "pgd2_2_error, pgd5_2_error, pgd1_2_error"
    assert [(each.done, each.note) for each in said] == [
        (done, f"scoring {columns}, {done}/50 images") for done in (0, 40, 50)
    ]


@pytest.fixture(scope="module")
def ood_data() -> Dataset:
    """Another data set whose test images are ten digits upside down."""
    overturned = np.ascontiguousarray(DIGITS.adversarial.images[:10, :, ::-1])
    return replace(load_ood_data("noise", DIGITS), test=Part(overturned, np.zeros(10, dtype=np.int64)))


def attacked(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int) -> torch.Tensor:
    """E2RNAS's PGD by its formula: from delta 0, steps of 5/255, clipped to 2/255 and to the pixel range."""
    delta = torch.zeros_like(images)
    for _ in range(steps):
        shown = (images + delta).requires_grad_()
        (gradient,) = torch.autograd.grad(functional.cross_entropy(network(shown), labels, reduction="sum"), shown)
        delta = (delta + 5 / 255 * gradient.sign()).clamp(-2 / 255, 2 / 255)
        delta = (images + delta).clamp(0, 1) - images
    return images + delta


@pytest.mark.lengthy
def test_cells_are_scored_on_test_images_alone(ood_data: Dataset) -> None:
    """Counted again by hand: errors, the papers' PGD, sklearn's average precision over all the images."""
    from sklearn.metrics import average_precision_score

    told: list[Progress] = []
    measured = replace(
        CellRetrainOptions(test_steps=3, test_limit=50).measured(OodPrecision(ood_data, 3)), batch_size=50
    )
    found = measure(measured, CELLS, DARTS, able(), told.append)
    network = CELLS.candidate(DARTS, able()).network
    part = measured.test_part(DIGITS, 3)
    images = (torch.from_numpy(part.images).float() / 255).to(memory_format=torch.channels_last)
    labels = torch.from_numpy(part.labels)
    perturbed = attacked(network, images, labels, 3)
    with torch.no_grad():
        clean, adversarial = network(images), network(perturbed)
        outside = network(torch.from_numpy(ood_data.test.images).float() / 255)
    assert list(found) == ["clean_error", "pgd_error", "ood_aupr", "paper_flops"]
    assert found["clean_error"] == pytest.approx(float((clean.argmax(1) != labels).double().mean()), abs=1e-12)
    wrong = float((adversarial.argmax(1) != labels).double().mean())
    assert found["pgd_error"] == pytest.approx(wrong, abs=1e-12)
    assert 0.1 < found["clean_error"] < found["pgd_error"] < 1
    assert 0.11 < found["ood_aupr"] < 0.9  # neither last nor first all of them
    scores = -torch.cat([outside, clean]).softmax(1).amax(1)
    truth = [1] * 10 + [0] * 50
    assert found["ood_aupr"] == pytest.approx(average_precision_score(truth, scores.numpy()), abs=1e-9)
    assert found["paper_flops"] == paper_flops(CELL_SPACE.build(DARTS))
    assert (told[0].done, told[-1].done, told[-1].note) == (0, 50, "scoring ood_aupr")


@pytest.mark.lengthy
def test_the_step_of_cells_attack_is_asked() -> None:
    long = CellRetrainOptions(test_steps=3, test_limit=50).measured(None)
    short = CellRetrainOptions(test_steps=3, test_limit=50, test_step_size=0.5 / 255).measured(None)
    values = [measure(each, CELLS, DARTS, able()) for each in (long, short)]
    assert values[0]["pgd_error"] != values[1]["pgd_error"]
    assert "ood_aupr" not in values[0]


def test_the_last_iterate_counts_from_the_clean_image() -> None:
    attack = CellRetrainOptions().attack
    assert attack == PGD(epsilon=2 / 255, step_size=5 / 255, steps=10, random_start=False, stop_when_fooled=False)


@pytest.mark.lengthy
def test_nothing_but_test_images_counts(ood_data: Dataset) -> None:
    options = CellRetrainOptions(test_steps=1, test_limit=30)
    blank = Part(np.zeros_like(DIGITS.validation.images), DIGITS.validation.labels)
    elsewhere = replace(CELLS, data=replace(DIGITS, validation=blank, adversarial=blank))
    same = replace(ood_data, train=blank, validation=blank)
    expected = measure(options.measured(OodPrecision(ood_data, 3)), CELLS, DARTS, able())
    assert measure(options.measured(OodPrecision(same, 3)), elsewhere, DARTS, able()) == expected


def test_images_that_do_not_do_are_refused(ood_data: Dataset) -> None:
    tested = Measured(measurements=()).tested(DIGITS, 3)

    def objective(data: Dataset) -> object:
        return OodPrecision(data, 3).objective(tested)

    with pytest.raises(DataError, match="got its own"):
        objective(DIGITS)
    with pytest.raises(DataError, match="expected at least 1 OoD and 5 validation images"):
        objective(replace(ood_data, test=ood_data.test.take(np.arange(0))))
    small = Part(ood_data.test.images[:, :, ::2, ::2], ood_data.test.labels)
    with pytest.raises(DataError, match="of the shape of the data's own"):
        objective(replace(ood_data, test=small))


def test_the_set_is_measured_as_its_objective_does(digits_set: AdversarialSet) -> None:
    candidate = PHASES.candidate(CHAIN, trained("phases"))
    tested = Measured(measurements=(), test_limit=10).tested(PHASES.data, 3)
    found = AdversarialSetShare(digits_set)(candidate, tested, 10, lambda progress: None)
    assert found == AdversarialSetError(digits_set)(candidate)
    assert next(iter(found)) == "adversarial_set_error"


class Linear(nn.Module):
    """Logits of two classes by the sum of all pixels: radii are distances to a plane."""

    def __init__(self) -> None:
        super().__init__()
        linear = nn.Linear(3 * 8 * 8, 2)
        self.body = nn.Sequential(nn.Flatten(), linear)
        with torch.no_grad():
            linear.weight.copy_(torch.stack([torch.zeros(192), torch.ones(192)]))
            linear.bias.copy_(torch.tensor([0.0, -96.0]))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        return logits


@pytest.mark.lengthy
@pytest.mark.parametrize("targets", ["random", "all"])
def test_radii_are_distances_to_the_boundary(targets: str) -> None:
    """Grey g is 127.5 - g away in L-inf, and sqrt(192) times that in L2; the class of the first image is wrong: 0."""
    images = np.array(GREY, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, 1).repeat(8, 2).repeat(8, 3)
    part = Part(images, np.array([1, 0, 1, 1]))
    tested = replace(DIGITS, n_classes=2, test=part, validation=part, train=part)
    candidate = replace(CELLS.candidate(DARTS, trained("cells")), network=Linear(), data=DeviceData(tested, CPU))
    distances = np.array([0.0, 7.5, 7.5, 32.5]) / 255

    def mean(norm: str, n: int) -> float:
        measure = MeanRadius("radius", norm, images=n, targets=targets, batch_size=3)  # type: ignore[arg-type]
        return measure(candidate, tested, 250, lambda progress: None)["radius"]

    # bisection in float32
    assert mean("linf", 4) == pytest.approx(distances.mean(), rel=1e-3)
    assert mean("l2", 4) == pytest.approx(distances.mean() * 192**0.5, rel=1e-3)
    assert mean("linf", 2) == pytest.approx(distances[:2].mean(), rel=1e-3)


@pytest.mark.lengthy
def test_one_target_is_drawn_for_each_image_and_is_the_same_for_every_network() -> None:
    tested = Measured(measurements=(), test_limit=10).tested(DIGITS, 3)
    candidate = CELLS.candidate(DARTS, able())
    found = MeanRadius("radius", "linf", images=2)(candidate, tested, 250, lambda progress: None)
    part = DevicePart(tested.validation, CPU)
    images, labels = next(iter(batches(part, 2)))
    targets = random_targets(labels, 10, torch.Generator().manual_seed(derive_seed(0, "radius targets")))
    by_hand = certified_radius(
        candidate.network, images, labels, "linf", intermediate="interval", clip=(0.0, 1.0), targets=targets
    )
    assert found == {"radius": float(by_hand.double().mean())}
    assert found["radius"] > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": 0}, "expected certified images >= 1, got 0"),
        ({"targets": "two"}, "random or all targets, got 'two'"),
    ],
)
def test_radii_that_make_no_sense_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MeanRadius("radius", "linf", **given)  # type: ignore[arg-type]


def test_whatever_changes_the_values_changes_their_digest(ood_data: Dataset) -> None:
    network = AuditNetwork("", CHAIN, PHASES)
    pgd, fgsm = MEASUREMENTS["pgd10"][0], MEASUREMENTS["fgsm2"][0]
    radius = MEASUREMENTS["radius_linf"][0]
    aupr = Measurement("ood_aupr", "AUPR", OodPrecision(ood_data, 3))
    assert isinstance(radius.measure, MeanRadius)
    assert isinstance(aupr.measure, OodPrecision)
    found = [
        CLEAN,
        fgsm,
        pgd,
        with_attack(pgd, PGD(epsilon=4 / 255, step_size=2 / 255, steps=10)),
        with_attack(pgd, PGD(epsilon=8 / 255, step_size=1 / 255, steps=10)),
        with_attack(pgd, FGSM(epsilon=2 / 255)),
        *pgd_grid(((10, 8), (10, 4)), 2 / 255),
        radius,
        replace(radius, measure=replace(radius.measure, images=10)),
        replace(radius, measure=replace(radius.measure, intermediate="linear")),
        replace(radius, measure=replace(radius.measure, targets="all")),
        aupr,
        replace(aupr, measure=replace(aupr.measure, seed=4)),
        replace(aupr, measure=replace(aupr.measure, ratio=(1, 2))),
        replace(aupr, measure=OodPrecision(replace(ood_data, test=ood_data.test.take(np.arange(9))), 3)),
    ]
    plain = Measured(measurements=())
    other_ways = [
        replace(plain, test_limit=40).digest(network, CLEAN),
        replace(plain, batch_size=10).digest(network, CLEAN),
        plain.digest(AuditNetwork("", CHAIN, replace(PHASES, seed=4)), CLEAN),
    ]
    assert distinct([*(plain.digest(network, each) for each in found), *other_ways])


def test_labels_and_what_is_not_measured_do_not_change_a_digest(ood_data: Dataset) -> None:
    network, plain = AuditNetwork("", CHAIN, PHASES), Measured(measurements=())
    assert plain.digest(network, replace(CLEAN, label="Clean", note="a note")) == plain.digest(network, CLEAN)
    more = Measured(measurements=(CLEAN, *measurements(("pgd",))))
    assert more.digest(network, CLEAN) == plain.digest(network, CLEAN)
    aupr = Measurement("ood_aupr", "AUPR", OodPrecision(ood_data, 3))
    untested = Measurement("ood_aupr", "AUPR", OodPrecision(replace(ood_data, train=ood_data.test), 3))
    assert plain.digest(network, aupr) == plain.digest(network, untested)


def test_a_network_is_measured_with_a_generator_of_its_own() -> None:
    """So that what was measured before it changes nothing."""
    drawing = Measurement("drawn", "a number", Drawn())
    alone = measure(Measured(measurements=(drawing,)), PHASES, CHAIN, trained("phases"))
    after = measure(
        Measured(measurements=(replace(drawing, column="first"), drawing)), PHASES, CHAIN, trained("phases")
    )
    assert after == alone


class Drawn:
    """A measurement of a plugin: a number that is drawn."""

    def identity(self) -> dict[str, object]:
        return {}

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: object) -> dict[str, float]:
        return {"drawn": float(torch.rand(1, generator=candidate.generator))}
