"""What tests of several rooms call."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from evonas.executors import Job, LocalExecutor

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


def randomised(network: Part, seed: int = 0) -> Part:
    """In eval mode, with weights and statistics such that no part is idle and signals keep their size."""
    generator = rng(seed)
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, generator=generator)
            if part.bias is not None:
                nn.init.normal_(part.bias, std=0.3, generator=generator)
        elif isinstance(part, nn.BatchNorm2d):
            for value, low, high in (
                (part.weight, 0.5, 1.5),
                (part.bias, -0.5, 0.5),
                (part.running_mean, -0.5, 0.5),
                (part.running_var, 0.5, 2.0),
            ):
                assert isinstance(value, Tensor)
                nn.init.uniform_(value, low, high, generator=generator)
    return network.eval()


class Trap:
    """Says so when it is unpickled."""

    sprung = False

    @classmethod
    def spring(cls) -> "Trap":
        cls.sprung = True
        return cls()

    def __reduce__(self) -> tuple[Callable[[], "Trap"], tuple[()]]:
        return Trap.spring, ()


def applied(source: str, diff: str) -> str:
    """A source after a diff, whose hunks have blank lines between them. Each must fit one place."""
    for hunk in diff.strip("\n").split("\n\n"):
        before, after = (
            "".join(f"{line[1:]}\n" for line in hunk.splitlines() if line[0] in signs) for signs in (" -", " +")
        )
        assert source.count(before) == 1, f"the file has changed, and has no place for\n{hunk}"
        source = source.replace(before, after)
    return source


class KeepingExecutor(LocalExecutor):
    """Remembers the jobs, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []
        self.closed = 0

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        super().submit(job)

    def close(self) -> None:
        self.closed += 1
        super().close()
