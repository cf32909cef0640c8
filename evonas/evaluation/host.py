"""Care of a worker for its machine: memory of devices, and the versions of the driver."""

from dataclasses import dataclass

import torch

from evonas._version import version_of
from evonas.devices import settle
from evonas.errors import ConfigurationError

__all__ = ["TorchHost", "out_of_memory"]

TEXTS_OF_MEMORY_ERRORS = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Texts of plain RuntimeErrors by which torch says that memory is used up."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine or of its device is used up."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in TEXTS_OF_MEMORY_ERRORS)


@dataclass(frozen=True)
class TorchHost:
    """Settles a worker's device, caps its memory, gives it back after every attempt, and refuses other versions.

    Args:
        device: device of the evaluations. `cuda` without a number spreads workers over the devices their process sees.
        versions: (package, version) pairs of the driver; another version rounds differently.
    """

    device: str = "cpu"
    versions: tuple[tuple[str, str], ...] = ()

    def prepare(self, place: int, share: float) -> None:
        """ConfigurationError if versions differ, or there is no device."""
        for package, expected in self.versions:
            found = version_of(package)
            if found != expected:
                raise ConfigurationError(f"expected {package} {expected}, as the driver has, got {found} on a worker")
        device = torch.device(self.device)
        if device.type != "cuda":
            return
        if not torch.cuda.is_available():
            raise ConfigurationError("expected a CUDA device in the worker, torch sees none there")
        settle(device if device.index is not None else torch.device("cuda", place % torch.cuda.device_count()))
        torch.cuda.set_per_process_memory_fraction(share)

    def release(self) -> None:
        if torch.device(self.device).type == "cuda" and torch.cuda.is_available():
            torch.cuda.synchronize()  # raises where an evaluation has broken the device for this process
            torch.cuda.empty_cache()

    def out_of_memory(self, error: BaseException) -> bool:
        return out_of_memory(error)
