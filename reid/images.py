"""Image files, as they are meant to be seen."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from reid.errors import ImageError

_GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N")
_GREY_16_AS_32 = ("PNG", "PPM")  # formats of whose 16 bits Pillow makes, or has made, mode I
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets an image upright, by its orientation in EXIF."""


def read_image(path: Path) -> Image.Image:
    """Read one image file completely, as :func:`as_rgb` makes it.

    Raises:
        ImageError: the file is missing, unreadable, truncated, no image, or of values whose range nobody knows.
    """
    try:
        with Image.open(path) as image:
            return as_rgb(image, str(path))
    except FileNotFoundError:
        raise ImageError(
            f"{path}: wanted an image, found no such file. Check its name; of a data set's image, the data root too."
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: wanted a whole image, found{_told(path, error)}") from None


def as_rgb(image: Image.Image, name: str) -> Image.Image:
    """An image as it is meant to be seen: upright, 8 bits a channel, what is see-through before white.

    Args:
        image: of any mode; left as it is.
        name: of the image, for the error.

    Returns:
        an image of its own, mode RGB.

    Raises:
        ImageError: its values have no range that is known, such as those of 32 bits.
    """
    turn = _TURNS.get(_orientation(image))
    if turn is not None:
        image = image.transpose(turn)
    if image.mode in _GREY_16 or (image.mode == "I" and image.format in _GREY_16_AS_32):
        image = Image.fromarray(((np.asarray(image, np.int64) + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F", "La"):
        raise ImageError(
            f"{name}: wanted an image of 8 or 16 bits a channel, found one of mode {image.mode}, of whose values "
            "nobody knows which is white. Save it as an 8-bit PNG or JPEG."
        )
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """As EXIF says; 1, upright, where it says nothing that can be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1


def _told(path: Path, error: Exception) -> str:
    """What was found instead of an image, and what to do about it."""
    if path.is_dir():
        return " a folder. Name an image file."
    if isinstance(error, UnidentifiedImageError):
        return " none. Name a picture such as a JPEG or PNG; if it was one, copy or unpack the file again."
    return f": {error}. Copy or unpack the file again."
