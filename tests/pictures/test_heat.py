"""Maps over pictures: order, evenness, where they lie, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from dualvit.pictures.heat import heat

PICTURE = torch.full((3, 8, 256), 128, dtype=torch.uint8)
RAMP = torch.linspace(0, 1, 256).expand(8, 256)


def lightness(picture):
    """CIE L* of each pixel, by its luminance."""
    linear = (np.asarray(picture) / 255.0) ** 2.2 @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(linear > 0.008856, 116 * np.cbrt(linear) - 16, 903.3 * linear)


def test_equal_steps_look_equal():
    light = lightness(heat(PICTURE, RAMP, opacity=1))[0]
    steps = np.diff(light[::16])
    assert steps.min() > 0
    assert steps[1:].max() < 2 * steps[1:].min()  # the first one begins at black, where L* is linear
    assert light[-1] - light[0] > 90


def test_the_unit_and_what_is_negative_do_not_matter():
    expected = heat(PICTURE, RAMP).tobytes()
    assert heat(PICTURE, RAMP * 1e-6).tobytes() == expected
    assert heat(PICTURE, RAMP * 1e6).tobytes() == expected
    zeros = heat(PICTURE, torch.zeros(8, 256)).tobytes()
    assert heat(PICTURE, -RAMP).tobytes() == zeros
    assert heat(PICTURE, RAMP, top=2.0).tobytes() == heat(PICTURE, RAMP / 2, top=1.0).tobytes() != expected


def test_opacity_goes_from_the_grey_picture_to_the_map_alone():
    colourful = torch.randint(0, 256, (3, 8, 256), dtype=torch.uint8)
    bare = np.asarray(heat(colourful, RAMP, opacity=0))
    assert (bare[..., 0] == bare[..., 1]).all() and (bare[..., 0] == bare[..., 2]).all()
    assert heat(colourful, RAMP, opacity=1).tobytes() == heat(PICTURE, RAMP, opacity=1).tobytes()


def test_the_scale_is_below_and_names_the_largest_value():
    plain, bar = heat(PICTURE, RAMP), heat(PICTURE, 0.25 * RAMP, scale=True)
    assert bar.width == plain.width and bar.height > plain.height
    assert bar.crop((0, 0, *plain.size)).tobytes() == plain.tobytes()
    assert heat(PICTURE, RAMP, scale=True).tobytes() != bar.tobytes()  # 1 in the place of 0.25
    narrow = heat(torch.zeros(3, 4, 5, dtype=torch.uint8), torch.ones(4, 5), scale=True)
    assert isinstance(narrow, Image.Image) and narrow.width == 5


@pytest.mark.parametrize(
    ("values", "opacity", "word"),
    [
        (torch.ones(8, 255), 0.5, "shape"),
        (RAMP, 1.5, "opacity is 1.5"),
        (torch.full((8, 256), torch.nan), 0.5, "NaN"),
    ],
    ids=["shape", "opacity", "nan"],
)
def test_what_is_refused(values, opacity, word):
    with pytest.raises(ValueError, match=word):
        heat(PICTURE, values, opacity)
