"""The layers of a network: calls of torch's operators, each with the shapes that it gets."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from evonas.costs import evaluating

__all__ = ["Call", "layers_of"]


@dataclass(frozen=True, eq=False)
class Call:
    """An operator and its arguments, tensors without their values."""

    operator: Any
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]

    def filled(self) -> "Call":
        """The same call with random tensors on the CPU, which can be run."""
        return Call(self.operator, tree_map(_random, self.arguments), tree_map(_random, dict(self.named)))

    def __call__(self) -> object:
        return self.operator(*self.arguments, **self.named)


def layers_of(
    network: nn.Module, image_size: int, calls: dict[str, Call] | None = None, channels: int = 3
) -> Counter[str]:
    """Layer -> how often a forward pass of one image calls it: operator, shapes, settings, in one line of text.

    Views, which move no data, are no layers. Equal text means equal work. A layer here is what takes
    time: an operator, also of an addition that no module names; `evonas.costs.layer_costs` lists modules, with their
    parameters and multiply-adds.

    Args:
        network: on the CPU, for square images of three channels, or a part of one for maps of `channels`.
        image_size: height and width of the images, or maps.
        calls: gets every layer's call that it has not yet.
    """
    recorder, image = _Recorder(), torch.zeros(1, channels, image_size, image_size)
    with evaluating(network), torch.inference_mode(), recorder:
        network(image)
    if calls is not None:
        for name, call in recorder.calls.items():
            calls.setdefault(name, call)
    return recorder.counts


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()
        self.calls: dict[str, Call] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            described = [*map(_text, args), *(f"{name}={_text(value)}" for name, value in (kwargs or {}).items())]
            name = f"{func}({', '.join(described)})"
            self.counts[name] += 1
            if name not in self.calls:
                self.calls[name] = Call(func, tree_map(_shape, args), tree_map(_shape, kwargs or {}))
        return func(*args, **(kwargs or {}))


def _text(value: Any) -> str:
    if isinstance(value, Tensor):
        strides = "" if value.is_contiguous() else f":{','.join(map(str, value.stride()))}"
        return f"{'x'.join(map(str, value.shape))}{strides}"
    return f"[{', '.join(map(_text, value))}]" if isinstance(value, list | tuple) else str(value)


def _shape(value: Any) -> Any:
    """A tensor without its values; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def _random(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    made = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
    return made.copy_(torch.linspace(0.01, 1, value.numel()).view(value.shape)) if made.is_floating_point() else made
