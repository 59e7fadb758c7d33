"""How photographs are turned: cameras store pixels in the order of their sensor, and EXIF says how viewers turn them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

TAG = 0x0112  # of EXIF
SIDEWAYS = 5  # from this orientation on, width and height change places


def orientation(image: Image) -> int:
    """From 1 to 8, as EXIF counts; 1, the pixels as they are stored, where no readable EXIF says otherwise."""
    from PIL.Image import Image as Base

    try:
        found = Base.getexif(image).get(TAG, 1)  # of any format; PNG's own method would decode the pixels
    except Exception:  # damaged EXIF, of which Pillow raises many kinds
        return 1
    return int(found) if found in range(1, 9) else 1


def upright(image: Image) -> Image:
    """The image turned or mirrored as its orientation says, and then without a format; else the image itself."""
    from PIL.Image import Transpose

    turns = (
        *(Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM),
        *(Transpose.TRANSPOSE, Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90),
    )
    held = orientation(image)
    return image if held == 1 else image.transpose(turns[held - 2])
