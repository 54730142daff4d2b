"""Where backbone and matcher meet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from reid.backbones._base import Backbone
from reid.data.transforms import TestTransform
from reid.errors import ImageError, ShapeError
from reid.images import as_rgb, read_image
from reid.matchers._base import Matcher
from reid.nn.map_norm import MapNorms
from reid.types import FeatureMaps, ImageState

ENCODE_BATCH = 64  # images an encode() call sends through the backbone at once


class Model(nn.Module):
    """A backbone and the matcher that reads its maps: images to states, states to scores.

    Args:
        backbone: images to feature maps; None for matchers that look at pixels only.
        matcher: feature maps to states, states to scores.
        image_size: height and width in pixels that images are resized to.
        norms: of the maps, before the matcher reads them; None: it reads them as they are.
    """

    def __init__(
        self, backbone: Backbone | None, matcher: Matcher, image_size: tuple[int, int], norms: MapNorms | None = None
    ) -> None:
        super().__init__()
        # channels last: convolutions on CPUs and on tensor cores are faster that way
        self.backbone = None if backbone is None else backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.norms = norms
        self.matcher = matcher
        self.image_size = image_size

    @property
    def strides(self) -> frozenset[int]:
        """Of the maps that the backbone gives; none where there is no backbone."""
        return frozenset(() if self.backbone is None else self.backbone.strides)

    @property
    def device(self) -> torch.device:
        """Where the parameters are; the CPU for a model without any."""
        parameter = next(self.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def forward(self, inputs: Tensor | FeatureMaps) -> ImageState:
        """Compute the states of a batch, with gradients.

        Args:
            inputs: RGB images, [B, 3, H, W] of ``image_size``; uint8 in 0..255 or float in [0, 1], any device. Or
                what :meth:`feature_maps` made of them.

        Raises:
            ShapeError: the images have another shape.
        """
        return self.states_and_maps(inputs)[0]

    def states_and_maps(
        self, inputs: Tensor | FeatureMaps, known: FeatureMaps | None = None
    ) -> tuple[ImageState, FeatureMaps]:
        """As :meth:`forward`, and the backbone's maps the states were made of.

        Args:
            inputs: as :meth:`forward` takes them.
            known: maps of these images, where another model of the same backbone has them already.

        Returns:
            states; and maps as the backbone gave them, not centred: see :meth:`matcher_maps`.
        """
        if isinstance(inputs, Tensor):
            image_BCHW, maps = self._pixels(inputs), self.feature_maps(inputs) if known is None else known
        else:
            maps = {stride: map_BCHW.to(self.device).float() for stride, map_BCHW in inputs.items()}
            image_BCHW = torch.empty(len(next(iter(maps.values()))), 3, 0, 0, device=self.device)
        return self.matcher.encode(image_BCHW, self.matcher_maps(maps)), maps

    def feature_maps(self, image_BCHW: Tensor) -> FeatureMaps:
        """The backbone's maps of images as :meth:`forward` takes them; none where there is no backbone."""
        maps: FeatureMaps = {} if self.backbone is None else self.backbone(self._pixels(image_BCHW))
        return maps

    def matcher_maps(self, maps: FeatureMaps) -> FeatureMaps:
        """What the matcher reads of the backbone's maps: centred ones where the model has norms."""
        return maps if self.norms is None else self.norms(maps)

    def _pixels(self, image_BCHW: Tensor) -> Tensor:
        if image_BCHW.shape[1:] != (3, *self.image_size):
            raise ShapeError(
                f"model: wanted images [B, 3, {self.image_size[0]}, {self.image_size[1]}], found "
                f"{list(image_BCHW.shape)}. Files and PIL images of any size are resized; tensors are not."
            )
        image_BCHW = image_BCHW.to(self.device, non_blocking=True)
        if image_BCHW.dtype == torch.uint8:
            image_BCHW = image_BCHW.float() / 255
        weight = next(self.parameters(), None)
        if weight is not None:
            image_BCHW = image_BCHW.to(weight.dtype)
        return image_BCHW.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def encode(self, images: Tensor | Path | str | Image.Image | Iterable[Path | str | Image.Image]) -> ImageState:
        """Compute the states of images, for use.

        Args:
            images: image files or PIL images of any size, one or several, or a batch as :meth:`forward` takes it.

        Returns:
            the state of each image, in order.

        Raises:
            ImageError: a file is missing, truncated or no image, an image's values have no known range, or there is
                no image at all.
            ShapeError: a batch is of another shape, or its values are not those of images.
        """
        self.eval()
        if isinstance(images, Tensor):
            _refuse_no_images(images)
            return ImageState.cat([self(chunk) for chunk in images.split(ENCODE_BATCH)])
        listed = [images] if isinstance(images, str | Path | Image.Image) else list(images)
        if not listed:
            raise ImageError("encode: wanted at least one image, found none.")
        resize = TestTransform(self.image_size)
        states = []
        for start in range(0, len(listed), ENCODE_BATCH):
            chunk = [_open(image) for image in listed[start : start + ENCODE_BATCH]]
            states.append(self(torch.stack([resize(image) for image in chunk])))
        return ImageState.cat(states)

    @torch.no_grad()
    def score(self, query: ImageState, gallery: ImageState) -> Tensor:
        """Compare every query image with every gallery image.

        Returns:
            score_QG: [Q, G], float32, higher = more alike.
        """
        self.eval()
        score_QG: Tensor = self.matcher.score(query.to(self.device), gallery.to(self.device))
        return score_QG


def _open(image: Path | str | Image.Image) -> Image.Image:
    if isinstance(image, Image.Image):
        return as_rgb(image, "image")
    if not isinstance(image, str | Path):
        raise ImageError(
            f"encode: wanted image files, PIL images or a tensor [B, 3, H, W], found {type(image).__name__}. Make a "
            "tensor or PIL images of an array first."
        )
    return read_image(Path(image))


def _refuse_no_images(image_BCHW: Tensor) -> None:
    if len(image_BCHW) == 0:
        raise ImageError("encode: wanted at least one image, found none.")
    if image_BCHW.dtype == torch.uint8:
        return
    low, high = (float(value) for value in image_BCHW.aminmax())
    if not image_BCHW.is_floating_point() or not 0 <= low <= high <= 1:
        raise ShapeError(
            f"encode: wanted uint8 values of 0 to 255, or floats of 0 to 1, found {image_BCHW.dtype} of {low:.3g} to "
            f"{high:.3g}. Divide by 255, or convert to uint8."
        )
