"""``rethinkdc``: PATH/train/00000/class00000_id00000.png, as rethinkdc, RDED and CIM read it; PNG, 8 bits.

``rethinkdc PATH/train --hard --ipc N`` takes the first N images of every folder, and expects nothing but folders in
PATH/train.
"""

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.exports.encoded_images import read_encoded
from pipeline.exports.export_format import ExportFormat, Outgoing
from pipeline.exports.formats.imagefolder import write_folders
from pipeline.exports.incoming import Incoming, Known

TRAIN = "train"


def write(folder: str, outgoing: Outgoing) -> None:
    """Writes a folder of PNG files per class, named by its label."""
    labels = [f"{label:05d}" for label in range(len(outgoing.images.classes))]
    write_folders(storage.join(folder, TRAIN), outgoing, labels)


def read(path: str, known: Known) -> Incoming:
    """Reads the folder above ``train``, or a folder of class folders."""
    return read_encoded(Data(source="image_folder", path=path))


FORMAT = ExportFormat(write=write, read=read, pixels="png")
