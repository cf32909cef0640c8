"""Runs that are on disk, opened again to be looked at: their tables, their networks, their numbers found again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evonas.errors import ConfigurationError, RunMismatchError
from evonas.files import expanded
from evonas.methods import method_of
from evonas.plugins import load_plugins, refuse_without_plugins
from evonas.runs.execution import ExecutionOptions

if TYPE_CHECKING:
    from torch import nn

    from evonas.evaluation import Evaluator
    from evonas.runs.folder import RunFolder
    from evonas.runs.result import Result

__all__ = ["load_network", "open_run"]


def open_run(path: Path | str, plugin: Sequence[str] = (), data: str = "") -> Result:
    """The result of the run in a folder; nothing in it is changed, and nothing is trained.

    Its data and supernet are loaded when a network is asked for.

    Args:
        plugin: files that the run was begun with; nothing that a folder names is executed unless it is named here.
        data: `npz:PATH`, where a file of your own images is now; where the run says by default.
    Raises:
        ConfigurationError: there is no run, or it was begun by a script or with other plugins.
    """
    from evonas.runs.folder import RunFolder, stored_searched
    from evonas.runs.result import Result

    folder = RunFolder(expanded(path))
    config = folder.open_stored()
    refuse_without_plugins(config, plugin)
    load_plugins(plugin)
    return Result(folder, stored_searched(config), lambda: _evaluator(folder, plugin, data))


def load_network(
    path: Path | str,
    arch_id: str = "best",
    plugin: Sequence[str] = (),
    data: str = "",
    *,
    weights: str = "search",
    train_again: bool = False,
) -> nn.Module:
    """A network of the run in a folder, in eval mode, from images in [0, 1] to logits; see `Result.load`.

    Args:
        arch_id: of a row with status ok; `best`: the first row of the front.
        weights: `search`: as they were scored. `audit`, or the name of a training: trained to the end.
        train_again: where the weights of the search were not kept, train the network again from its seed.
    """
    return open_run(path, plugin, data).load(arch_id, weights, train_again)


def _evaluator(folder: RunFolder, plugin: Sequence[str], data: str) -> Evaluator:
    """Evaluator of a run's networks."""
    from evonas.evaluation import Evaluator
    from evonas.runs.run import Run

    config = folder.open_stored()
    module, options = method_of(config)
    identity = config["identity"]
    here = ExecutionOptions(device=identity["device"], threads=identity["threads"], executor="local")
    options = replace(options, out=folder.path, plugin=tuple(plugin), execution=here)
    if data:
        options = replace(options, data=replace(options.data, data=data))
    with Run.open(identity["method"], options, reading=True) as run:
        try:
            _, prepare, objectives = module.compose(run, options)
        except RunMismatchError as error:
            if run.identity.get("data") in (None, identity["data"]):
                raise
            raise ConfigurationError(
                f"expected the data that {folder.path} was searched on ({identity['data']['fingerprint']}), "
                f"got {run.identity['data']['fingerprint']}; set EVONAS_DATA to the root that holds it, "
                "or say with --data npz:PATH where your own images are now"
            ) from error
    return Evaluator(prepare, objectives, identity["threads"])
