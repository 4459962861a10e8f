"""Textures for fills and grounds: two colours mixed by a pattern of stripes, checks, dots, waves, blotches or noise."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from dualvit.drawn.scenes import Floats, Rng, ramp


def texture(rng: Rng, shape: tuple[int, int], first: Floats, second: Floats, scale: float) -> Floats:
    """Return two colours mixed by a random pattern, (height, width, 3).

    Args:
        rng: Decides the pattern, its period, angle and sharpness.
        shape: Height and width in pixels.
        first: A colour, (3,), 0..255.
        second: Another one.
        scale: Pixels that the largest period has; the smallest has a tenth, at least 3 pixels.

    Example:
        >>> black, white = np.zeros(3, np.float32), np.full(3, 255, np.float32)
        >>> texture(np.random.default_rng(0), (8, 16), black, white, 8.0).shape
        (8, 16, 3)
    """
    kind = PATTERNS[int(rng.integers(len(PATTERNS)))]
    period = max(3.0, scale * math.exp(rng.uniform(math.log(0.1), 0)))
    mix = kind(rng, shape, period)[..., None]
    return np.asarray(first * mix + second * (1 - mix), dtype=np.float32)


def blotches(rng: Rng, shape: tuple[int, int], period: float) -> Floats:
    """Return soft blotches of about `period` pixels, 0..1."""
    cells = (max(2, round(shape[1] / period)), max(2, round(shape[0] / period)))
    image = Image.fromarray(rng.integers(0, 256, cells[::-1], dtype=np.uint8))
    return np.asarray(image.resize(shape[::-1], Image.Resampling.BICUBIC), dtype=np.float32) / np.float32(255)


def _waves(rng: Rng, shape: tuple[int, int], period: float, warp: float = 0) -> list[Floats]:
    """Return two waves at right angles, -1..1, at a random angle; `warp` bends them, in turns."""
    angle, phase = rng.uniform(0, math.pi), rng.uniform(0, 2 * math.pi)
    rows, columns = (np.arange(length, dtype=np.float32) * np.float32(2 * math.pi / period) for length in shape)
    bend = warp * 2 * math.pi * blotches(rng, shape, 2.5 * period) + phase if warp else phase
    turned = ((math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle)))
    waves = [np.sin(np.float32(x) * columns + np.float32(y) * rows[:, None] + np.float32(bend)) for x, y in turned]
    return [np.asarray(wave, dtype=np.float32) for wave in waves]


def _sharpened(rng: Rng, wave: Floats, bias: float = 0) -> Floats:
    """Return a wave as 0..1, from soft to with hard edges."""
    slope = math.exp(rng.uniform(math.log(0.5), math.log(5)))
    return np.asarray(np.clip(0.5 + slope * (wave + bias), 0, 1), dtype=np.float32)


def _plain(rng: Rng, shape: tuple[int, int], period: float) -> Floats:
    return np.full(shape, 0.9, dtype=np.float32) + np.float32(0.1) * blotches(rng, shape, period)


def _gradient(rng: Rng, shape: tuple[int, int], period: float) -> Floats:
    return np.asarray(0.5 + ramp(rng, shape, 0.5), dtype=np.float32)


def _stripes(rng: Rng, shape: tuple[int, int], period: float) -> Floats:
    return _sharpened(rng, _waves(rng, shape, period)[0], rng.uniform(-0.6, 0.6))


def _checks(rng: Rng, shape: tuple[int, int], period: float) -> Floats:
    across, along = _waves(rng, shape, 1.5 * period)
    return _sharpened(rng, 3 * across * along)


def _plaid(rng: Rng, shape: tuple[int, int], period: float) -> Floats:
    across, along = _waves(rng, shape, 1.5 * period)
    return (_sharpened(rng, across, 0.4) + _sharpened(rng, along, 0.4)) * np.float32(0.5)


def _dots(rng: Rng, shape: tuple[int, int], period: float) -> Floats:
    across, along = _waves(rng, shape, 1.3 * period)
    return _sharpened(rng, across + along, rng.uniform(-1.2, -0.4))


def _marble(rng: Rng, shape: tuple[int, int], period: float) -> Floats:
    return _sharpened(rng, _waves(rng, shape, 1.5 * period, warp=rng.uniform(0.5, 2))[0])


def _patches(rng: Rng, shape: tuple[int, int], period: float) -> Floats:
    return _sharpened(rng, 4 * (blotches(rng, shape, 1.5 * period) - 0.5))


def _noise(rng: Rng, shape: tuple[int, int], period: float) -> Floats:
    """Return noise of four sizes, the coarser the stronger."""
    layers = [blotches(rng, shape, max(1.0, period / 2**octave)) * 0.5**octave for octave in range(4)]
    return np.clip(0.5 + 1.6 * (sum(layers, start=np.zeros(shape, np.float32)) / np.float32(1.875) - 0.5), 0, 1)


def _grain(rng: Rng, shape: tuple[int, int], period: float) -> Floats:
    return np.clip(0.7 + rng.uniform(0.1, 0.4) * rng.standard_normal(shape, dtype=np.float32), 0, 1).astype(np.float32)


PATTERNS: tuple[Callable[[Rng, tuple[int, int], float], Floats], ...] = (
    _plain, _gradient, _stripes, _checks, _plaid, _dots, _marble, _patches, blotches, _noise, _grain,
)  # fmt: skip
