"""A network of a run as a file for other programs: written, checked, compared, with its card."""

from __future__ import annotations

import hashlib
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
    from evonas.ship import Format, Rival
    from evonas.ship.settings import ExportSettings

__all__ = ["Export", "check_target"]

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Export:
    """One network on its way into a file."""

    result: Result
    entry: Entry
    network: nn.Module
    weights: str
    """`search`, `audit`, or the name of a training."""
    to: Path
    settings: ExportSettings

    def __call__(self, say: Say = print) -> list[Path]:
        """Write the files and the card; nothing is written where the check fails.

        Args:
            say: gets one line for each stage.
        Returns:
            The files.
        """
        from evonas.runs.carding import make_card
        from evonas.ship import Sent, card_page, check_export, labelled_images

        kind = check_target(self.to, self.settings.int8)
        data: Dataset = self.result.evaluator.prepare.data
        images, labels = labelled_images(data.test, self.settings.images, data.n_classes, "export test")
        network = self.network.cpu()
        sent = Sent(network, data.image_size, self._about(data))
        say(f"{self.entry.key}: writing {self.to} ({kind.name}: {kind.note})")
        files = {self.to: kind.write(sent)}
        agreement = check_export(network, kind.read(files[self.to]), images, str(self.to))
        say(f"checked on {agreement}")
        found: Mapping[str, Rival] = {}
        if self.settings.int8:
            files[self.int8_file], found = self._int8(sent, files[self.to], data, (images, labels), say)
        for path, content in files.items():
            replace_file(path, lambda file, content=content: file.write(content))
        card = make_card(self, data, files, agreement, found, _error(network, images, labels))
        pages = self.to.with_suffix(".card.md"), self.to.with_suffix(".card.json")
        text = card_page(card).encode()
        replace_file(pages[0], lambda file: file.write(text))
        write_json(pages[1], card.as_json())
        for path in (*files, *pages):
            say(f"wrote {path}, {path.stat().st_size:,} bytes")
        return [*files, *pages]

    @property
    def int8_file(self) -> Path:
        return self.to.with_suffix(f".int8{self.to.suffix}")

    def _int8(
        self, sent: Any, model: bytes, data: Dataset, tested: tuple[Tensor, Tensor], say: Say
    ) -> tuple[bytes, dict[str, Rival]]:
        """The int8 file, and both networks' errors and latencies."""
        from evonas.ship import labelled_images, quantised, rivals

        wanted = self.settings
        given, _ = labelled_images(data.train, wanted.calibration_images, data.n_classes, "export calibration")
        say(f"quantising to {self.int8_file}: {len(given)} images of the train part give the ranges")
        int8 = quantised(model, given, sent.about)
        attacked = min(wanted.attacked_images, len(tested[0]))
        say(f"attacking both on {attacked} images: PGD made against float32, and {wanted.queries} black-box queries")
        models = {"float32": model, "int8": int8}
        found = rivals(sent.network, models, *tested, attacked, wanted.epsilon, wanted.queries)
        for line in compared(found, len(tested[0]), attacked):
            say(line)
        return int8, found

    def _about(self, data: Dataset) -> dict[str, str]:
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


def compared(found: Mapping[str, Rival], images: int, attacked: int) -> Sequence[str]:
    """Lines that set float32 and int8 side by side."""
    rows = {
        f"accuracy, clean, {images} images": [f"{1 - each.clean_error:.1%}" for each in found.values()],
        f"accuracy, PGD on float32, {attacked} images": [f"{1 - each.pgd_error:.1%}" for each in found.values()],
        f"accuracy, black-box squares, {attacked} images": [f"{1 - each.square_error:.1%}" for each in found.values()],
        "size, bytes": [f"{each.bytes:,}" for each in found.values()],
        "median ms, batch 1, 1 thread": [f"{each.milliseconds:.3f}" for each in found.values()],
    }
    wide = max(map(len, rows))
    return [
        f"{name:{wide}}{''.join(f'{cell:>12}' for cell in cells)}" for name, cells in {"": [*found], **rows}.items()
    ]


def _error(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    from evonas.ship.checking import answers

    return float((answers(network, images, 128).argmax(1) != labels).double().mean())


def file_row(path: Path, content: bytes, kind: str) -> dict[str, Any]:
    """A file's row on the card."""
    return {"name": path.name, "format": kind, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
