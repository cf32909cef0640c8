"""A format of exported networks, chosen by the suffix of the file; the libraries that it needs."""

import importlib.util
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from evonas.errors import ConfigurationError

__all__ = ["LARGEST_BATCH", "Format", "Sent", "example_of", "format_of", "require_extra"]

LARGEST_BATCH = 128
"""Images that formats with a bounded batch take at once."""


@dataclass(frozen=True)
class Sent:
    """A network that leaves, and what its file says about itself.

    Args:
        network: (B, 3, H, W) images in [0, 1] to (B, K) logits.
        image_size: H and W.
        about: name -> text.
    """

    network: nn.Module
    image_size: int
    about: Mapping[str, str]

    def plain(self) -> nn.Module:
        """A copy in eval mode on the CPU, its weights laid out in the default order."""
        return deepcopy(self.network).cpu().to(memory_format=torch.contiguous_format).eval().requires_grad_(False)


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Args:
        write: the bytes of the file.
        read: the network in these bytes, from (B, 3, H, W) float32 images in [0, 1] to (B, K) logits.
        note: one line on the file.
        needs: packages, all of them in the extra.
    """

    name: str
    write: Callable[[Sent], bytes]
    read: Callable[[bytes], nn.Module]
    note: str
    needs: tuple[str, ...] = ()
    extra: str = ""


def format_of(path: Path) -> Format:
    """The format that the suffix of a file says.

    Raises:
        ConfigurationError: no format has it, or a library of the format is not installed.
    """
    from evonas.ship import EXPORTS

    if path.suffix not in EXPORTS:
        raise ConfigurationError(f"expected a file that ends with {', '.join(EXPORTS)} for --to, got {path}")
    found = EXPORTS[path.suffix]
    require_extra(f"--to {path}", found.extra, *found.needs)
    return found


def require_extra(use: str, extra: str, *packages: str) -> None:
    """ConfigurationError, in one line, where packages of an extra are not installed.

    Args:
        use: needs them, for the message.
    """
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigurationError(
            f"expected {', '.join(absent)} for {use}, not installed here; pip install 'evonas[{extra}]'"
        )


def example_of(sent: Sent, images: int = 2) -> Tensor:
    """Images of which exporters take the shape, two at least: one would be taken for a fixed batch."""
    return torch.full((images, 3, sent.image_size, sent.image_size), 0.5)
