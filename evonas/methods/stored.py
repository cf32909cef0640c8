"""Runs that are on disk, opened again to be looked at: their tables, their networks, their numbers found again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evonas.errors import ConfigurationError, RunMismatchError, UnknownNameError
from evonas.files import expanded
from evonas.methods import METHODS, method_module, method_of
from evonas.plugins import load_plugins, refuse_without_plugins
from evonas.runs.execution import ExecutionOptions
from evonas.runs.needs import flag, options_of
from evonas.runs.options import RunOptions, from_json

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from evonas.evaluation import Evaluator, Prepare
    from evonas.objectives import Objective
    from evonas.runs.folder import RunFolder
    from evonas.runs.result import Result
    from evonas.runs.run import Run

__all__ = ["Reopened", "begun_command", "load_network", "open_run", "reopened"]


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


def begun_command(begun: Mapping[str, Any], out: Path | str) -> list[str]:
    """Words of the command that continues a run, from what it was begun with.

    Empty for a run of a script, and for one with parts of a plugin that this process has not loaded.

    Args:
        begun: config.json, or `options` and `settings` alone, as the folder's lock has them.
        out: its folder.
    """
    module = next((method_module(name) for name, path in METHODS.items() if path == begun.get("options")), None)
    if module is not None:
        try:
            options = from_json(module.OPTIONS, begun["settings"])
        except UnknownNameError:
            if not begun["settings"].get("plugin"):
                raise
            return []
    elif "identity" in begun and "options" not in begun:  # of version 0.1.0
        module, options = method_of(begun)
    else:
        return []
    name = next(name for name, path in METHODS.items() if path == module.__name__)
    usual = {option.name: option.value for option in options_of(module.PRESETS[options.preset])}
    words = ["evonas", name]
    if options.preset != next(iter(module.PRESETS)):
        words += ["--preset", options.preset]
    values = {option.name: option.value for option in options_of(options)}
    idle = {"preset", "out", "retry_failed", *(options.unused() if hasattr(options, "unused") else ())}
    for option in options_of(options):
        used = option.name not in idle and all(need.met(values) for need in option.needs)
        if used and option.value != usual[option.name]:
            words += _words(flag(option.name), option.value)
    return [*words, "--out", str(out)]


def _words(name: str, value: Any) -> list[str]:
    """A flag and its value as they are given."""
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    values = value if isinstance(value, tuple) else (value,)
    plain = ["none" if each is None else str(each) for each in values]
    apart = isinstance(value, tuple) and not isinstance(values[0] if values else "", str)
    return [f"--{name}", *(plain if apart else [",".join(plain)])]


def _evaluator(folder: RunFolder, plugin: Sequence[str], data: str) -> Evaluator:
    """Evaluator of a run's networks."""
    from evonas.evaluation import Evaluator

    identity = folder.open_stored()["identity"]
    here = ExecutionOptions(device=identity["device"], threads=identity["threads"], executor="local")
    with reopened(folder, here, plugin, data) as (run, _, _, prepare, objectives):
        return Evaluator(prepare, objectives, run.threads)


def _begun_here(folder: RunFolder, execution: ExecutionOptions) -> tuple[Any, RunOptions]:
    """Module and options of a run that this process composed, be it a method's or a script's own."""
    from evonas.methods import scripted

    config = folder.open_stored()
    if config.get("options") in METHODS.values():
        return method_of(config)
    return scripted, RunOptions(seed=config["identity"]["seed"], execution=execution)


class Reopened(NamedTuple):
    """A run that is on disk, and the parts that it is composed of."""

    run: Run
    module: Any
    """Module of its method."""
    options: Any
    prepare: Prepare
    objectives: tuple[Objective, ...]


@contextlib.contextmanager
def reopened(
    folder: RunFolder,
    execution: ExecutionOptions,
    plugin: Sequence[str] = (),
    data: str = "",
    retry_failed: bool = False,
    console: Console | None = None,
    composed: Evaluator | None = None,
) -> Iterator[Reopened]:
    """A stored run, composed again to be looked at; what it is composed of is not trained.

    Args:
        composed: evaluator of a run that this process has composed already, of whatever parts.
    Raises:
        ConfigurationError: it was begun by a script with parts that no table has, or its images are not where they
            were.
        RunMismatchError: the device or the number of threads is another one.
    """
    from evonas.runs.run import Run

    config = folder.open_stored()
    module, options = method_of(config) if composed is None else _begun_here(folder, execution)
    identity = config["identity"]
    known = tuple(plugin) if identity.get("plugins") else ()  # to a script's run one may give what was its own there
    options = replace(options, out=folder.path, plugin=known, execution=execution, retry_failed=retry_failed)
    if data:
        options = replace(options, data=replace(options.data, data=data))
    with Run.open(identity["method"], options, reading=True, console=console) as run:
        if composed is not None:
            yield Reopened(run, module, options, composed.prepare, composed.objectives)
            return
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
        yield Reopened(run, module, options, prepare, objectives)
