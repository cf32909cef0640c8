"""What the tests of the audit share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """A training sets the threads of its process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
