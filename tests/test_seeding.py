"""Seeds follow from what is computed."""

import hashlib
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evonas.seeding import derive_seed, generator

Parts = st.lists(st.integers() | st.text(alphabet="ab1 :", max_size=3), max_size=3)


def test_seed_is_sha256_of_typed_parts() -> None:
    digest = hashlib.sha256(b"int:7\x1fstr:evaluation").digest()
    assert derive_seed(7, "evaluation") == int.from_bytes(digest[:8], "big") >> 1


def test_seed_is_the_same_in_another_process() -> None:
    code = "from evonas.seeding import derive_seed; print(derive_seed(7, 'evaluation', 'ab'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == derive_seed(7, "evaluation", "ab")


@given(Parts)
def test_seed_fits_every_generator(parts: list[int | str]) -> None:
    assert 0 <= derive_seed(*parts) < 2**63


@given(Parts, Parts)
def test_unequal_parts_give_unequal_seeds(a: list[int | str], b: list[int | str]) -> None:
    assert (derive_seed(*a) == derive_seed(*b)) == (a == b)


def test_parts_do_not_run_together() -> None:
    seeds = {derive_seed(1, 23), derive_seed(12, 3), derive_seed(123), derive_seed("123"), derive_seed("1", "23")}
    assert len(seeds) == 5


def test_generator_depends_on_its_parts_alone() -> None:
    np.random.seed(0)  # noqa: NPY002  the global generator plays no part
    first = generator(3, "first population").integers(1000, size=8)
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(generator(3, "first population").integers(1000, size=8), first)
    assert not np.array_equal(generator(4, "first population").integers(1000, size=8), first)


def test_numpy_integers_are_the_integers_they_hold() -> None:
    assert derive_seed(np.int64(3), "x") == derive_seed(3, "x")  # type: ignore[arg-type]
    assert derive_seed(3) != derive_seed("3")
