"""Workers and their machine: versions, devices, memory that is used up."""

import pickle
from importlib import metadata
from typing import Any

import numpy as np
import pytest
import torch

from evonas.errors import ConfigurationError
from evonas.evaluation import Evaluator, TorchHost, out_of_memory


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_memory_that_is_used_up_is_told_apart(error: BaseException, full: bool) -> None:
    assert out_of_memory(error) == full
    assert TorchHost().out_of_memory(error) == full


def test_torch_itself_says_so() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**62, dtype=torch.uint8)
    assert out_of_memory(raised.value)


def test_other_versions_are_refused() -> None:
    same = tuple((name, metadata.version(name)) for name in ("torch", "numpy"))
    host = pickle.loads(pickle.dumps(TorchHost("cpu", same)))
    assert host == TorchHost("cpu", same)
    host.prepare(0, 0.25)
    host.release()
    other = TorchHost("cpu", (*same[:1], ("numpy", "0.1")))
    with pytest.raises(ConfigurationError, match=r"expected numpy 0\.1, as the driver has, got .* on a worker"):
        other.prepare(0, 1.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_device_that_is_not_there_is_no_evaluations_fault() -> None:
    with pytest.raises(ConfigurationError, match="expected a CUDA device in the worker, torch sees none"):
        TorchHost("cuda").prepare(0, 1.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_share_of_a_device_is_a_limit() -> None:
    host = TorchHost("cuda")
    host.prepare(0, 0.01)
    try:
        total = torch.cuda.get_device_properties(0).total_memory
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(int(total * 0.02), dtype=torch.uint8, device="cuda")
    finally:
        host.release()
        host.prepare(0, 1.0)


class Failing:
    """Gives every candidate the same error."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.data: Any = None
        self.space: Any = None
        self.normalization = self.epochs = None

    def identity(self) -> dict[str, Any]:
        return {}

    def start(self) -> Any:
        def prepare(genome: Any, seed: int, report: Any) -> Any:
            raise self.error

        return prepare


def test_the_evaluator_leaves_memory_to_the_executor() -> None:
    threads = torch.get_num_threads()
    genome = np.zeros(3, dtype=np.int64)
    failed = Evaluator(Failing(ValueError("bad luck")), (), threads).make_evaluate(lambda progress: None)(genome, 1)
    assert failed.reason == "ValueError: bad luck"
    with pytest.raises(torch.OutOfMemoryError):
        Evaluator(Failing(torch.OutOfMemoryError("full")), (), threads).make_evaluate(lambda progress: None)(genome, 1)
