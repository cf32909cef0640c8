"""A run as a study of Optuna, in a journal that optuna-dashboard shows."""

from __future__ import annotations

import datetime
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evonas.errors import ConfigurationError
from evonas.files import exists, storage_errors
from evonas.types import Genome

if TYPE_CHECKING:
    from optuna import Study

    from evonas.report.table import Searched
    from evonas.search import Entry

__all__ = ["require_optuna", "write_optuna_journal"]


def require_optuna() -> None:
    """ConfigurationError where Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise ConfigurationError("expected optuna for --optuna, it is not installed; pip install 'evonas[track]'")


def write_optuna_journal(
    path: Path, name: str, entries: Sequence[Entry], searched: Searched, upper: Genome | None, begun: float
) -> None:
    """Write a new journal with one study, which has one trial for each evaluation, in their order.

    Parameters are the genes, values the searched objectives with their directions, and user attributes everything else;
    failed evaluations are trials that failed. A journal of evonas has no times of day: every trial starts at `begun`,
    and takes as long as giving the network its weights took.

    Args:
        name: of the study.
        upper: (n_genes,) largest value of each gene; None where no table has the space: the largest that occur.
        begun: seconds since 1970.
    Raises:
        ConfigurationError: Optuna is not installed, or there is such a file.
        StorageError: the folder cannot be written.
    """
    require_optuna()
    import optuna

    with storage_errors(f"write {path}"):
        if exists(path):
            raise ConfigurationError(f"expected a new file for --optuna, {path} is there; move it or name another one")
        path.parent.mkdir(parents=True, exist_ok=True)
        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
                file = Path(folder) / path.name
                study = _new_study(file, name, searched)
                study.add_trials(_trials(entries, searched, upper, datetime.datetime.fromtimestamp(begun)))
                with open(file, "rb") as written:
                    os.fsync(written.fileno())
                os.replace(file, path)
        finally:
            optuna.logging.set_verbosity(level)


def _new_study(file: Path, name: str, searched: Searched) -> Study:
    """A study without trials, kept in a file."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(file))),
        study_name=name,
        directions=["maximize" if each in searched.maximize else "minimize" for each in searched.objectives],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(searched.objectives))
    study.set_user_attr("method", searched.method)
    study.set_user_attr("data", searched.data)
    return study


def _trials(
    entries: Sequence[Entry], searched: Searched, upper: Genome | None, begun: datetime.datetime
) -> Iterator[Any]:
    from optuna.distributions import IntDistribution
    from optuna.trial import TrialState, create_trial

    most = upper if upper is not None else np.max([entry.result.genome for entry in entries], axis=0, initial=0)
    genes = [f"gene_{number:02d}" for number in range(len(most))]
    distributions = {gene: IntDistribution(0, int(value)) for gene, value in zip(genes, most, strict=True)}
    for entry in entries:
        result = entry.result
        others = {name: value for name, value in result.objectives.items() if name not in searched.objectives}
        about = {"arch_id": entry.key, "generation": entry.generation, "seed": str(result.seed)}
        trial = create_trial(
            state={"ok": TrialState.COMPLETE, "stopped": TrialState.PRUNED}.get(result.status, TrialState.FAIL),
            values=[result.objectives[name] for name in searched.objectives] if result.ok else None,
            params=dict(zip(genes, result.genome, strict=True)),
            distributions=distributions,  # type: ignore[arg-type]
            user_attrs={
                **about,
                **others,
                "train_seconds": result.seconds,
                **({} if result.ok else {"reason": result.reason}),
            },
        )
        trial.datetime_start = begun
        trial.datetime_complete = begun + datetime.timedelta(seconds=result.seconds)
        yield trial
