"""A tiny training of every kind that is trained to the end, and their weights, which tests only look at."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional

from evonas.audit import FinalTraining, Measured
from evonas.data import load_data
from evonas.evaluation import SupernetWeights, recalibrate
from evonas.executors import ignore
from evonas.networks.blocks import seeded
from evonas.networks.darts import GENOTYPES
from evonas.spaces import DartsSpace, HandmadeSpace, PhaseSpace, ShuffleSpace
from evonas.training import CellTraining, TradesYopo, TrainingConfig
from evonas.types import Genome, Report

PHASE_SPACE = PhaseSpace(phases=2, nodes=3, channels=4)
CELL_SPACE = DartsSpace(channels=4, layers=3)
SLICE_SPACE = ShuffleSpace(width=1 / 6, depth=0.1)

DIGITS = load_data("digits", train_limit=40, val_limit=20)
NOTHING = np.empty(0, dtype=np.int64)
"""The genome of a hand-made network."""
CHAIN = PHASE_SPACE.canonical(PHASE_SPACE.designs()["chain"])
DARTS = CELL_SPACE.canonical(CELL_SPACE.from_genotype(GENOTYPES["DARTS_V2"]))
SLICE = SLICE_SPACE.canonical(SLICE_SPACE.sample(1, np.random.default_rng(0))[0])
INHERITED = SupernetWeights.of(seeded(lambda: SLICE_SPACE.supernet(10), 1))

PHASES = FinalTraining(
    space=PHASE_SPACE,
    data=load_data("digits", train_limit=60, val_limit=50),
    training=TrainingConfig(epochs=1, batch_size=30, lr=0.1, precision="fp32"),
    seed=3,
)
CELL_RECIPE = CellTraining(drop_path=0.3)
CELLS = FinalTraining(
    space=CELL_SPACE,
    data=DIGITS,
    training=TrainingConfig(epochs=2, batch_size=20, lr=0.1, precision="fp32"),
    recipe=CELL_RECIPE,
    cutout=8,
    seed=3,
)
SCRATCH = FinalTraining(
    space=SLICE_SPACE,
    data=DIGITS,
    training=TrainingConfig(
        epochs=1, batch_size=20, lr=0.1, weight_decay=5e-3, milestones=(1,), grad_clip=float("inf"), precision="fp32"
    ),
    recipe=TradesYopo(m=1, n=2),
    mode="scratch",
    seed=3,
)
KINDS = {
    "phases": PHASES,
    "cells": CELLS,
    "scratch": SCRATCH,
    "finetune": replace(SCRATCH, mode="finetune", inherited=INHERITED),
    "hand-made": replace(SCRATCH, space=HandmadeSpace("ShuffleNetV2", 0.05)),
}
GENOMES = {"phases": CHAIN, "cells": DARTS, "scratch": SLICE, "finetune": SLICE, "hand-made": NOTHING}


@cache
def trained(kind: str) -> bytes:
    """Weights of `KINDS[kind]`."""
    return KINDS[kind].train(GENOMES[kind], ignore)[0]


def tensors(weights: bytes) -> dict[str, Tensor]:
    return safetensors.torch.load(weights)


@cache
def able() -> bytes:
    """Weights of DARTS's cells that are right about many images: random ones below a classifier by ridge regression."""
    network = seeded(lambda: CELL_SPACE.build(DARTS, normalization=DIGITS.normalization), 8)
    part = load_data("digits", train_limit=200).train
    images = torch.from_numpy(part.images).float() / 255
    recalibrate(network, [images])
    classifier = network.classifier
    assert isinstance(classifier, torch.nn.Linear)
    network.classifier = torch.nn.Identity()
    with torch.no_grad():
        read = functional.pad(network.eval()(images), (0, 1), value=1.0)  # (N, features + 1)
        answers = functional.one_hot(torch.from_numpy(part.labels)).float()
        ridge = 3.0 * torch.eye(read.shape[1])
        fitted = 3 * torch.linalg.solve(read.T @ read + ridge, read.T @ answers).T
        classifier.weight.copy_(fitted[:, :-1])
        classifier.bias.copy_(fitted[:, -1])
    network.classifier = classifier
    return safetensors.torch.save(network.state_dict())


def broken(weights: bytes) -> bytes:
    """The same tensors, of NaN."""
    return safetensors.torch.save({name: value * float("nan") for name, value in tensors(weights).items()})


def measure(
    measured: Measured, training: FinalTraining, genome: Genome, weights: bytes, report: Report = ignore
) -> dict[str, float]:
    """What a network is measured as, column by column."""
    tested = measured.tested(training.data, training.seed)
    found: dict[str, float] = {}
    for each in measured.measurements:
        found |= each.measure(training.candidate(genome, weights), tested, measured.batch_size, report)
    return found


def distinct(digests: Sequence[str]) -> bool:
    return len(set(digests)) == len(digests)
