"""Training to the end: what weights follow from, that they repeat themselves, and what is kept of them."""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_trainings import (
    CELL_RECIPE,
    CELL_SPACE,
    CELLS,
    CHAIN,
    DARTS,
    DIGITS,
    GENOMES,
    INHERITED,
    KINDS,
    NOTHING,
    PHASE_SPACE,
    PHASES,
    SCRATCH,
    SLICE,
    SLICE_SPACE,
    distinct,
    tensors,
    trained,
)
from torch import Tensor, nn

from evonas.audit import AuditNetwork, FinalTraining
from evonas.costs import count_macs, count_params
from evonas.data import Augmentation, DeviceData, DevicePart, Part, load_data
from evonas.errors import ConfigurationError, RunMismatchError, StorageError, UnknownNameError
from evonas.evaluation import SupernetWeights, TrainFromScratch
from evonas.executors import ignore
from evonas.networks.blocks import seeded
from evonas.networks.darts import DartsNetwork
from evonas.networks.handmade import HANDMADE
from evonas.parts import as_plain
from evonas.seeding import derive_seed
from evonas.ship import parse_weights
from evonas.spaces import SPACES, HandmadeSpace
from evonas.training import (
    RECIPES,
    TradesYopo,
    TrainingConfig,
    load_checkpoint,
    standard,
    stored_identity,
    train,
)
from evonas.types import Progress, arch_id

pytestmark = pytest.mark.lengthy

CPU = torch.device("cpu")
every_kind = pytest.mark.parametrize("kind", KINDS)

SEEDS: dict[str, tuple[Any, ...]] = {
    "phases": ("retrain", arch_id(CHAIN)),
    "cells": ("retrain", arch_id(DARTS)),
    "scratch": ("finalise", "shuffle", *SLICE.tolist()),
    "finetune": ("finalise", "shuffle", *SLICE.tolist()),
    "hand-made": ("finalise", "ShuffleNetV2"),
}
"""What the seed of a training follows from, besides the run's; versions and runs share it."""


def initial(kind: str, seed: int) -> nn.Module:
    """Each kind of network as its own room builds it."""
    if kind == "cells":
        genotype = CELL_SPACE.genotype(DARTS)
        return seeded(lambda: DartsNetwork(genotype, 4, 3, auxiliary=True, normalization=DIGITS.normalization), seed)
    if kind == "phases":
        return seeded(lambda: PHASE_SPACE.build(CHAIN, 10, normalization=PHASES.data.normalization), seed)
    if kind == "hand-made":
        return seeded(lambda: HANDMADE["ShuffleNetV2"].build(10, 0.05), seed)
    network = seeded(lambda: SLICE_SPACE.build(SLICE, 10), seed)
    if kind == "finetune":
        supernet = SLICE_SPACE.supernet(10)
        supernet.load_state_dict({name: torch.tensor(array) for name, array in INHERITED.arrays.items()})
        network.load_state_dict(supernet.network(SLICE_SPACE.units(SLICE)).state_dict())
    return network


