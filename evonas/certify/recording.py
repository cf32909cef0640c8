"""Record a network: one forward pass on tensors without values, which write down the operations applied to them."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from evonas.certify.graph import Box, Graph, GraphNode, Operation, Shape
from evonas.certify.joined import joined
from evonas.certify.rounding import cast
from evonas.errors import ConfigurationError

__all__ = [
    "Call",
    "Deferred",
    "Draft",
    "GraphRecorder",
    "Model",
    "Recorded",
    "in_eval_mode",
    "outside_inference_mode",
    "record",
    "refuse_inference_weights",
]

Model = Callable[[Tensor], Tensor]
"""(B, C, H, W) images -> (B, K) logits: a module or any function."""

BATCH = 2
"""Number of images in the recorded pass."""


@dataclass(frozen=True, eq=False)
class Deferred:
    """An operation with constants that are computed from the model's tensors.

    They are computed after the recorded pass, because torch records no gradients of them within it.
    """

    make: Callable[[], Operation]


class Draft(NamedTuple):
    """A node under construction."""

    shape: Shape
    operation: Operation | Deferred | None
    inputs: tuple[int, ...] = ()
    layer: str = ""


class _Memory:
    """Shared by all views of one tensor: counts its changes in place."""

    version = 0


class Recorded(torch.Tensor):
    """A tensor without values that stands for a node of the graph."""

    node: int
    recorder: "GraphRecorder"
    memory: _Memory
    version: int

    @staticmethod
    def __new__(
        cls, shape: Shape, dtype: torch.dtype, device: torch.device, recorder: "GraphRecorder", node: int
    ) -> "Recorded":
        made = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=device)
        made.recorder, made.node, made.memory, made.version = recorder, node, _Memory(), 0
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Recorded({tuple(self.shape)}, node {self.node})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        recorder = next(each.recorder for each in _flat((args, kwargs)) if isinstance(each, Recorded))
        return recorder.call(func, args, kwargs or {})


@dataclass(eq=False)
class Call:
    """A call of a torch operation with recorded tensors."""

    recorder: "GraphRecorder"
    name: str
    """Name of the operation, such as `convolution`."""
    arguments: dict[str, Any]
    """Name in torch's schema -> value, including defaults."""

    def unsupported(self, why: str = "") -> ConfigurationError:
        """The error for an operation without bounds; names the layer and the reason."""
        layer = self.recorder.layer
        where = f"layer {layer!r}" if layer else "the network"
        return ConfigurationError(
            f"expected operations that can be bounded, {where} has {self.name}{why and ': ' + why}; "
            "certify a network without it"
        )

    def node(self, value: Recorded) -> Draft:
        return self.recorder.nodes[value.node]

    def axis(self, value: Recorded, dim: int) -> int:
        """A dimension of a recorded tensor as a dimension of (N, *shape). An error for the batch dimension."""
        dim = dim % value.ndim
        if dim == 0:
            raise self.unsupported("it mixes images of a batch")
        return dim + self.merged(value)

    def merged(self, value: Recorded) -> int:
        """1 if the first dimension of a recorded tensor merges the batch with another dimension, else 0."""
        return int(len(self.node(value).shape) == value.ndim)

    def add(self, operation: Operation | Deferred, inputs: Sequence[Recorded], shape: Sequence[int]) -> Recorded:
        """Add a node of this shape (N, *shape); returns its recorded tensor."""
        numbers = tuple(self.recorder.current(each) for each in inputs)
        return self.recorder.made(operation, numbers, tuple(shape[1:]), inputs[0])


Rule = Callable[[Call], Any]


