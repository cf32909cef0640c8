"""Data sets as four disjoint parts of uint8 images. A new one is a file here and a line in `DATA_SETS`."""

from evonas.data.batches import Augmentation, DeviceData, DevicePart, batches, training_batches
from evonas.data.dataset import Dataset, Part
from evonas.data.loader import DATA_SETS, data_root, load_data, resolve_data

__all__ = [
    "DATA_SETS",
    "Augmentation",
    "Dataset",
    "DeviceData",
    "DevicePart",
    "Part",
    "batches",
    "data_root",
    "load_data",
    "resolve_data",
    "training_batches",
]
