"""Print the oldest versions that pyproject.toml allows of the libraries that change most, one pin per line."""

import re
import tomllib
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "timm", "lightning", "ultralytics")

project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
requirements = [*project["dependencies"], *extras["yolo"], *extras["recipes"]]
lowest = {match[1]: match[2] for line in requirements if (match := re.match(r"([\w-]+)>=([\d.]+)", line))}
for library in LIBRARIES:
    print(f"{library}=={lowest[library]}")
