"""Runs of `evonas.run_search`, composed again from what their config.json says, as far as tables and images go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evonas.errors import ConfigurationError, EvonasError
from evonas.parts import as_plain, part_identity
from evonas.runs.options import RunOptions

if TYPE_CHECKING:
    from evonas.audit import FinalTraining
    from evonas.data import Dataset
    from evonas.evaluation import Prepare, TrainFromScratch
    from evonas.objectives import Objective
    from evonas.runs.run import Run
    from evonas.training import Recipe
    from evonas.types import Genome

__all__ = ["OPTIONS", "TRAINED", "compose", "to_the_end"]

OPTIONS = RunOptions
TRAINED = "trained"
"""Folder of networks that are trained to the end."""
IN_THE_SCRIPT = "; or give the result that the script gets to evonas.audit_run there"


def compose(run: Run, options: RunOptions) -> tuple[Any, TrainFromScratch, tuple[Objective, ...]]:
    """The space, what gives candidates their weights, and those of its objectives that a table makes as they were.

    Raises:
        ConfigurationError: space, recipe or data are in no table here.
        RunMismatchError: they are others than those of the run.
    """
    from evonas.objectives import OBJECTIVES
    from evonas.runs.folder import stored_space
    from evonas.runs.options import changed
    from evonas.training import TrainingConfig

    begun = run.stored["identity"]
    space = stored_space(begun["space"])
    if space is None:
        raise ConfigurationError(
            f"expected the space {begun['space']['name']!r} of a script in a file after --plugin{IN_THE_SCRIPT}"
        )
    if "training" not in begun:
        raise ConfigurationError(f"expected a search that trains each candidate from scratch{IN_THE_SCRIPT}")
    settings = dict(begun["training"])
    recipe = _recipe(settings.pop("recipe"))
    training: TrainingConfig = changed(TrainingConfig(), settings)
    data = _data(run, begun["data"])
    candidates = run.train_from_scratch(space, data, training, recipe)
    named = [name for name in begun["objectives"] if name in OBJECTIVES and name != "adversarial_set_error"]
    made = run.make_objectives(named, data, precision=candidates.precision, space=space)
    same = (part for part in made if as_plain(part_identity(part)) == begun["objectives"][part.name])
    return space, candidates, tuple(same)


def to_the_end(run: Run, options: RunOptions, candidates: Prepare, genome: Genome) -> FinalTraining:
    """Training of a network of the run after the search: as there, unless the audit's plan says otherwise."""
    from evonas.runs.auditing import training_to_the_end

    return training_to_the_end(run, candidates, None)


def _recipe(begun: str | Mapping[str, Any]) -> Recipe:
    """The recipe of an identity: a name, or a name with settings."""
    from dataclasses import replace

    from evonas.training import RECIPES

    name = begun if isinstance(begun, str) else str(begun["name"])
    if name not in RECIPES:
        raise ConfigurationError(f"expected the recipe {name!r} of a script in a file after --plugin{IN_THE_SCRIPT}")
    recipe: Any = RECIPES[name]
    settings = {} if isinstance(begun, str) else {key: value for key, value in begun.items() if key != "name"}
    if settings and hasattr(recipe, "closed"):  # of trades_yopo; version 0.1.0 had no other way, and no word for it
        settings["closed"] = settings.pop("clamp", None) == "closed"
    if isinstance(settings.get("robust"), Mapping):
        settings["robust"] = _recipe(settings["robust"])
    made: Recipe = replace(recipe, **settings) if settings else recipe
    return made


def _data(run: Run, begun: Mapping[str, Any]) -> Dataset:
    """The images that the run was searched on; those of a data set, whichever of the usual seeds divided it.

    Raises:
        ConfigurationError: they are not found again.
    """
    from dataclasses import replace

    from evonas.data import load_data

    given = run.options.data
    name = begun["name"] if given.data == "auto" else given.data
    try:
        for seed in dict.fromkeys((run.split_seed, 0)):
            whole = load_data(name, given.data_root, seed)
            train, validation = (
                None if len(part) == begun[key] else int(begun[key])
                for key, part in (("train", whole.train), ("validation", whole.validation))
            )
            data = load_data(name, given.data_root, seed, train, validation) if train or validation else whole
            by_name = replace(data, name=begun["name"], by_content=False)  # arrays of a script, now in a file
            for each in (data, by_name):
                if each.fingerprint == begun["fingerprint"]:
                    run.use(data=each.identity())
                    return each
        found = "others"
    except EvonasError as error:
        found = f"none: {error}"
    raise ConfigurationError(
        f"expected the images of {run.path} ({begun['name']}, {begun['fingerprint']}), got {found}; say with "
        f"--data npz:PATH where they are{IN_THE_SCRIPT}"
    )
