"""ONNX files: one file with all weights, a dynamic batch, and what it takes in its metadata."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evonas.ship.format import Format, Sent, example_of

__all__ = ["INPUT", "ONNX", "OPSET", "OUTPUT", "OnnxNetwork", "described"]

OPSET = 18
"""Version of ONNX's operators; runtimes since 2023 have it."""

INPUT, OUTPUT = "images", "logits"


class OnnxNetwork(nn.Module):
    """The network in an ONNX file, run by onnxruntime on the CPU; without gradients.

    Args:
        model: the bytes of the file.
        threads: of one pass.
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        import onnxruntime

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 3  # errors alone
        self.session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float32 images in [0, 1] -> (B, K) logits."""
        (logits,) = self.session.run([OUTPUT], {INPUT: images.detach().contiguous().numpy()})
        return torch.from_numpy(logits)


def described(model: Any, about: Mapping[str, str]) -> bytes:
    """The bytes of an `onnx.ModelProto`, with these lines in its metadata and on its input."""
    import onnx

    onnx.helper.set_model_props(model, {str(name): str(value) for name, value in about.items()})
    model.producer_name, model.doc_string = "evonas", about.get("network", "")
    for node in (*model.graph.node, *(each for function in model.functions for each in function.node)):
        del node.metadata_props[:]  # files and lines of this machine
    model.graph.input[0].doc_string = f"{about['input_layout']}, values in {about['value_range']}"
    written: bytes = model.SerializeToString()
    return written


def _write(sent: Sent) -> bytes:
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program = torch.onnx.export(
            sent.plain(),
            (example_of(sent),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: batch},),
            verbose=False,
        )
    assert program is not None
    return described(program.model_proto, {**sent.about, "opset": str(OPSET)})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context without the exporter's remarks on its own work."""
    logger = logging.getLogger("onnxscript.optimizer")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    finally:
        logger.setLevel(before)


ONNX = Format(
    "ONNX",
    _write,
    OnnxNetwork,
    f"one file with all weights, opset {OPSET}, any batch",
    ("onnx", "onnxruntime", "onnxscript"),
    "onnx",
)
