"""What every run of a search begins with: its data, its folder, and its settings as config.json keeps them."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from evonas.data import Dataset, resolve_data
from evonas.runs.folder import RunFolder
from evonas.search import refuse_another_run

__all__ = [
    "data_identity",
    "data_name",
    "refuse_another_method",
    "run_folder",
    "settings_as_json",
    "settings_from_json",
]

Settings = TypeVar("Settings")


def data_name(asked: str, root: Path | None, out: Path | None) -> tuple[str, str]:
    """The data set's name, and a line where it was chosen for the user: by the run in --out, or by what is there."""
    if asked == "auto" and out is not None:
        stored = RunFolder(out).stored()
        if stored:
            given, found = stored["settings"]["data"], stored["identity"]["data"]["name"]
            name = found if given == "auto" else given  # a file of one's own has its path there
            return name, f"data: {name}, as this run was started with"
    return resolve_data(asked, root)


def run_folder(out: Path | None, method: str, data: str, preset: str, seed: int) -> RunFolder:
    """The folder that was asked for, or runs/METHOD-DATA-PRESET-seedN; a file's DATA is its stem."""
    own = data.startswith("npz:") or data.endswith(".npz")
    label = f"npz-{Path(data.removeprefix('npz:')).stem}" if own else data
    return RunFolder(out or Path("runs") / f"{method}-{label}-{preset}-seed{seed}")


def refuse_another_method(folder: RunFolder, identity: Mapping[str, Any], method: str) -> None:
    """RunMismatchError where a folder holds the run of another method."""
    if identity:
        refuse_another_run(folder.journal, {"method": identity.get("method")}, {"method": method})


def data_identity(data: Dataset) -> dict[str, Any]:
    """What of a data set belongs to a run's identity, as plain values."""
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "n_classes": data.n_classes,
        "train": len(data.train),
        "validation": len(data.validation),
        "mean": list(data.mean),
        "deviation": list(data.deviation),
    }


def settings_as_json(settings: Any) -> dict[str, Any]:
    """Every setting of a dataclass as a plain value; a data root that another folder would miss is absolute."""
    values = asdict(settings)
    if settings.data_root is not None:
        values["data_root"] = settings.data_root.expanduser().absolute()
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def settings_from_json(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """A settings dataclass from what `settings_as_json` gave: parts, tuples and paths as they were."""
    hints = get_type_hints(kind)
    return kind(
        **{
            field.name: _read(hints[field.name], values[field.name])
            for field in fields(kind)  # type: ignore[arg-type]
            if field.name in values
        }
    )


def _read(hint: Any, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, Mapping) and is_dataclass(hint):
        return settings_from_json(hint, value)  # type: ignore[arg-type]
    return Path(value) if value is not None and hint == Path | None else value
