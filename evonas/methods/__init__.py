"""Methods: one file a paper, with its options, its presets, and what happens in which order.

A method is a module with `OPTIONS` (its options class), `PRESETS` (name -> options, the first is the default) and
`run(options, console)`. One whose runs are folders with a front has `compose(run, options)` besides: the space, what
gives candidates their weights, and the objectives. A new one is a file, and a line in `METHODS`.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

from evonas.errors import ConfigurationError, choose
from evonas.runs.needs import options_of
from evonas.runs.options import RunOptions, flat, from_json

__all__ = ["METHODS", "MethodModule", "method_module", "method_of"]

METHODS = {
    "build-set": "evonas.methods.adversarial_set",
    "darts": "evonas.methods.darts",
    "dsrna": "evonas.methods.dsrna",
    "e2rnas": "evonas.methods.e2rnas",
    "imagenet": "evonas.methods.imagenet",
    "roco": "evonas.methods.roco",
    "tam": "evonas.methods.tam",
}
"""Name on the command line -> module; imported when it is used."""


class MethodModule(Protocol):
    """A module of `METHODS`."""

    OPTIONS: type[Any]
    PRESETS: Mapping[str, Any]

    def run(self, options: Any) -> Any: ...


def method_module(name: str) -> Any:
    """The module of a method.

    Raises:
        UnknownNameError: there is none.
        ConfigurationError: it needs the optional room `evonas.gradient`, which is missing.
    """
    try:
        return import_module(choose(METHODS, name, "method"))
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("evonas.gradient"):
            raise
        raise ConfigurationError(f"expected the room evonas.gradient for {name}, it is missing here") from error


def method_of(config: Mapping[str, Any]) -> tuple[Any, RunOptions]:
    """The module and the options of a run, from its config.json.

    Raises:
        ConfigurationError: no method began it, and not `evonas.run_search`.
    """
    begun_by = config.get("options")
    if begun_by == RunOptions.__module__:
        return import_module("evonas.methods.scripted"), from_json(RunOptions, config["settings"])
    settings, missing = flat(config["settings"]).keys(), list[str]()
    for name, path in METHODS.items():
        if begun_by not in (path, None):
            continue
        try:
            module = method_module(name)
        except ConfigurationError:  # an optional room is missing
            missing.append(name)
            continue
        ours = {option.name for option in options_of(module.OPTIONS)} | {*getattr(module.OPTIONS, "renamed", ())}
        if hasattr(module, "compose") and (begun_by or settings <= ours):  # version 0.1.0 did not say which method
            return module, from_json(module.OPTIONS, _as_begun(config))
    if missing:
        raise ConfigurationError(
            f"expected the room evonas.gradient for {', '.join(missing)}, it is missing here, and "
            f"{config['identity']['method']!r} is none of the other methods"
        )
    raise ConfigurationError(
        f"expected a run of a method or of evonas.run_search, got {config['identity']['method']!r} of a script; "
        "use the result that the script gets, such as with evonas.audit_run"
    )


def _as_begun(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings, with the order that its cells were searched by where it was the default: that has changed."""
    settings = flat(config["settings"])
    if settings.get("order", 0) is None:
        orders = {cells["method"]["bilevel"]["order"] for cells in config["identity"].get("cells", {}).values()}
        settings["order"] = orders.pop() if len(orders) == 1 else None
    return settings
