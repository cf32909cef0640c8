"""Seeds derived from the purpose of a random number, independent of time, machine and order."""

import hashlib

import numpy as np

__all__ = ["derive_seed", "generator"]


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2^63) for a purpose, e.g. `derive_seed(run_seed, "evaluation", arch_id)`.

    SHA-256 over the parts: equal parts give equal seeds on every machine, different parts unrelated ones.
    """
    text = "\x1f".join(f"str:{part}" if isinstance(part, str) else f"int:{int(part)}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: int | str) -> np.random.Generator:
    """A NumPy generator for a purpose; see `derive_seed`."""
    return np.random.default_rng(derive_seed(*parts))
