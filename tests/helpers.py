"""What tests of several rooms call."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Part = TypeVar("Part", bound=nn.Module)


def part_of(network: nn.Module, name: str, kind: type[Part]) -> Part:
    """The submodule of this name, which must be of this kind."""
    found = network.get_submodule(name)
    assert isinstance(found, kind)
    return found


def rng(seed: int = 0, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def same(a: Any, b: Any) -> bool:
    """Equality of dictionaries, lists and tuples that hold tensors."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)
