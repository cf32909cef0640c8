"""Cells that a search has found, trained and scored on ImageNet (DARTS; E2RNAS v2, Table V).

    python experiments/imagenet_cells.py --cells DARTS_V2                       # quick: a look
    python experiments/imagenet_cells.py --cells DARTS_V2 --preset paper        # 250 epochs: days on a GPU
    python experiments/imagenet_cells.py --cells runs/.../genotype.json --data-root /data --test-limit 5000
    python experiments/imagenet_cells.py --help

The images are in ROOT/imagenet/train/CLASS/ and ROOT/imagenet/val/CLASS/. The same command continues a run that was
stopped, however it was stopped. `evonas imagenet` gives the same run.
"""

from __future__ import annotations

import sys
from typing import Any

from evonas import runs
from evonas.methods.imagenet import (
    PRESETS,
    ImagenetOptions,
    begin_folder,
    image_reader,
    load_images,
    load_ood,
    resolved_plan,
    score_cells,
    train_cells,
)
from evonas.methods.imagenet_cells import ImagenetCells, cells_label, read_cells
from evonas.methods.imagenet_scores import attacked_files


def main(options: ImagenetOptions) -> dict[str, Any]:
    genotype = read_cells(options.cells)
    with runs.Run.open("imagenet-cells", options.of_run, "imagenet", cells_label(options.cells), alone=True) as run:
        data = load_images(options)
        attacked = attacked_files(data, options.test_limit, options.pgd, options.seed)
        attacks = options.attacks
        ood = load_ood(run, options, data)
        read = image_reader(run, options)
        cells = ImagenetCells(options.cells, genotype, resolved_plan(run, options.plan), data, options.seed)
        begin_folder(run, options, cells)
        network = train_cells(run, cells, read(data.train))
        images = read(data.test), read(attacked)
        return score_cells(run, cells, network, *images, ood and (ood, read(ood.own)), attacks)


if __name__ == "__main__":
    sys.exit(runs.command(main, PRESETS))
