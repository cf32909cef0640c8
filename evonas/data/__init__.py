"""Data sets as four disjoint parts of uint8 images. To add one: a file here and a line in `DATA_SETS`."""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.data.batches import (
        Augmentation,
        DeviceData,
        DevicePart,
        ImagePart,
        augmented,
        batches,
        training_batches,
    )
    from evonas.data.dataset import Dataset
    from evonas.data.image_files import FilePart
    from evonas.data.image_folder import ImageFolderSet, load_image_folder
    from evonas.data.loader import DATA_SETS, data_root, load_data, resolve_data, terms_of
    from evonas.data.source import DataSetEntry, ImageSource, Part, PartSizes

__all__ = [
    "DATA_SETS",
    "Augmentation",
    "DataSetEntry",
    "Dataset",
    "DeviceData",
    "DevicePart",
    "FilePart",
    "ImageFolderSet",
    "ImagePart",
    "ImageSource",
    "Part",
    "PartSizes",
    "augmented",
    "batches",
    "data_root",
    "load_data",
    "load_image_folder",
    "resolve_data",
    "terms_of",
    "training_batches",
]

import_lazily(__name__)
