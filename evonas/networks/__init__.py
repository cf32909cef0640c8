"""Networks: plain modules from images in [0, 1] to logits, independent of genomes."""

from evonas.networks.darts import GENOTYPES, DartsNetwork, Genotype
from evonas.networks.handmade import HANDMADE, MobileNetV3, ResNet18, ShuffleNetV2
from evonas.networks.phase import PhaseGraph, PhaseNetwork
from evonas.networks.shuffle import BLOCKS, ShuffleNetwork, ShufflePlan
from evonas.networks.shuffle_supernet import ShuffleSupernet
from evonas.networks.victims import VGG16, VICTIMS, DenseNet, LeNet, ResNet

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
    "PhaseGraph",
    "PhaseNetwork",
    "ResNet",
    "ResNet18",
    "ShuffleNetV2",
    "ShuffleNetwork",
    "ShufflePlan",
    "ShuffleSupernet",
]
