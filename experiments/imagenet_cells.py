"""Cells that a search has found, trained and scored on ImageNet (DARTS; E2RNAS v2, Table V).

    python experiments/imagenet_cells.py --cells DARTS_V2                       # quick: a look
    python experiments/imagenet_cells.py --cells DARTS_V2 --preset paper        # 250 epochs: days on a GPU
    python experiments/imagenet_cells.py --cells runs/.../genotype.json --data-root /data --test-limit 5000
    python experiments/imagenet_cells.py --help

The images are in ROOT/imagenet/train/CLASS/ and ROOT/imagenet/val/CLASS/. The same command continues a run that was
stopped, however it was stopped.
"""

import sys

from evonas.methods.imagenet import PRESETS, run
from evonas.runs import command

if __name__ == "__main__":
    sys.exit(command(run, PRESETS))
