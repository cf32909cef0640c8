"""A whole run in one call, for people with parts of their own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from evonas.data import Dataset
from evonas.errors import ConfigurationError
from evonas.objectives import Objective
from evonas.runs.execution import ExecutionOptions
from evonas.runs.options import AuditOptions, RunOptions
from evonas.runs.result import Result
from evonas.runs.run import Run, SearchSpace
from evonas.search.settings import EvolutionConfig
from evonas.training import Recipe, TrainingConfig, standard

__all__ = ["run_search"]


def run_search(
    space: SearchSpace,
    data: Dataset,
    objectives: Sequence[Objective | str] = ("clean_error", "macs"),
    *,
    out: Path | str,
    training: TrainingConfig | None = None,
    recipe: Recipe = standard,
    search: EvolutionConfig | None = None,
    audit: AuditOptions | None = None,
    seed: int = 0,
    execution: ExecutionOptions | None = None,
    retry_failed: bool = False,
    keep_weights: Literal["none", "front", "all"] = "front",
    track: Literal["", "tensorboard"] = "",
    console: Console | None = None,
) -> Result:
    """Search a space, training every candidate from scratch; the same call continues the run in `out`.

    The folder gets everything that a method's run has: journal, front.csv, pictures, and audit.csv where asked for.

    Args:
        space: frozen; see docs/how-to/search-space.md.
        data: of `evonas.data.load_data`, or `Dataset.from_arrays` or `from_torch`.
        objectives: objects, or names of `OBJECTIVES`; their first columns are searched.
        out: folder of the run.
        training: of a candidate; RoCo-NAS's 25 epochs by default.
        recipe: loss of the training.
        search: population, generations, algorithm; its objectives and seed are those given here.
        audit: train the front to the end and measure it; None: no audit.
        seed: of everything random.
        execution: device, threads and executor; by default what is there.
        retry_failed: evaluate again what is recorded as failed.
        keep_weights: networks whose weights stay in `out`.
        track: a tracker; "tensorboard" writes events into `out`/tensorboard.
        console: for progress; standard output by default.
    Returns:
        `.front`, `.population`, `.plot()`, `.load(arch_id)`, `.verify()`.
    Raises:
        EvonasError: see `Run`.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise ConfigurationError(f"expected an integer as seed, got {seed!r}")
    seed = int(seed)
    options = RunOptions(
        seed=seed,
        execution=execution or ExecutionOptions(),
        out=Path(out),
        retry_failed=retry_failed,
        keep_weights=keep_weights,
        track=track,
    )
    with Run.open("search", options, label=data.name, console=console) as run:
        run.use(data=data.identity())
        run.note(data.converted)
        run.note(run.hardware.note)
        candidates = run.train_from_scratch(space, data, training or TrainingConfig(), recipe)
        named = [part for part in objectives if isinstance(part, str)]
        made = iter(run.make_objectives(named, data, precision=candidates.precision, space=space))
        parts = [next(made) if isinstance(part, str) else part for part in objectives]
        if audit is not None:
            run.check_audit(data, audit)
        config = replace(search or EvolutionConfig(), objectives=tuple(part.name for part in parts), seed=seed)
        found = run.search(space, candidates, parts, config)
        if audit is not None:
            run.audit_front(found, audit)
    return found
