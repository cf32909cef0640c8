"""Networks: plain modules from images in [0, 1] to logits, independent of genomes."""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.networks.darts import DartsNetwork
    from evonas.networks.darts_genotypes import GENOTYPES, Genotype
    from evonas.networks.handmade import HANDMADE, MobileNetV3, ResNet18, ShuffleNetV2
    from evonas.networks.nasbench201 import NasBench201Network
    from evonas.networks.phase import PhaseNetwork
    from evonas.networks.phase_plan import PhaseGraph
    from evonas.networks.shuffle import ShuffleNetwork
    from evonas.networks.shuffle_plan import BLOCKS, ShufflePlan
    from evonas.networks.shuffle_supernet import ShuffleSupernet
    from evonas.networks.victim_plan import VICTIMS
    from evonas.networks.victims import VGG16, DenseNet, LeNet, ResNet

__all__ = [
    "BLOCKS",
    "GENOTYPES",
    "HANDMADE",
    "VGG16",
    "VICTIMS",
    "DartsNetwork",
    "DenseNet",
    "Genotype",
    "LeNet",
    "MobileNetV3",
    "NasBench201Network",
    "PhaseGraph",
    "PhaseNetwork",
    "ResNet",
    "ResNet18",
    "ShuffleNetV2",
    "ShuffleNetwork",
    "ShufflePlan",
    "ShuffleSupernet",
]

import_lazily(__name__)
