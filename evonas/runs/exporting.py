"""A network of a run as a file for other programs: written, checked, compared, with its card."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evonas.errors import ConfigurationError
from evonas.files import replace_file, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evonas.data import Dataset
    from evonas.runs.result import Result
    from evonas.search import Entry
    from evonas.ship import Format, Parity, Rival
    from evonas.ship.settings import ExportSettings

__all__ = ["Findings", "NetworkExport", "check_target"]

Say = Callable[[str], object]


def check_target(to: Path, int8: bool) -> Format:
    """The format of a file that is to be written.

    Raises:
        ConfigurationError: there is no such format, a library is missing, or it has no int8.
    """
    from evonas.ship import format_of

    if int8 and to.suffix != ".onnx":
        raise ConfigurationError(f"expected a file that ends with .onnx for --int8, got {to}")
    return format_of(to)


@dataclass(frozen=True)
class Findings:
    """Findings about files that were made."""

    parity: Parity
    clean_error: float
    """Share of the checked images that the network gets wrong."""
    rivals: Mapping[str, Rival]
    """float32 and int8, where they were compared."""
    milliseconds: Mapping[str, float]
    """Median of a pass of one image through onnxruntime, of ONNX files."""
    calibrated: int = 0
    """Images that gave the int8 network its ranges."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkExport:
    """One network on its way into a file."""

    result: Result
    entry: Entry
    network: nn.Module
    weights: str
    """`search`, `audit`, or the name of a training."""
    to: Path
    settings: ExportSettings
    training: Mapping[str, Any] | None = None
    """Settings of the training to the end, for the card; None: those that the run or the weights' file states."""

    def __call__(self, say: Say = print) -> list[Path]:
        """Write the files and the card; nothing is written where the check fails.

        Args:
            say: gets one line for each stage.
        Returns:
            The files.
        """
        from evonas.runs.screen import screen_width
        from evonas.ship import Sent, check_export, labelled_images

        kind = check_target(self.to, self.settings.int8)
        data: Dataset = self.result.evaluator.prepare.data
        images, labels = labelled_images(data.test, self.settings.images, data.n_classes, "export test")
        network = self.network.cpu()
        sent = Sent(network, data.image_size, self.about(data))
        say(f"{self.entry.key}: writing {self.to} ({kind.name}: {kind.note})")
        model = kind.write(sent)
        parity = check_export(network, kind.read(model), images, str(self.to))
        say(f"checked on {parity}")
        files = {"float32": model}
        found: dict[str, Rival] = {}
        calibrated = 0
        if self.settings.int8:
            files["int8"], found, calibrated = self._int8(sent, model, data, (images, labels), say)
        clean = _error(network, images, labels)
        measured = Findings(parity, clean, found, self._latencies(files, images[:1]), calibrated)
        attacked = min(self.settings.attacked_images, len(images))
        for line in compared(measured, files, attacked, screen_width()):
            say(line)
        return self._written(files, data, measured, say)

    def _written(self, files: Mapping[str, bytes], data: Dataset, measured: Findings, say: Say) -> list[Path]:
        """Write the files, and their card in the end."""
        from evonas.runs.export_card import make_card
        from evonas.ship import card_page

        named = {self.to if name == "float32" else self.int8_file: content for name, content in files.items()}
        card = make_card(self, data, named, measured)
        page, stored = self.to.with_suffix(".card.md"), self.to.with_suffix(".card.json")
        for path, content in {**named, page: card_page(card).encode()}.items():
            replace_file(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
        write_json(stored, card.as_json())
        for path in (*named, page, stored):
            say(f"wrote {path}, {path.stat().st_size:,} bytes")
        return [*named, page, stored]

    def _latencies(self, files: Mapping[str, bytes], image: Tensor) -> dict[str, float]:
        """Median milliseconds of an image, of ONNX files."""
        from evonas.ship import median_latencies

        return median_latencies(files, image) if self.to.suffix == ".onnx" else {}

    @property
    def int8_file(self) -> Path:
        return self.to.with_suffix(f".int8{self.to.suffix}")

    def _int8(
        self, sent: Any, model: bytes, data: Dataset, tested: tuple[Tensor, Tensor], say: Say
    ) -> tuple[bytes, dict[str, Rival], int]:
        """The int8 file, both networks' errors, and the number of images that gave the ranges."""
        from evonas.ship import labelled_images, quantised, rivals

        wanted = self.settings
        given, _ = labelled_images(data.train, wanted.calibration_images, data.n_classes, "export calibration")
        say(f"quantising to {self.int8_file}: {len(given)} images of the train part give the ranges")
        int8 = quantised(model, given, sent.about)
        attacked = min(wanted.attacked_images, len(tested[0]))
        say(f"attacking both on {attacked} images: PGD made against float32, and {wanted.queries} black-box queries")
        models = {"float32": model, "int8": int8}
        return int8, rivals(sent.network, models, *tested, attacked, wanted.epsilon, wanted.queries), len(given)

    def about(self, data: Dataset) -> dict[str, str]:
        """Lines for the metadata of the file."""
        from evonas._version import __version__

        mean, deviation = (", ".join(f"{value:g}" for value in values) for values in data.normalization)
        size = data.image_size
        return {
            "network": f"{self.entry.key} of {self.result.path.resolve().name}, found with evonas {__version__}",
            "arch_id": self.entry.key,
            "genome": " ".join(map(str, self.entry.result.genome)),
            "space": str(self.result.space.name),
            "weights": self.weights,
            "data": f"{data.name}, fingerprint {data.fingerprint}",
            "input_name": "images",
            "input_shape": f"batch, 3, {size}, {size}",
            "input_layout": "float32 RGB images, batch x channels x rows x columns",
            "value_range": "[0, 1]",
            "normalization": normalization(self.network, mean, deviation),
            "output_name": "logits",
            "classes": str(data.n_classes),
            "evonas": __version__,
        }


def normalization(network: nn.Module, mean: str, deviation: str) -> str:
    """How the network normalises its images, in a line."""
    from evonas.networks.blocks import Normalize

    if any(isinstance(each, Normalize) for each in network.modules()):
        return f"Inside, its first layer: mean {mean}, deviation {deviation}. Do not normalise before."
    return "None: the network takes the images as they are. Do not normalise before."


def compared(measured: Findings, files: Mapping[str, bytes], attacked: int, width: int = 80) -> Sequence[str]:
    """Lines of at most `width` characters that set the files side by side."""
    found, images = measured.rivals, measured.parity.images
    clean = [each.clean_error for each in found.values()] or [measured.clean_error]
    rows = {
        f"accuracy, clean, {images} images": [f"{1 - each:.1%}" for each in clean],
        f"accuracy, PGD on float32, {attacked} images": [f"{1 - each.pgd_error:.1%}" for each in found.values()],
        f"accuracy, black-box squares, {attacked} images": [f"{1 - each.square_error:.1%}" for each in found.values()],
        "size, bytes": [f"{len(each):,}" for each in files.values()],
        "median ms, batch 1, 1 thread": [f"{each:.3f}" for each in measured.milliseconds.values()],
    }
    wide = min(max(map(len, rows)), max(12, width - 12 * len(files)))
    lines = []
    for name, cells in {"": [*files], **rows}.items():
        first, *more = textwrap.wrap(name, wide, break_on_hyphens=False) or [""]
        if cells:
            lines += [f"{first:{wide}}{''.join(f'{cell:>12}' for cell in cells)}", *more]
    return lines


def _error(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    from evonas.ship.checking import answers

    return float((answers(network, images, 128).argmax(1) != labels).double().mean())


def file_row(path: Path, content: bytes, kind: str) -> dict[str, Any]:
    """A file's row on the card."""
    return {"name": path.name, "format": kind, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
