"""The beginning of every run: folder and lock, stored configuration, identity, and hardware."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from rich.console import Console

from evonas.data import Dataset, data_root, load_data, resolve_data
from evonas.data.loader import own_file
from evonas.errors import ConfigurationError, DataError, EvonasError
from evonas.executors import Executor
from evonas.executors.forks import warm_up
from evonas.files import exists, expanded
from evonas.parts import as_plain, refuse_another_run
from evonas.plugins import load_plugins, plugin_identity, refuse_without_plugins
from evonas.report import require_tensorboard
from evonas.runs.execution import WORKERS_IMPORT, Hardware, make_executor, resolve_hardware
from evonas.runs.folder import RunFolder
from evonas.runs.interrupt import interruptible
from evonas.runs.options import DataOptions, RunOptions, as_json
from evonas.runs.screen import Screen
from evonas.training import PRECISIONS, Recipe, TradesYopo, TrainingPrecision

__all__ = ["BegunRun"]


class BegunRun:
    """A run in its folder, before its first stage; `evonas.runs.Run` adds these.

    Args:
        reading: the run is only looked at: nothing is trained, built or written.
        alone: nothing of the run is done beside anything else, so that it has every processor by default.
    """

    def __init__(
        self, method: str, options: RunOptions, folder: RunFolder, screen: Screen, reading: bool, alone: bool = False
    ) -> None:
        self.method, self.options, self.folder, self.screen = method, options, folder, screen
        self.reading = reading
        """The run is only looked at: nothing is trained, built or written."""
        if options.track == "tensorboard" and not reading:
            require_tensorboard()
        self.stored = folder.stored()
        self.checkpoint = {} if self.stored else folder.checkpoint_identity()
        refuse_without_plugins(self.stored, options.plugin)
        self.identity: dict[str, Any] = {}
        self._score_batches: dict[int, int | None] = {}
        self.notes: list[str] = []
        """Choices made for the user, one line each."""
        self.use(method=method)
        if options.plugin:
            self.use(plugins=plugin_identity(options.plugin))
        self.hardware: Hardware = resolve_hardware(options.execution, self.begun() or self.checkpoint, alone)
        self.use(seed=options.seed, device=torch.device(self.device).type, threads=self.threads)
        if self.hardware.executor == "process" and not (self.stored or reading):  # workers will surely be needed
            warm_up(WORKERS_IMPORT)

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        method: str,
        options: RunOptions,
        name: str = "",
        label: str = "",
        console: Console | None = None,
        reading: bool = False,
        alone: bool = False,
    ) -> Iterator[Self]:
        """Begin a run in its folder, or continue the one that is there.

        Args:
            method: what tables call it.
            name: of its folder, RUNS/NAME-DATA-PRESET-seedN; the method by default.
            label: instead of the data set's name there.
            reading: look at the run in `options.out` without changing anything.
            alone: nothing of the run is done beside anything else, so that it has every processor by default.
        Raises:
            RunInUseError: another process writes the run.
            RunMismatchError: the folder holds another method's run.
            ConfigurationError, StorageError: the folder or the machine cannot be used as asked.
        """
        load_plugins(options.plugin)
        data, because = ("", "") if label else _data_name(options)
        run_name = f"{name or method}-{label or _short(data)}-{options.preset}-seed{options.seed}"
        folder = RunFolder(expanded(options.out or Path("runs") / run_name))
        with interruptible() as interruption, contextlib.nullcontext() if reading else folder.locked():
            run = cls(method, options, folder, Screen(console, interruption.check), reading, alone)
            run._data_name = data
            run.note(because)
            if not reading and not run.stored:  # from then on config.json says
                folder.keep_options(type(options).__module__, as_json(options))
            yield run

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def seed(self) -> int:
        return self.options.seed

    @property
    def device(self) -> str:
        """Device of the evaluations."""
        return self.hardware.device

    @property
    def threads(self) -> int:
        """CPU threads of an evaluation."""
        return self.hardware.threads

    def begun(self, *path: str) -> Any:
        """Value in the identity of the run in the folder; None where there is none."""
        value: Any = self.stored.get("identity", {})
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def note(self, text: str) -> None:
        """Say a choice that was made for the user, and keep it for config.json."""
        if text and text not in self.notes:
            self.notes.append(text)
            if not self.reading:
                self.screen.say(text)

    def use(self, **parts: Any) -> None:
        """Make parts a piece of the run's identity.

        Raises:
            RunMismatchError: the run in the folder was begun with another one.
        """
        plain = as_plain(parts)
        self.identity |= plain
        begun = self.begun()
        if begun:  # before hours are spent on a run that is then refused; the journal compares all of it
            refuse_another_run(self.folder.journal, {name: _there(begun, name, plain[name]) for name in plain}, plain)

    def precision(self, asked: str, begun: Any, depthwise: bool = False, what: str = "") -> TrainingPrecision:
        """A resolved precision.

        Args:
            begun: what the run in the folder was begun with; None: there is none.
            depthwise: whether the networks have depthwise convolutions.
            what: it is of, for the line on the screen.
        """
        if asked == "auto" and begun:
            self.note(f"precision{f' of the {what}' if what else ''}: {begun}, as this run was started with")
            same: TrainingPrecision = begun if begun in PRECISIONS else "fp32"
            return same
        precision, note = self.hardware.precision(asked, self.options.execution.gpus_per_task, depthwise)
        self.note(note.replace("precision", f"precision of the {what}", 1) if what else note)
        return precision

    def score_batch_size(self, image_size: int) -> int | None:
        """Images of a pass that scores networks: as asked for, as the run was begun, or by a GPU's memory.

        None: every score has its own number.

        Args:
            image_size: in pixels.
        """
        if image_size not in self._score_batches:
            size = self.options.score_batch_size
            if size is None and self.begun():
                size = self.begun("score_batch_size")
            elif size is None:
                size = self.hardware.images_at_once(self.options.execution.gpus_per_task, image_size)
                self.note(f"scores: batches of {size}, by the GPU's memory, however many share it" if size else "")
            if size is not None:
                self.use(score_batch_size=size)
            self._score_batches[image_size] = size
        return self._score_batches[image_size]

    def recipe_as_begun(self, recipe: Recipe, begun: Any) -> Recipe:
        """The recipe as the run in the folder began with it: TRADES-YOPO left clamping to torch in version 0.1.0.

        Args:
            begun: identity of the recipe there; None: there is none.
        """
        if not isinstance(recipe, TradesYopo) or not isinstance(begun, Mapping):
            return recipe
        if begun.get("name") != recipe.name or "clamp" in begun:
            return recipe
        self.note("TRADES-YOPO: saturated pixels step as this version of torch has it, as this run was started with")
        return replace(recipe, closed=False)

    def needs_device_here(self, what: str) -> None:
        """ConfigurationError where this process has no GPU for what it trains itself."""
        if self.hardware.here != self.hardware.device:
            raise ConfigurationError(
                f"expected a GPU where {what}, this process has none; start it on a machine with one, "
                "such as with `ray job submit --entrypoint-num-gpus 1`"
            )

    def load_data(self, options: DataOptions | None = None) -> Dataset:
        """The images of the run, in its four parts.

        Images of a user's own are known by their content: they keep the name that the run was begun with. Where their
        file is gone, one with the same images is looked for in this folder, the data root, and those above the run.
        """
        given = options or self.options.data
        own, begun = own_file(self._data_name), self.begun("data")
        if own is None or begun is None:
            data = self._load(self._data_name, given)
        else:
            data = self._own_again(own, begun, given)
        self.use(data=data.identity())
        self.note(data.converted)
        self.note(self.hardware.note)
        self.score_batch_size(data.image_size)
        return data

    def _own_again(self, own: Path, begun: Mapping[str, Any], given: DataOptions) -> Dataset:
        """The images that the run was begun with, or others, which it then refuses."""
        folders = (Path(), data_root(given.data_root), *self.path.absolute().parents)
        there = {(folder / name).absolute(): None for name in (own, own.name) for folder in folders}
        found: Dataset | None = None
        for path in there:
            try:
                data = self._load(f"npz:{path}", given)
            except EvonasError:
                if path == own.absolute() and exists(path):
                    raise
                continue  # not there, or another file of that name
            if own_file(begun["name"]):
                data = replace(data, name=begun["name"])
            by_name = replace(data, by_content=False)  # as version 0.1.0 had its fingerprint
            data = by_name if by_name.fingerprint == begun["fingerprint"] else data
            if data.fingerprint == begun["fingerprint"]:
                if path != own.absolute():
                    self.note(f"data: {path} has the images of {own}")
                return data
            if path == own.absolute():
                found = data
                break
        if found is None:
            raise DataError(f"expected the images of {self.path} in {own}; say with --data npz:PATH where they are now")
        return found

    def _load(self, name: str, given: DataOptions) -> Dataset:
        limits = given.train_limit, given.val_limit
        return load_data(name, given.data_root, self.split_seed, *limits, self.screen.say)

    @property
    def split_seed(self) -> int:
        """Seed of the data's parts."""
        given = self.options.data.split_seed
        return self.seed if given is None else given

    def executor(self, resident: bool = False, deadline: bool = True) -> Executor:
        """A new executor as the options ask for.

        Args:
            resident: its work keeps something large in its process.
            deadline: its jobs are evaluations, which --timeout is about.
        """
        options = self.options.execution if deadline else replace(self.options.execution, timeout=None)
        return make_executor(options, self.hardware, resident)

    def kept_settings(self) -> dict[str, Any]:
        """Options that are `auto` now and were given when the run was begun: it goes on with them every time."""
        begun, given = self.stored.get("settings", {}), as_json(self.options)
        return {
            name: begun[name] for name in ("data", "adversarial_set") if name in begun and given.get(name) == "auto"
        }

    _data_name = ""


def _data_name(options: RunOptions) -> tuple[str, str]:
    """The data set's name, and a line where it was chosen for the user: by the run in --out, or by what is there."""
    if options.data.data == "auto" and options.out is not None:
        stored = RunFolder(expanded(options.out)).stored()
        if stored:
            given, found = stored["settings"].get("data", "auto"), stored["identity"]["data"]["name"]
            name = found if given == "auto" else given  # a file of one's own has its path there
            return name, f"data: {name}, as this run was started with"
    return resolve_data(options.data.data, options.data.data_root)


def _short(data: str) -> str:
    """Data set as folder names have it: the stem of a file of the user's own."""
    own = own_file(data)
    return data if own is None else f"npz-{own.stem}"


def _there(begun: Mapping[str, Any], name: str, given: Any) -> Any:
    """Stored value, cut down to the keys of the given one."""
    value = begun.get(name, "nothing")
    if isinstance(value, Mapping) and isinstance(given, Mapping):
        return {key: value[key] for key in value if key in given}
    return value
