"""evonas searches neural networks that are accurate, small and hard to fool, and gives the whole trade-off front."""

import os
from importlib import import_module
from typing import Any

from evonas._version import __version__

__all__ = ["AuditPlan", "Run", "__version__", "audit_run", "load_network", "open_run", "run_search"]

# Threads that wait for each other by spinning for long make training many times slower as soon as another process
# wants a processor, too. Read when torch loads its OpenMP runtime; results do not depend on it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_LAZY = {
    "AuditPlan": "evonas.methods.stored_audit",
    "Run": "evonas.runs",
    "audit_run": "evonas.methods.stored_audit",
    "load_network": "evonas.methods.stored",
    "open_run": "evonas.methods.stored",
    "run_search": "evonas.runs",
}
"""Name -> room that has it; imported when it is used, so that `import evonas` stays fast."""


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'evonas' has no attribute {name!r}")
