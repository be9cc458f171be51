"""From raw uint8 images to the input of an architecture, on whatever device the images are.

Registered models carry a copy of this file: it imports torch and nothing of this project.
"""

import torch
from torch import Tensor, nn


class Preprocess(nn.Module):
    """Scale to [0, 1], resize to a square, repeat grey as RGB where asked, normalise.

    Args:
        image_size: side of the output in pixels; 0: as the images are.
        in_channels: channels of the output.
        mean, std: one value a channel, for pixels in [0, 1].
    """

    offset: Tensor
    factor: Tensor

    def __init__(self, *, image_size: int, in_channels: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.image_size = image_size
        self.in_channels = in_channels
        # For pixels as they come, so that normalising them takes one subtraction and one product.
        self.register_buffer("offset", 255 * torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("factor", 1 / (255 * torch.tensor(std).view(1, -1, 1, 1)), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, H, W) with values 0 to 255, any dtype, to float (N, in_channels, image_size, image_size)."""
        x = images[:, None]
        size = (self.image_size or x.shape[-2], self.image_size or x.shape[-1])
        if x.shape[-2:] != size:
            shrinks = self.image_size < max(x.shape[-2:])
            x = nn.functional.interpolate(x.float(), size, mode="bilinear", align_corners=False, antialias=shrinks)
        return (x.expand(-1, self.in_channels, -1, -1) - self.offset).mul_(self.factor)
