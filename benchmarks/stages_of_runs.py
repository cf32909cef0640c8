"""Stages of runs for `stages.py`: searches of cells, retraining and finalising, on a number of slots."""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from evonas.audit import CLEAN, MEASUREMENTS, AuditNetwork, FinalTraining, Measured
from evonas.data import load_data
from evonas.evaluation import SupernetWeights
from evonas.methods.cell_search import find_cells
from evonas.methods.cells import compose, plan_searches
from evonas.methods.darts import PRESETS as DARTS
from evonas.networks.blocks import seeded
from evonas.runs import DataOptions, ExecutionOptions, Run, RunOptions
from evonas.spaces import PhaseSpace, ShuffleSpace
from evonas.training import TradesYopo, TrainingConfig
from evonas.training.checkpoints import load_checkpoint

__all__ = ["finalise", "retrain", "search_cells"]

MEASURED = Measured(measurements=(CLEAN, *MEASUREMENTS["pgd10"]), test_limit=100)
TRAINING = TrainingConfig(epochs=4, batch_size=32, lr=0.05, precision="fp32")


def options(folder: Path, slots: int) -> dict[str, Any]:
    """Options of a run on so many slots: one is this process."""
    executor: dict[str, Any] = {"executor": "local"} if slots == 1 else {"executor": "process", "workers": slots}
    return {"out": folder / "run", "execution": ExecutionOptions(device="cpu", threads=1, **executor)}


def quiet() -> Console:
    return Console(file=io.StringIO())


def search_cells(folder: Path, slots: int) -> str:
    """Two searches of cells that differ in their seed (DARTS, first order), 3 epochs of 7 steps each."""
    quick = DARTS["quick"]
    levels = replace(quick.levels, search_epochs=3, search_precision="fp32")
    data = replace(quick.data, data="digits")
    given = replace(quick, levels=levels, data=data, repeats=2, **options(folder, slots))
    with Run.open("darts", given, console=quiet()) as run:
        _, candidates, _ = compose(run, given)
        plans = plan_searches(run, given, candidates.data)
        found = find_cells(run, plans)
        kept = [load_checkpoint(run.path / f"{plan.file('search')}.pt", plan.identity(), "a search") for plan in plans]
    digest = hashlib.sha256(repr([each.genotype for each in found]).encode())
    for content in kept:
        assert content is not None
        for row in content["rows"]:
            digest.update(json.dumps({**row, "seconds": 0}).encode())
        for value in content["state"]["supernet"].values():
            digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def retrain(folder: Path, slots: int) -> str:
    """Five networks of RoCo-NAS's space, trained for 4 epochs on 1,000 images and measured."""
    space = PhaseSpace(phases=3, nodes=4, channels=12)
    data = load_data("digits", train_limit=1000, val_limit=100)
    training = FinalTraining(space=space, data=data, training=TRAINING, seed=0)
    genomes = [space.canonical(genome) for genome in space.sample(5, np.random.default_rng(0))]
    return audited(folder, slots, [AuditNetwork(f"network {i}", each, training) for i, each in enumerate(genomes)])


def finalise(folder: Path, slots: int) -> str:
    """Four networks of TAM-NAS's space, two of them from new weights, by TRADES-YOPO-3-3: 3 epochs on 400 images."""
    space = ShuffleSpace(width=1 / 4, depth=0.3)
    data = load_data("digits", train_limit=400, val_limit=100)
    scratch = FinalTraining(
        space=space,
        data=data,
        training=replace(TRAINING, epochs=3),
        recipe=TradesYopo(m=3, n=3, epsilon=8 / 255),
        mode="scratch",
        seed=0,
    )
    weights = SupernetWeights.of(seeded(lambda: space.supernet(data.n_classes), 1))
    ways = {"scratch": scratch, "finetune": replace(scratch, mode="finetune", inherited=weights)}
    genomes = [space.canonical(genome) for genome in space.sample(2, np.random.default_rng(0))]
    networks = [AuditNetwork(f"{i}, {mode}", each, way) for i, each in enumerate(genomes) for mode, way in ways.items()]
    return audited(folder, slots, networks)


def audited(folder: Path, slots: int, networks: Sequence[AuditNetwork]) -> str:
    """Digest of rows and weights, without times."""
    given = RunOptions(data=DataOptions(data="digits"), **options(folder, slots))
    with Run.open("benchmark", given, console=quiet()) as run:
        where, rows = run.audit(networks, MEASURED, "training")
    digest = hashlib.sha256(json.dumps([{**row, "train_seconds": 0} for row in rows]).encode())
    for path in sorted(where.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
