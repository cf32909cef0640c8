"""torch.export's files, which torch runs without the network's Python code."""

import io
import json

import torch
from torch import nn

from evonas.ship.format import Format, Sent, example_of

__all__ = ["PT2"]

ABOUT = "evonas.json"
"""Name of the description inside the file."""


def _write(sent: Sent) -> bytes:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(sent.plain(), (example_of(sent),), dynamic_shapes=({0: batch},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # files and lines of this machine
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={ABOUT: json.dumps(dict(sent.about))})
    return file.getvalue()


def _read(data: bytes) -> nn.Module:
    """The network in bytes that `_write` gave."""
    found: nn.Module = torch.export.load(io.BytesIO(data)).module()
    return found


PT2 = Format("torch.export", _write, _read, "a program, any batch; torch.export.load reads it")
