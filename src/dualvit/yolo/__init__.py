"""YOLO on Dual-ViT through an unmodified Ultralytics (AGPL-3.0: see LICENSE in this folder).

Importing this package registers our YAML names and rows, and keeps Ultralytics from installing,
downloading or sending anything that was not asked for.
"""

import os

for _switch, _value in (
    ("YOLO_AUTOINSTALL", "false"),
    ("YOLO_OFFLINE", "true"),
    ("ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS", "1"),
):
    os.environ.setdefault(_switch, _value)  # read when ultralytics is imported, so before the next line

from dualvit.yolo import rows  # noqa: E402, F401  (registers on import)
from dualvit.yolo.model import YOLO  # noqa: E402

__all__ = ["YOLO"]
