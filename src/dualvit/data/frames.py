"""Frames of a video, through OpenCV, which the extras `yolo` and `explain` bring."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

from PIL import Image

from dualvit.data.images import MAX_PIXELS, TooLargeError, UnreadableError, max_pixels
from dualvit.errors import InputError, MissingExtraError, MissingFileError

VIDEOS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})


def frames_of(file: Path, every: int = 1, most: int | None = None) -> Generator[tuple[int, Image.Image]]:
    """Yield frames of a video, upright, each with its number; those between are not decoded.

    Args:
        file: Of one of the suffixes VIDEOS.
        every: The step from one frame to the next.
        most: Frames at most.

    Raises:
        UnreadableError: it is no video that OpenCV reads, or its frames are too large.
        ValueError: `every` or `most` is below 1.
        ModuleNotFoundError: OpenCV is not installed.
    """
    for name, value in (("every", every), ("frames", most)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}, below 1; give 1 or more")
    if not file.is_file():
        raise MissingFileError(f"no video at {file}")
    video = _opened(file)
    try:
        number = found = 0
        while most is None or found < most:
            if not video.grab():
                break
            if number % every == 0:
                there, pixels = video.retrieve()
                if not there:
                    break
                yield number, Image.fromarray(pixels[..., ::-1])
                found += 1
            number += 1
    finally:
        video.release()
    if not found:
        raise UnreadableError(f"cannot read the video {file}: it holds no frame; repair or remove it")


def count_of(file: Path) -> int:
    """Return how many frames a video says it has; 0 if it does not say."""
    import cv2

    video = _opened(file)
    try:
        return max(int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    finally:
        video.release()


def _opened(file: Path) -> Any:
    try:
        import cv2
    except ModuleNotFoundError:
        raise MissingExtraError("a video needs OpenCV; install dualvit[yolo] or dualvit[explain]") from None
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what it says of a damaged file
    try:
        video = cv2.VideoCapture(str(file))
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not video.isOpened():
        raise UnreadableError(f"cannot read the video {file}: OpenCV knows no such format, or it is damaged")
    width, height = (int(video.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > max_pixels():
        video.release()
        raise TooLargeError(
            f"cannot read the video {file}: a frame has {width * height} pixels, and the limit is {max_pixels()}; "
            f"shrink it, or set {MAX_PIXELS}={width * height}"
        )
    return video
