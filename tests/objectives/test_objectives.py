"""Exact values of the objectives."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own dependencies, as it is imported
    import foolbox

from helpers import part_of

from evonas.adversarial_sets import AdversarialSet
from evonas.attacks import BIM, FGSM, PGD, Attack, DeepFool, PixelAttack, inference
from evonas.attacks.attack import frozen
from evonas.data import Dataset, DeviceData, load_data
from evonas.errors import ConfigurationError, DivergedError
from evonas.objectives import AdversarialSetError, Candidate, CleanError, FGSMError, Macs, Params, PGDError
from evonas.objectives.attack_error import described
from evonas.parts import part_identity
from evonas.spaces import PhaseSpace

SPACE = PhaseSpace(phases=2, nodes=3, channels=4)


class Constant(nn.Module):
    """Always the same class, or not a number."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: Tensor) -> Tensor:
        assert float(images.detach().min()) >= 0
        assert float(images.detach().max()) <= 1
        return self.logits.expand(len(images), -1)


def candidate(network: nn.Module) -> Candidate:
    data = DeviceData(load_data("digits", val_limit=100), torch.device("cpu"))
    genome = SPACE.designs()["dense"]
    return Candidate(network, genome, SPACE, data, SPACE.cost(genome), torch.Generator())


@pytest.mark.parametrize("batch_size", [1, 7, 100, 500])
def test_clean_error_counts_every_validation_image_once(batch_size: int) -> None:
    """100 digits, 10 of each class: always answering 3 is wrong 90 times."""
    always_three = Constant([0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    assert CleanError(batch_size=batch_size)(candidate(always_three)) == {"clean_error": 0.9}


def test_clean_error_of_the_true_labels_is_zero() -> None:
    one = candidate(Constant([0.0]))
    labels = iter(one.data.validation.labels.split(30))

    class Oracle(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.one_hot(next(labels), 10).float()

    found = CleanError(batch_size=30)(Candidate(Oracle(), one.genome, SPACE, one.data, one.cost, one.generator))
    assert found == {"clean_error": 0.0}


def test_logits_that_are_not_finite_are_no_score() -> None:
    with pytest.raises(DivergedError, match="not finite"):
        CleanError()(candidate(Constant([float("nan")] * 10)))


def test_costs_are_the_spaces_own() -> None:
    one = candidate(Constant([0.0]))
    assert Macs()(one) == {"macs": one.cost.macs}
    assert Params()(one) == {"params": one.cost.params}
    network = SPACE.build(one.genome)
    assert one.cost.params == sum(p.numel() for p in network.parameters())


def test_references_are_the_worst_of_the_space() -> None:
    worst = SPACE.max_cost(10)
    assert Macs().columns(SPACE, 10)[0].reference == worst.macs
    assert Params().columns(SPACE, 10)[0].reference == worst.params
    assert CleanError().columns(SPACE, 10)[0].reference == 1.0
    assert not any(part.columns(SPACE, 10)[0].maximize for part in (CleanError(), Macs(), Params()))


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="batch_size"):
        CleanError(batch_size=cast(Any, np.int64(0)))


# Errors under attack.


class Means(nn.Module):
    """The class whose mean image is nearest: linear logits 2 m x - m m. Gets about nine of ten digits right."""

    def __init__(self, data: Dataset, scale: float = 1.0) -> None:
        super().__init__()
        images = torch.tensor(data.train.images).float().flatten(1) / 255
        labels = torch.tensor(data.train.labels)
        means = torch.stack([images[labels == k].mean(dim=0) for k in range(data.n_classes)])
        self.weight = nn.Parameter(2 * means * scale)
        self.bias = nn.Parameter(-means.square().sum(dim=1) * scale)

    def forward(self, images: Tensor) -> Tensor:
        return functional.linear(images.flatten(1), self.weight, self.bias)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", val_limit=60)


@pytest.fixture(scope="module")
def nearest(digits: Dataset) -> Candidate:
    genome = SPACE.designs()["dense"]
    data = DeviceData(digits, torch.device("cpu"))
    return Candidate(Means(digits).eval(), genome, SPACE, data, SPACE.cost(genome), torch.Generator().manual_seed(0))


def pixels(data: Dataset, n: int | None = None) -> tuple[Tensor, Tensor]:
    return torch.tensor(data.validation.images[:n]).float() / 255, torch.tensor(data.validation.labels[:n])


@pytest.mark.parametrize("batch_size", [7, 60, 500])
def test_pgd_error_counts_the_last_iterates_of_foolbox(batch_size: int, nearest: Candidate, digits: Dataset) -> None:
    images, labels = pixels(digits)
    with frozen(nearest.network) as network:
        attacked = foolbox.attacks.LinfProjectedGradientDescentAttack(abs_stepsize=0.08, steps=4, random_start=False)(
            foolbox.PyTorchModel(network, bounds=(0, 1)), images, labels, epsilons=0.2
        )[1]
        wrong = int((network(attacked).argmax(dim=1) != labels).sum())
        clean = int((network(images).argmax(dim=1) != labels).sum())
    assert clean + 5 < wrong < 60
    objective = PGDError(attack=PGD(epsilon=0.2, step_size=0.08, steps=4), batch_size=batch_size)
    assert objective(nearest) == {"pgd_error": wrong / 60}
    any_iterate = PGDError(attack=PGD(epsilon=0.2, step_size=0.08, steps=4, stop_when_fooled=True))
    assert any_iterate(nearest)["pgd_error"] >= wrong / 60


def test_fgsm_error_by_hand(nearest: Candidate, digits: Dataset) -> None:
    """With linear logits the sign is that of sum_k p_k w_k - w_label."""
    images, labels = pixels(digits)
    weight = part_of(nearest.network, "", Means).weight.detach()
    with torch.no_grad():
        p = nearest.network(images).softmax(dim=1)
        sign = (p @ weight - weight[labels]).sign().view_as(images)
        wrong = int((nearest.network((images + 0.1 * sign).clamp(0, 1)).argmax(dim=1) != labels).sum())
    assert 5 < wrong < 60
    assert FGSMError(attack=FGSM(epsilon=0.1))(nearest) == {"fgsm_error": wrong / 60}


@pytest.mark.parametrize("stop", [False, True])
def test_what_is_wrong_without_an_attack_counts(stop: bool, nearest: Candidate) -> None:
    clean = CleanError()(nearest)["clean_error"]
    assert clean > 0
    nothing = PGDError(attack=PGD(epsilon=0, stop_when_fooled=stop))
    assert nothing(nearest) == {"pgd_error": clean}
    assert FGSMError(attack=FGSM(epsilon=0))(nearest) == {"fgsm_error": clean}
    assert PGDError(attack=PGD(stop_when_fooled=stop))(nearest)["pgd_error"] >= clean


@pytest.mark.parametrize(("n", "batch_size"), [(1, 250), (13, 5), (13, 13), (60, 7), (1000, 7)])
def test_the_first_images_alone_are_attacked(n: int, batch_size: int, nearest: Candidate, digits: Dataset) -> None:
    seen: list[int] = []

    class Counting(Means):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().forward(images)

    images, labels = pixels(digits, n)
    network = Means(digits)
    attack = FGSM(epsilon=0.05)
    wrong = int((network(attack(network, images, labels)).argmax(dim=1) != labels).sum())
    objective = FGSMError(attack=attack, images=n, batch_size=batch_size)
    assert objective(replace(nearest, network=Counting(digits).eval())) == {"fgsm_error": wrong / len(labels)}
    assert max(seen) <= batch_size


def test_attacks_that_draw_take_the_candidates_generator(nearest: Candidate) -> None:
    objective = PGDError(attack=PGD(epsilon=0.1, step_size=0.01, steps=1, random_start=True))
    found = []
    for seed in (0, 0, 1, 2, 3):
        nearest.generator.manual_seed(seed)
        found.append(objective(nearest)["pgd_error"])
    assert found[0] == found[1]
    assert len(set(found)) > 1


def test_attacks_on_a_candidate_share_its_fast_copy(nearest: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch after batch, objective after objective; another candidate has its own."""
    copied, made = inference._copied, list[nn.Module]()

    def counted(model: nn.Module, *arguments: Any) -> nn.Module:
        made.append(model)
        return copied(model, *arguments)

    monkeypatch.setattr(inference, "_copied", counted)
    parts = (
        PGDError(attack=PGD(epsilon=0.05, steps=2, precision="bf16"), batch_size=20),
        FGSMError(attack=FGSM(epsilon=0.05, precision="bf16"), batch_size=30),
    )
    shared = {name: value for part in parts for name, value in part(nearest).items()}
    assert made == [nearest.network]
    alone = {name: value for part in parts for name, value in part(replace(nearest)).items()}
    assert made == [nearest.network] * 3
    assert shared == alone


def test_columns_say_what_was_attacked_and_how() -> None:
    """Everything needed to do it again, and whether the attacker knew the network."""
    (pgd,) = PGDError(attack=PGD(epsilon=4 / 255, steps=20, stop_when_fooled=True), images=300).columns(SPACE, 10)
    assert (pgd.name, pgd.reference, pgd.maximize) == ("pgd_error", 1.0, False)
    assert pgd.about == "white-box: PGD, linf 4/255, 20 steps"
    assert pgd.metadata == {
        "threat": "white-box",
        "attack": "pgd",
        "epsilon": 4 / 255,
        "norm": "linf",
        "random_start": False,
        "start_deviation": 0.0,
        "restarts": 1,
        "targeted": False,
        "loss": "cross_entropy",
        "stop_when_fooled": True,
        "precision": "fp32",
        "step_size": 2 / 255,
        "steps": 20,
        "images": 300,
    }
    (fgsm,) = FGSMError(attack=FGSM(epsilon=0.3, norm="l2")).columns(SPACE, 10)
    assert fgsm.about == "white-box: FGSM, l2 0.3"
    assert (fgsm.metadata["attack"], fgsm.metadata["norm"], fgsm.metadata["images"]) == ("fgsm", "l2", None)


def test_the_defaults_are_those_of_tam_nas() -> None:
    assert PGDError().attack == PGD(epsilon=8 / 255, step_size=2 / 255, steps=10, stop_when_fooled=True)
    assert FGSMError().attack == FGSM(epsilon=8 / 255)


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (FGSM(epsilon=8 / 255), "FGSM, linf 8/255"),
        (FGSM(epsilon=0.1), "FGSM, linf 0.1"),
        (FGSM(epsilon=0), "FGSM, linf 0/255"),
        (FGSM(epsilon=1), "FGSM, linf 255/255"),
        (BIM(epsilon=0.3, steps=3), "BIM, linf 0.3, 3 steps"),
        (PGD(norm="l2", epsilon=0.5), "PGD, l2 0.5, 10 steps"),
        (DeepFool(), "DEEPFOOL, l2 inf, 50 steps"),
        (PixelAttack(threshold=3), "PIXEL, l0 3"),
    ],
)
def test_attacks_in_a_few_words(attack: Attack, said: str) -> None:
    assert described(attack) == said


@pytest.mark.parametrize("settings", [{"images": 0}, {"images": -1}, {"batch_size": 0}])
def test_attack_errors_of_nothing_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="expected batch_size and images >= 1"):
        PGDError(**settings)  # type: ignore[arg-type]


def test_a_network_that_is_not_finite_has_no_attack_error() -> None:
    broken = candidate(Constant([float("nan")] * 10))
    for objective in (PGDError(), FGSMError()):
        with pytest.raises(DivergedError, match="not finite"):
            objective(broken)


# Errors on a precomputed set.


MakeSet = Callable[[Dataset, Mapping[str, Sequence[int]]], AdversarialSet]


def threes_and_fives(make_set: MakeSet) -> AdversarialSet:
    """Four images of a 3 and six of a 5. L0: three 3s and two 5s; Linf: two 3s, one of them in L0, and five 5s."""
    data = load_data("digits")
    three, five = (np.flatnonzero(data.adversarial.labels == label) for label in (3, 5))
    return make_set(data, {"L0": [*three[:3], *five[:2]], "Linf": [*three[2:4], *five[1:6]]})


@pytest.mark.parametrize("batch_size", [1, 4, 10, 500])
def test_adversarial_set_error_by_hand(batch_size: int, make_set: MakeSet) -> None:
    """Whoever answers 3 gets the six 5s wrong, two of them in L0's five and five in Linf's seven."""
    the_set = threes_and_fives(make_set)
    assert len(the_set) == 10
    always_three = candidate(Constant([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
    assert AdversarialSetError(the_set, batch_size)(always_three) == {
        "adversarial_set_error": 0.6,
        "adversarial_set_error_L0": 2 / 5,
        "adversarial_set_error_Linf": 5 / 7,
    }


def test_the_same_images_before_the_attack_by_hand(make_set: MakeSet) -> None:
    """Whoever reads the last bit, which the set has turned, gets every clean image right and every other one wrong."""
    data, the_set = load_data("digits"), threes_and_fives(make_set)

    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.known = {image.tobytes(): int(label) for image, label in zip(clean.images, clean.labels, strict=True)}

        def forward(self, images: Tensor) -> Tensor:
            pixels = (images * 255).round().to(torch.uint8).contiguous().numpy()
            answers = torch.tensor([self.known.get(image.tobytes(), 9) for image in pixels])
            return functional.one_hot(answers, 10).float()

    clean = data.adversarial.take(the_set.source_index)
    objective = AdversarialSetError(the_set, clean_sources=clean)
    found = objective(candidate(Remembering()))
    assert list(found) == [column.name for column in objective.columns(SPACE, 10)]
    assert list(found)[:2] == ["adversarial_set_error", "adversarial_set_error_clean"]
    assert (found["adversarial_set_error"], found["adversarial_set_error_clean"]) == (1.0, 0.0)
    always_three = objective(candidate(Constant([0, 0, 0, 1, 0, 0, 0, 0, 0, 0])))
    assert always_three["adversarial_set_error_clean"] == always_three["adversarial_set_error"] == 0.6


def test_every_image_knows_its_clean_one(make_set: MakeSet) -> None:
    """Images stand in the order of attacks, sources in their own."""
    data = load_data("digits")
    the_set = make_set(data, {"L0": (7, 2, 5), "Linf": (2, 0)})
    assert the_set.source_index.tolist() == [0, 2, 5, 7]
    assert the_set.image_sources().tolist() == [3, 1, 2, 0]
    again = replace(the_set, records=the_set.records[::-1].copy())
    assert again.image_sources().tolist() == [3, 1, 2, 0]
    assert np.array_equal(data.adversarial.labels[the_set.source_index][the_set.image_sources()], the_set.labels)


def test_clean_images_of_another_set_are_refused(make_set: MakeSet) -> None:
    data, the_set = load_data("digits"), threes_and_fives(make_set)
    with pytest.raises(ConfigurationError, match="expected the 10 clean images of the set in its order, got others"):
        AdversarialSetError(the_set, clean_sources=data.adversarial.take(the_set.source_index[::-1]))
    with_them = AdversarialSetError(the_set, clean_sources=data.adversarial.take(the_set.source_index))
    assert with_them == AdversarialSetError(the_set, clean_sources=data.adversarial.take(the_set.source_index))
    assert with_them != AdversarialSetError(the_set)
    assert part_identity(AdversarialSetError(the_set)).keys() == {"adversarial_set", "batch_size"}
    assert part_identity(with_them).keys() == {"adversarial_set", "batch_size", "clean_sources"}


def test_adversarial_images_reach_the_network_as_they_are(make_set: MakeSet) -> None:
    the_set = threes_and_fives(make_set)
    seen: list[Tensor] = []

    class Looking(Constant):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return super().forward(images)

    AdversarialSetError(the_set, batch_size=4)(candidate(Looking([1.0] + [0.0] * 9)))
    assert torch.equal((torch.cat(seen) * 255).round().to(torch.uint8), torch.tensor(the_set.images))
    assert sum(map(len, seen)) == len(the_set)  # one forward pass of the set
    assert not any(images.requires_grad for images in seen)


def test_parts_that_a_set_does_not_have_get_no_column(make_set: MakeSet) -> None:
    data = load_data("digits")
    for part, other in (("L0", "Linf"), ("Linf", "L0")):
        for parts in ({part: range(5)}, {part: range(5), other: ()}):
            objective = AdversarialSetError(make_set(data, parts))
            names = ["adversarial_set_error", f"adversarial_set_error_{part}"]
            assert [column.name for column in objective.columns(SPACE, 10)] == names
            assert list(objective(candidate(Constant([1.0] + [0.0] * 9)))) == names


def test_columns_say_that_the_set_measures_transfer(make_set: MakeSet) -> None:
    the_set = threes_and_fives(make_set)
    columns = AdversarialSetError(the_set).columns(SPACE, 10)
    assert [column.about for column in columns] == [
        f"transferred: precomputed set of {count} images" for count in (10, 5, 7)
    ]
    assert [column.metadata["images"] for column in columns] == [10, 5, 7]
    assert not any(column.maximize or column.reference != 1.0 for column in columns)
    assert {
        (column.metadata["threat"], column.metadata["fingerprint"], *column.metadata["targets"]) for column in columns
    } == {("transfer", the_set.fingerprint, "LeNet")}


def test_sets_are_told_apart_on_the_device_too(make_set: MakeSet) -> None:
    """Two sets in one process, as in two runs: each gives its own error, whichever was seen first."""
    data = load_data("digits")
    answers = candidate(Constant([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
    three, five = (np.flatnonzero(data.adversarial.labels == label).tolist() for label in (3, 5))
    threes, fives = (AdversarialSetError(make_set(data, {"L0": chosen})) for chosen in (three, five))
    for _ in range(2):
        assert threes(answers)["adversarial_set_error"] == 0.0
        assert fives(answers)["adversarial_set_error"] == 1.0
    assert threes != fives


def test_a_network_that_is_not_finite_has_no_error_on_a_set(digits_set: AdversarialSet) -> None:
    with pytest.raises(DivergedError, match="not finite"):
        AdversarialSetError(digits_set)(candidate(Constant([float("inf")] * 10)))
    with pytest.raises(ConfigurationError, match="batch_size >= 1, got 0"):
        AdversarialSetError(digits_set, batch_size=0)
