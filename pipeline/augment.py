"""Random changes of whole batches that leave a digit the same digit."""

import math

import torch
from torch import Generator, Tensor

# Of MNIST's size, where the digit fills 20 of 28 px; fractions of the image otherwise.
LARGEST_SHIFT = 2 / 28
LARGEST_ROTATION = math.radians(12)
LARGEST_SCALING = 0.12
LARGEST_SHEAR = 0.15


def augment(images: Tensor, kind: str, generator: Generator) -> Tensor:
    """Move, and for "affine" also rotate, scale and shear, each image by its own random amount.

    Args:
        images: (N, H, W) with values 0 to 255.
        kind: none, shift or affine.
        generator: source of the amounts, on the device of the images.

    Returns:
        float (N, H, W) with values 0 to 255; the images themselves for "none".
    """
    if kind == "none":
        return images
    n = len(images)

    def uniform(largest: float) -> Tensor:
        return (torch.rand(n, generator=generator, device=images.device) * 2 - 1) * largest

    # affine_grid's coordinates run from -1 to 1, so a shift of the whole image is 2.
    shift = torch.stack([uniform(2 * LARGEST_SHIFT), uniform(2 * LARGEST_SHIFT)], 1)
    linear = torch.eye(2, device=images.device).repeat(n, 1, 1)
    if kind == "affine":
        angle, scale, shear = uniform(LARGEST_ROTATION), 1 + uniform(LARGEST_SCALING), uniform(LARGEST_SHEAR)
        cos, sin = angle.cos() * scale, angle.sin() * scale
        linear = torch.stack([cos, cos * shear - sin, sin, sin * shear + cos], 1).view(n, 2, 2)
    grid = torch.nn.functional.affine_grid(
        torch.cat([linear, shift[:, :, None]], 2), [n, 1, *images.shape[1:]], align_corners=False
    )
    return torch.nn.functional.grid_sample(images[:, None].float(), grid, align_corners=False)[:, 0]
