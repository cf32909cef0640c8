"""Studies: grids of runs (methods x settings x data x seeds), and a paper's tables and figures from what is finished.

A study is a file with a `STUDY`, and a line in `STUDIES`. Each of its runs is an ordinary run in a folder of its own.
"""

from typing import TYPE_CHECKING

from evonas.lazy import Table

if TYPE_CHECKING:
    from evonas.studies.study import Study

__all__ = ["STUDIES"]

STUDIES: "Table[Study]" = Table(
    {
        "capacity": "evonas.studies.capacity:STUDY",
        "darts": "evonas.studies.darts:STUDY",
        "dsrna": "evonas.studies.dsrna:STUDY",
        "e2rnas-v1": "evonas.studies.e2rnas_v1:STUDY",
        "e2rnas-v2": "evonas.studies.e2rnas_v2:STUDY",
        "guidelines": "evonas.studies.guidelines:STUDY",
        "joint": "evonas.studies.joint:STUDY",
        "proxies": "evonas.studies.proxies:STUDY",
        "roco": "evonas.studies.roco:STUDY",
        "supernet": "evonas.studies.supernet:STUDY",
        "tam": "evonas.studies.tam:STUDY",
    }
)
"""Name on the command line -> study."""
