"""What can go wrong because of something the user did or has.

Every message says where, what was wanted, what was found and what to do. The command line prints it and
exits with code 2; anything else that escapes is a bug of ours and keeps its traceback.
"""


class ReidError(Exception):
    """Base of every error a user can cause."""


class ConfigError(ReidError):
    """A TOML file, an option or a component name that cannot be used as written."""


class DatasetError(ReidError):
    """A data set that is missing, incomplete, miscounted or unreadable."""


class ImageError(DatasetError):
    """One image file that is missing, truncated or no image."""


class WeightsError(ReidError):
    """Pretrained or released weights that are missing, damaged or of another architecture."""


class CheckpointError(ReidError):
    """A run folder or checkpoint that is incomplete, damaged or of another model."""


class ShapeError(ReidError):
    """Tensors whose shapes or values do not fit together."""


class SamplingError(ReidError):
    """Training data that cannot fill a batch as the sampler is asked to."""


class TrainingError(ReidError):
    """A training that has gone where it cannot go on, such as a loss that is no longer finite."""


class ProtocolError(ReidError):
    """A train and test combination whose result would not be a fair one."""


class WorkerError(ReidError):
    """A process that loads images and ended before its work was done."""


class StorageError(ReidError):
    """A file or folder that cannot be written: no permission, no space, in the way."""
