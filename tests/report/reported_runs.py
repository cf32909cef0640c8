"""Runs of any size on disk, without a search: genomes of a space with drawn scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from evonas.search import Entry, Journal
from evonas.spaces import DartsSpace, PhaseSpace, ShuffleSpace
from evonas.types import EvaluationResult, arch_id

SPACES: dict[str, Any] = {"roco-nas": PhaseSpace(channels=8), "tam-nas": ShuffleSpace(), "darts": DartsSpace()}
PGD = {"about": "white-box: PGD, linf 8/255, 10 steps", "images": 100}


def drawn_run(
    folder: Path,
    networks: int,
    method: str = "roco-nas",
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    reason: str = "",
) -> Path:
    """A run of a method's space with clean_error, macs and pgd_error, 20 networks a generation.

    Args:
        reason: why one more network failed; empty: none did.
    """
    space, rng = SPACES[method], np.random.default_rng(seed)
    identity = {
        "method": method,
        "space": {"name": space.name, **asdict(space)},
        "data": {"name": "digits", "fingerprint": "0123456789abcdef", "n_classes": 10, "train": 60, "validation": 50},
        "search": {"objectives": ["clean_error", "macs", "pgd_error"], "maximize": []},
    }
    columns = ["clean_error", "macs", "pgd_error", "params"]
    config = {
        "settings": {"seed": seed, **(settings or {})},
        "identity": identity,
        "columns": columns,
        "reference_point": {"clean_error": 1.0, "macs": 1e9, "pgd_error": 1.0},
        "measured": {name: PGD if name == "pgd_error" else {"about": ""} for name in columns},
    }
    genomes = dict.fromkeys(tuple(space.canonical(each).tolist()) for each in space.sample(networks + 20, rng))
    with Journal(folder / "journal.jsonl", identity, sync=False) as journal:
        for number, genome in enumerate([*genomes][:networks]):
            cost = space.cost(np.array(genome))
            clean = 0.05 + 0.9 * rng.random() * (1 - number / (2 * networks))
            values = {"clean_error": clean, "macs": cost.macs, "pgd_error": min(1.0, clean + 0.4 * rng.random())}
            result = EvaluationResult(genome, {**values, "params": cost.params}, seed=number, seconds=1.5)
            journal.append(Entry(result, number // 20, number))
        if reason:
            failed = EvaluationResult.failure(tuple(space.sample(1, rng)[0].tolist()), 0, reason)
            journal.append(Entry(failed, networks // 20, networks))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_audit(folder: Path, genomes: Sequence[tuple[int, ...]], reason: str = "") -> None:
    """audit.csv with a row as searched and one as trained for each genome, and audit.json with an alarm."""
    lines = ["arch_id,weights,status,clean_error,pgd_20_error,params,macs,reason"]
    for number, genome in enumerate(genomes):
        lines.append(f"{arch_id(genome)},search,ok,0.{number + 1}5,0.{number + 2}5,100,1000,")
        lines.append(f"{arch_id(genome)},audit,failed,,,100,1000,{reason or 'diverged'}")
    (folder / "audit.csv").write_text("\n".join(lines) + "\n")
    alarm = {"arch_id": arch_id(genomes[0]), "weights": "search", "kind": "noise", "line": f"noise beats PGD {reason}"}
    column = {
        "search": "pgd_error",
        "audit": "pgd_20_error",
        "tau": 0.75,
        "interval": [0.5, 0.9],
        "flips": [["a", "b"]],
        "pairs": 1,
    }
    changed = {"columns": [column], "left_front": [], "hypervolume": {"share_lost": 0.25}}
    (folder / "audit.json").write_text(json.dumps({"changed": changed, "alarms": [alarm], "images": 300}))
