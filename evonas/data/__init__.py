"""Data sets as four disjoint parts of uint8 images. A new one is a file here and a line in `DATA_SETS`."""

from evonas.data.batches import Augmentation, DeviceData, DevicePart, ImagePart, batches, training_batches
from evonas.data.dataset import Dataset, Part
from evonas.data.image_files import FilePart
from evonas.data.image_folder import FolderData, ImageFolderSet, load_image_folder
from evonas.data.loader import DATA_SETS, data_root, load_data, resolve_data

__all__ = [
    "DATA_SETS",
    "Augmentation",
    "Dataset",
    "DeviceData",
    "DevicePart",
    "FilePart",
    "FolderData",
    "ImageFolderSet",
    "ImagePart",
    "Part",
    "batches",
    "data_root",
    "load_data",
    "load_image_folder",
    "resolve_data",
    "training_batches",
]