@pytest.mark.slow
@every_kind
def test_weights_are_those_of_the_plain_loop_with_these_seeds(kind: str) -> None:
    training = KINDS[kind]
    seed = derive_seed(3, *SEEDS[kind])
    network = initial(kind, derive_seed(seed, "weights"))
    drawn = torch.Generator().manual_seed(derive_seed(seed, "training"))
    cutout = 8 if kind == "cells" else 0
    augmentation = Augmentation(flip=training.data.flip, cutout=cutout, mean=training.data.mean)
    train(network, DevicePart(training.data.train, CPU), augmentation, training.training, training.recipe, drawn)
    expected = network.state_dict()
    assert sum(name.startswith("auxiliary") for name in expected) == (14 if kind == "cells" else 0)
    found = tensors(trained(kind))
    assert found.keys() == {name for name in expected if not name.startswith("auxiliary")}
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_a_search_trains_a_network_of_this_width_alike() -> None:
    seed = derive_seed(3, "retrain", arch_id(CHAIN))
    candidate, _ = TrainFromScratch(PHASE_SPACE, PHASES.data, PHASES.training).start()(CHAIN, seed, ignore)
    expected = candidate.network.state_dict()
    found = tensors(trained("phases"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.slow
@every_kind
def test_it_repeats_itself_bit_for_bit_and_another_seed_does_not(kind: str) -> None:
    expected = trained(kind)
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert KINDS[kind].train(GENOMES[kind], ignore)[0] == expected
    assert torch.equal(torch.rand(3), drawn)  # torch's own generator is left alone
    assert replace(KINDS[kind], seed=4).train(GENOMES[kind], ignore)[0] != expected


@every_kind
def test_what_is_kept_is_what_the_space_builds(kind: str) -> None:
    training, genome, weights = KINDS[kind], GENOMES[kind], trained(kind)
    given: dict[str, Any] = {} if training.mode else {"normalization": training.data.normalization}
    training.space.build(genome, 10, **given).load_state_dict(tensors(weights))  # strict
    candidate = training.candidate(genome, weights)
    assert not candidate.network.training
    assert all(torch.equal(value, tensors(weights)[name]) for name, value in candidate.network.state_dict().items())
    assert candidate.cost == training.cost(genome) == training.space.cost(genome)
    assert candidate.cost == (count_params(candidate.network), count_macs(candidate.network))


ABOUT = {
    "phases": {"name": "phase", "phases": 2, "nodes": 3, "channels": 4, "image_size": 32},
    "cells": {"name": "darts", "channels": 4, "layers": 3, "nodes": 4, "stem": "cifar", "image_size": 32},
    "scratch": {"name": "shuffle", "width": 1 / 6, "depth": 0.1, "intermediate": 1, "image_size": 32},
    "finetune": {"name": "shuffle", "width": 1 / 6, "depth": 0.1, "intermediate": 1, "image_size": 32},
    "hand-made": {"name": "ShuffleNetV2", "width": 0.05, "image_size": 32},
}


@every_kind
def test_the_file_says_which_network_it_belongs_to(kind: str) -> None:
    weights, data = trained(kind), KINDS[kind].data
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    about = json.loads(header["__metadata__"]["evonas"])
    assert (about["space"], about["genome"], about["n_classes"]) == (ABOUT[kind], GENOMES[kind].tolist(), 10)
    own = [list(data.mean), list(data.deviation)]
    assert about["normalization"] == (own if kind in ("phases", "cells") else None)


def test_networks_of_a_supernet_see_images_as_they_are() -> None:
    for kind in ("scratch", "finetune", "hand-made"):
        assert isinstance(KINDS[kind].candidate(GENOMES[kind], trained(kind)).network.normalize, nn.Identity)


@pytest.mark.parametrize("kind", ["cells", "finetune"])
@pytest.mark.slow
def test_after_every_epoch_it_continues_bit_for_bit(kind: str, tmp_path: Path) -> None:
    """Stopped by what watches it, twice; the checkpoint is removed by whoever has kept the weights."""
    training = replace(KINDS[kind], training=replace(KINDS[kind].training, epochs=2))
    genome, path = GENOMES[kind], KINDS[kind].checkpoint(tmp_path, GENOMES[kind])
    expected, _ = training.train(genome, ignore)
    told: list[Progress] = []

    def stops(progress: Progress) -> None:
        if progress.unit == "epoch" and progress.done > len(told):  # not what it begins with
            told.append(progress)
            raise KeyboardInterrupt

    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            training.train(genome, stops, path)
        assert (told[-1].done, told[-1].total) == (epoch, 2)
        torch.manual_seed(epoch)
    weights, seconds = training.train(genome, stops, path)  # nothing is left to train
    assert weights == expected
    content = load_checkpoint(path, stored_identity(path, "a training"), "a training")
    assert content is not None
    rows = content["rows"]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert seconds == pytest.approx(sum(row["seconds"] for row in rows), abs=1e-9)
    with pytest.raises(RunMismatchError, match="belongs to another run: digest is"):
        replace(training, seed=4).train(genome, ignore, path)
    other = training.space.canonical(training.space.sample(1, np.random.default_rng(1))[0])
    with pytest.raises(RunMismatchError, match="belongs to another run: genome"):
        training.train(other, ignore, path)
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(StorageError, match=r"expected a training of evonas in .*; copy it there again, or move"):
        training.train(genome, ignore, path)


def test_steps_are_told_of_the_whole_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evonas.training.loop.time.monotonic", iter(range(100)).__next__)  # a second a look
    told: list[Progress] = []
    CELLS.train(DARTS, told.append)
    steps = [(each.done, each.total) for each in told if each.unit == "step"]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [each.done for each in told if each.unit == "epoch"] == [0, 1, 2]
    assert {each.key for each in told} == {arch_id(DARTS)}


@pytest.mark.parametrize(
    "changed",
    [
        {"cutout": 0},
        {"cutout": None},
        {"recipe": replace(CELL_RECIPE, drop_path=0.0)},
        {"recipe": replace(CELL_RECIPE, auxiliary_weight=0.0)},
        {"training": replace(CELLS.training, lr=0.05)},
    ],
    ids=str,
)
def test_every_part_of_the_recipe_of_cells_is_asked(changed: dict[str, Any]) -> None:
    other = tensors(replace(CELLS, **changed).train(DARTS, ignore)[0])
    assert other.keys() == tensors(trained("cells")).keys()  # without an auxiliary head, too
    assert not torch.equal(other["classifier.weight"], tensors(trained("cells"))["classifier.weight"])


def test_the_recipe_of_slices_is_asked_and_clipping_is_off() -> None:
    assert replace(SCRATCH, recipe=TradesYopo(m=1, n=1)).train(SLICE, ignore)[0] != trained("scratch")
    clipped = replace(SCRATCH, training=replace(SCRATCH.training, grad_clip=1e-3))
    assert clipped.train(SLICE, ignore)[0] != trained("scratch")


def test_fine_tuning_starts_from_the_supernets_slices() -> None:
    """With steps too small to change a weight, what comes out is what went in; from scratch it is not."""
    still = replace(SCRATCH.training, lr=1e-30, weight_decay=0.0)
    supernet = SLICE_SPACE.supernet(10)
    supernet.load_state_dict({name: torch.tensor(array) for name, array in INHERITED.arrays.items()})
    expected = dict(supernet.network(SLICE_SPACE.units(SLICE)).named_parameters())
    tuned = tensors(replace(KINDS["finetune"], training=still).train(SLICE, ignore)[0])
    fresh = tensors(replace(SCRATCH, training=still).train(SLICE, ignore)[0])
    near = partial(torch.allclose, rtol=0, atol=1e-20)  # weights that are 0 move by the gradient times 1e-30
    assert all(near(tuned[name], value) for name, value in expected.items())
    assert sum(not near(fresh[name], value) for name, value in expected.items()) > len(expected) / 3


def test_fine_tuning_leaves_the_supernet_as_it_was() -> None:
    trained("finetune")
    assert SupernetWeights(INHERITED.arrays).fingerprint == INHERITED.fingerprint


def test_inherited_weights_are_for_fine_tuning_alone() -> None:
    with pytest.raises(ConfigurationError, match="got mode 'scratch'"):
        replace(SCRATCH, inherited=INHERITED)
    with pytest.raises(ConfigurationError, match="got mode 'finetune'"):
        replace(SCRATCH, mode="finetune")


OTHER = SupernetWeights({"a": np.zeros(3, dtype=np.float32)})
MORE = load_data("digits", train_limit=50, val_limit=20)
CHANGES: dict[str, tuple[FinalTraining, dict[str, dict[str, Any]]]] = {
    "phases": (
        PHASES,
        {
            "channels": {"space": replace(PHASE_SPACE, channels=8)},
            "nodes": {"space": replace(PHASE_SPACE, nodes=4)},
            "data": {"data": MORE},
            "training": {"training": replace(PHASES.training, epochs=2)},
            "seed": {"seed": 4},
            "threads": {"threads": 2},
            "device": {"device": "cuda"},
            "cutout": {"cutout": 0},
        },
    ),
    "cells": (
        CELLS,
        {
            "seed": {"seed": 4},
            "cutout": {"cutout": 0},
            "threads": {"threads": 2},
            "device": {"device": "cuda"},
            "training": {"training": replace(CELLS.training, epochs=3)},
            "drop path": {"recipe": replace(CELL_RECIPE, drop_path=0.2)},
            "auxiliary": {"recipe": replace(CELL_RECIPE, auxiliary_weight=0.0)},
            "smoothing": {"recipe": replace(CELL_RECIPE, label_smoothing=0.1)},
            "channels": {"space": replace(CELL_SPACE, channels=5)},
            "layers": {"space": replace(CELL_SPACE, layers=4)},
            "data": {"data": MORE},
            "images": {"train_on": "all"},
        },
    ),
    "slices": (
        SCRATCH,
        {
            "mode": {"mode": "finetune", "inherited": OTHER},
            "supernet": {"mode": "finetune", "inherited": SupernetWeights({"a": np.ones(3, dtype=np.float32)})},
            "space": {"space": replace(SLICE_SPACE, intermediate=2)},
            "hand-made": {"space": HandmadeSpace("ResNet-18")},
            "narrow": {"space": HandmadeSpace("ResNet-18", 0.5)},
            "data": {"data": MORE},
            "training": {"training": replace(SCRATCH.training, epochs=2)},
            "milestones": {"training": replace(SCRATCH.training, milestones=(2,))},
            "recipe": {"recipe": TradesYopo(m=2, n=2)},
            "clamping": {"recipe": TradesYopo(m=1, n=2, closed=False)},
            "epsilon": {"recipe": TradesYopo(m=1, n=2, epsilon=4 / 255)},
            "seed": {"seed": 4},
            "threads": {"threads": 2},
            "device": {"device": "cuda"},
        },
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_whatever_changes_the_weights_changes_their_digest(kind: str) -> None:
    training, changes = CHANGES[kind]
    assert distinct([training.digest, *(replace(training, **change).digest for change in changes.values())])


@pytest.mark.parametrize(
    ("training", "change"),
    [
        (PHASES, {"operators": "nsganet", "mutation_rate": 0.3}),
        (CELLS, {"crossover_kind": "cell", "crossover_rate": 0.5, "mutation_rate": 0.3}),
        (SCRATCH, {"window": (1.6e6, 2.4e6), "crossover_kind": "one_point", "mutation_rate": 0.2}),
    ],
    ids=["phases", "cells", "slices"],
)
def test_how_the_network_was_found_does_not_matter(training: FinalTraining, change: dict[str, Any]) -> None:
    assert replace(training, space=replace(training.space, **change)).digest == training.digest


def as_in_version_0_1_0(training: FinalTraining) -> FinalTraining:
    """TRADES-YOPO with torch's own derivative of clamping, which runs of that version continue with."""
    recipe = training.recipe
    assert isinstance(recipe, TradesYopo)
    return replace(training, recipe=replace(recipe, closed=False))


def test_digests_are_those_of_version_0_1_0() -> None:
    """What that version has trained is found again: the records go by these."""
    assert PHASES.digest == "d4b9b8a2b7aff8a6"
    assert CELLS.digest == "69354964662784a9"
    assert replace(CELLS, recipe=replace(CELL_RECIPE, auxiliary_weight=0.0, drop_path=0.2), cutout=0).digest == (
        "4f891e33d8e0fc73"
    )
    scratch, handmade = as_in_version_0_1_0(SCRATCH), as_in_version_0_1_0(KINDS["hand-made"])
    assert scratch.digest == "7631c033af83366c"
    assert replace(scratch, mode="finetune", inherited=OTHER).digest == "5b9457f959a606c2"
    assert handmade.digest == "1371e4a97fd88f53"
    assert replace(handmade, device="cuda", threads=2).digest == "ed4ac4f00a0a25ef"


CASES: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "identities.json").read_text())
TRAININGS = [(case, name) for case in CASES for name in CASES[case].get("trainings", ())]


def of_version_0_1_0(settings: dict[str, Any], identity: dict[str, Any]) -> FinalTraining:
    """The training that a stored identity describes."""
    space, config, recipe = dict(identity["space"]), dict(identity["training"]), identity["recipe"]
    name = space.pop("name")
    if config["grad_clip"] is None:
        config["grad_clip"] = float("inf")
    if "milestones" in config:
        config["milestones"] = tuple(config["milestones"])
    made: Any = RECIPES[recipe if isinstance(recipe, str) else recipe["name"]]
    if not isinstance(recipe, str):
        made = replace(made, **{field: value for field, value in recipe.items() if field != "name"})
    inherited = SupernetWeights({}) if identity.get("supernet") else None
    training = FinalTraining(
        space=SPACES[name](**space) if name in SPACES else HandmadeSpace(name, **space),
        data=load_data("digits", train_limit=settings["train_limit"], val_limit=settings["val_limit"]),
        training=TrainingConfig(**config),
        recipe=made,
        cutout=identity.get("cutout"),
        mode="" if "supernet" not in identity else "scratch" if inherited is None else "finetune",
        inherited=inherited,
        seed=identity["seed"],
        device=identity["device"],
        threads=identity["threads"],
    )
    return as_in_version_0_1_0(training) if isinstance(made, TradesYopo) else training


@pytest.mark.parametrize(("case", "name"), TRAININGS)
def test_presets_train_under_the_digests_of_version_0_1_0(case: str, name: str) -> None:
    expected = CASES[case]["trainings"][name]
    training = of_version_0_1_0(CASES[case]["settings"], expected["identity"])
    assert as_plain(training.identity()) == expected["identity"]
    assert training.digest == expected["digest"]


@dataclass(frozen=True)
class Halved:
    """A recipe of a plugin: it has no name but its class's."""

    factor: float = 0.5

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        return self.factor * standard(network, images, labels, generator)


def test_a_recipe_goes_by_its_name_and_its_settings() -> None:
    assert PHASES.identity()["recipe"] == "standard"
    assert SCRATCH.identity()["recipe"]["name"] == "trades_yopo"
    assert replace(PHASES, recipe=Halved()).identity()["recipe"] == {"name": "Halved", "factor": 0.5}
    searched = TrainFromScratch(PHASE_SPACE, PHASES.data, PHASES.training, recipe=Halved(0.25))
    assert searched.identity()["training"]["recipe"] == {"name": "Halved", "factor": 0.25}


def test_tables_say_how_a_network_was_trained() -> None:
    assert PHASES.settings() == {"channels": 4, "epochs": 1}
    assert CELLS.settings() == {"channels": 4, "layers": 3, "epochs": 2}
    assert KINDS["finetune"].settings() == {"mode": "finetune", "epochs": 1}
    assert KINDS["hand-made"].settings() == {"mode": "scratch", "epochs": 1}
    assert replace(PHASES, train_on="all").settings() == {"channels": 4, "epochs": 1, "train_on": "all"}


def test_all_images_but_the_test_parts_are_those_of_a_larger_train_part() -> None:
    """Weights equal those of a data set whose train part holds the three parts, one behind the other."""
    training, data = replace(PHASES, train_on="all"), PHASES.data
    parts = (data.train, data.validation, data.adversarial)
    pooled = Part(np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts]))
    assert len(pooled) == 60 + 50 + 150
    assert training.images == pooled
    assert PHASES.images is data.train
    assert training.images_in_words == "the 260 images of the train, validation and adversarial parts"
    assert PHASES.images_in_words == "the 60 images of the train part"
    weights, _ = training.train(CHAIN, ignore)
    expected, _ = replace(PHASES, data=replace(data, train=pooled)).train(CHAIN, ignore)
    found = tensors(weights)
    assert all(torch.equal(value, found[name]) for name, value in tensors(expected).items())
    assert not all(torch.equal(value, found[name]) for name, value in tensors(trained("phases")).items())
    assert parse_weights(weights).card.provenance.train_on == "all"
    assert parse_weights(trained("phases")).card.provenance.train_on == "train"


