"""Pictures to try the page with, drawn by the package."""

from pathlib import Path

from PIL import Image

from dualvit.drawn.digits import draw_scene
from dualvit.drawn.varied import draw_varied