@dataclass(eq=False)
class GraphRecorder:
    """The nodes recorded so far, and the modules that are running.

    Values (N, *shape) of a node may be viewed as (N * first, *rest): views may merge the batch with the next dimension.
    """

    rules: dict[str, Rule]
    nodes: list[Draft] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    precision: torch.dtype | None = None
    """Precision of constants; None: that of the images."""

    def exactly(self, constant: Tensor) -> Tensor:
        """A constant in the precision in which constants are combined."""
        return constant if self.precision is None else constant.to(self.precision)

    @property
    def layer(self) -> str:
        return self.layers[-1] if self.layers else ""

    def current(self, value: Recorded) -> int:
        """The number of a tensor's node. An error if another view of it was changed since."""
        if value.version != value.memory.version:
            raise Call(self, "a change in place of a tensor that has other views", {}).unsupported()
        return value.node

    def made(
        self, operation: Operation | Deferred | None, inputs: tuple[int, ...], shape: Shape, like: Tensor
    ) -> Recorded:
        self.nodes.append(Draft(shape, operation, inputs, self.layer))
        return Recorded((BATCH, *shape), like.dtype, like.device, self, len(self.nodes) - 1)

    def view_of(self, value: Recorded, node: int, shape: Sequence[int]) -> Recorded:
        """A view of a recorded tensor: another node, the same memory."""
        view = Recorded(tuple(shape), value.dtype, value.device, self, node)
        view.memory, view.version = value.memory, value.version
        return view

    def call(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = func._schema.name.removeprefix("aten::")
        names = [argument.name for argument in func._schema.arguments]
        arguments = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
        arguments |= dict(zip(names, args, strict=False)) | kwargs
        in_place = name.endswith("_") and not name.endswith("__")
        call = Call(self, name.removesuffix("_") if in_place else name, arguments)
        rule = self.rules.get(call.name)
        if rule is None:
            raise call.unsupported()
        if any(argument.is_out for argument in func._schema.arguments):
            raise call.unsupported("it writes into an out= tensor")
        result = rule(call)
        if not in_place:
            return result
        target = arguments[names[0]]
        if not isinstance(target, Recorded) or target.shape != result.shape:
            raise call.unsupported("it writes into a tensor that does not depend on the images alone")
        target.memory.version += 1
        target.version, target.node = target.memory.version, result.node
        return target


def record(model: Model, images: Tensor, rules: dict[str, Rule], precision: torch.dtype | None = None) -> Graph:
    """The graph of a network for images of this shape, checked against the network's logits of the first image.

    Weights, and everything else that the network computes with, keep their gradients. A module is recorded in eval mode
    and restored afterwards. A function is called as it is.

    Args:
        precision: of the graph, in which weights and normalisations are combined; None: that of the images.
    Raises:
        ConfigurationError: an operation without a rule (the message names the layer), or different logits.
    """
    if images.ndim != 4 or not images.is_floating_point() or not len(images):
        raise ConfigurationError(
            f"expected (B, C, H, W) floating-point images, at least one, got {tuple(images.shape)} {images.dtype}"
        )
    if isinstance(model, nn.Module):
        weights = next((weight for weight in model.parameters() if weight.is_floating_point()), images)
        if weights.dtype != images.dtype:
            raise ConfigurationError(f"expected images of the network's {weights.dtype}, got {images.dtype}")
        if torch.is_grad_enabled():
            refuse_inference_weights(model)
    recorder = GraphRecorder(rules, precision=precision)
    seen = recorder.made(None, (), tuple(images.shape[1:]), images)
    with ExitStack() as stack:
        if isinstance(model, nn.Module):
            stack.enter_context(in_eval_mode(model))
            stack.enter_context(_named(model, recorder.layers))
        logits = model(seen)
    if not isinstance(logits, Recorded) or logits.ndim != 2 or len(logits) != BATCH:
        raise ConfigurationError(
            f"expected a network from images to (B, K) logits, got {getattr(logits, 'shape', type(logits).__name__)}"
        )
    graph = joined(_used(recorder.nodes, recorder.current(logits), precision))
    _check(graph, model, images[:1])
    return graph


def _check(graph: Graph, model: Model, image: Tensor) -> None:
    """ConfigurationError unless the recorded graph computes the network's logits of an image."""
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        if isinstance(model, nn.Module):
            stack.enter_context(in_eval_mode(model))
        expected = model(image.clone())  # the model may change it in place
        exact, boxes = image.to(graph.precision or image.dtype), list[Box]()
        for node in graph.nodes:
            read = [boxes[each] for each in node.inputs]
            boxes.append(Box(exact, exact) if node.operation is None else node.operation.interval(read))
    apart = (boxes[-1].middle - expected).abs().max() / (1 + expected.abs().max())
    if bool(apart > math.sqrt(torch.finfo(image.dtype).eps)):
        raise ConfigurationError(
            f"expected a network that can be recorded, but its record is {float(apart):.2g} off its logits; "
            "does it change tensors in place that it reads elsewhere, or compute with the size of the batch?"
        )


def _used(drafts: Sequence[Draft], last: int, precision: torch.dtype | None) -> Graph:
    """The graph of the nodes that the last one depends on and the images, renumbered, with deferred operations made."""
    wanted, open_ = {0, last}, [last]
    while open_:
        new = set(drafts[open_.pop()].inputs) - wanted
        wanted |= new
        open_ += new
    number = {old: new for new, old in enumerate(sorted(wanted))}
    nodes = []
    for old in number:
        shape, operation, inputs, layer = drafts[old]
        made = operation.make() if isinstance(operation, Deferred) else operation
        made = made if precision is None else cast(made, precision)
        nodes.append(GraphNode(shape, made, tuple(number[each] for each in inputs), layer))
    return Graph(tuple(nodes), precision)


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Context, and decorator, without torch.inference_mode(), in which operations cannot be recorded.

    Where the caller is in that mode, gradients stay disabled.
    """
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


def refuse_inference_weights(model: nn.Module) -> None:
    """ConfigurationError where a parameter was made under torch.inference_mode(): torch differentiates through none."""
    for name, weight in model.named_parameters():
        if weight.is_inference():
            raise ConfigurationError(
                f"expected weights made outside torch.inference_mode(), got {name} made in it; "
                "build or load the network outside"
            )


@contextmanager
def in_eval_mode(model: nn.Module) -> Any:
    """Context in which every module is in eval mode; each module's mode is restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _named(model: nn.Module, layers: list[str]) -> Any:
    """Context that keeps the names of the running modules in `layers`, innermost last."""
    handles = []
    for name, module in model.named_modules():

        def enter(*_: Any, name: str = name) -> None:
            layers.append(name)

        def leave(*_: Any) -> None:
            layers.pop()

        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _flat(value: Any) -> Any:
    """All leaves of nested lists, tuples and dicts."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        yield value
        return
    for each in value:
        yield from _flat(each)