def test_hand_made_networks_have_names_and_widths() -> None:
    made = KINDS["hand-made"]
    assert made.cost(NOTHING) == made.space.max_cost()
    assert AuditNetwork("Table X", NOTHING, made, "ShuffleNetV2").arch_id == "ShuffleNetV2"
    assert AuditNetwork("", SLICE, SCRATCH).arch_id == arch_id(SLICE)
    with pytest.raises(UnknownNameError, match="unknown hand-made network 'VGG'"):
        HandmadeSpace("VGG")
    with pytest.raises(ConfigurationError, match="expected a width > 0 for ResNet-18, got 0"):
        HandmadeSpace("ResNet-18", 0)
    with pytest.raises(ConfigurationError, match="got inf"):
        HandmadeSpace("ResNet-18", float("inf"))


def test_the_generator_of_a_candidate_follows_from_the_network_and_the_seed() -> None:
    def state(training: FinalTraining, kind: str) -> list[int]:
        return training.candidate(GENOMES[kind], trained(kind)).generator.get_state().tolist()

    for kind, training in KINDS.items():
        names = [*GENOMES[kind].tolist()] if training.mode else [arch_id(GENOMES[kind])]
        expected = torch.Generator().manual_seed(derive_seed(3, "audit", *names)).get_state().tolist()
        assert state(training, kind) == expected
        assert state(replace(training, seed=4), kind) != expected


def test_augmentation_is_the_datas_own_unless_a_hole_is_cut() -> None:
    own = DeviceData(DIGITS, CPU).augmentation
    assert own == Augmentation(flip=DIGITS.flip, mean=DIGITS.mean)
    assert own.cutout == 0
