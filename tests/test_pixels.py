import numpy as np
import torch

from trimask.pixels import to_bytes, to_pixels


def test_every_byte_survives() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    pixels = to_pixels(images)
    assert pixels.shape == (1, 3, 16, 16) and pixels.dtype == torch.float32
    assert pixels.min() == -1 and pixels.max() == 1
    assert np.array_equal(to_bytes(pixels), images)


def test_channels_stand_first_and_excess_is_clipped() -> None:
    images = np.zeros((2, 1, 3, 3), dtype=np.uint8)
    images[1, 0, 2] = (255, 0, 51)
    assert to_pixels(images)[1, :, 0, 2].tolist() == [1.0, -1.0, np.float32(-0.6)]
    far = torch.full((1, 3, 1, 1), 7.0, dtype=torch.bfloat16)
    assert to_bytes(far).tolist() == [[[[255, 255, 255]]]] and to_bytes(-far).tolist() == [[[[0, 0, 0]]]]
