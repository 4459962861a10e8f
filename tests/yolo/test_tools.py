"""SAHI, supervision and COCO's json: other tools take our models, files and results."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dualvit.weights.starts import start_file
from dualvit.yolo import YOLO

CHECKPOINT = start_file("yolov8n-dualvit")
PAGE = Path(__file__).parents[2] / "docs" / "tools.md"


@pytest.fixture(scope="module")
def picture():
    """Four smileys, a class of the start's, on a picture that is looked at in parts."""
    image = Image.new("RGB", (384, 384), (120, 150, 110))
    draw = ImageDraw.Draw(image)
    for x, y, r in ((96, 96, 44), (280, 100, 50), (100, 280, 40), (285, 285, 46)):
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(250, 220, 40), outline=(40, 30, 0), width=4)
        for eye in (x - r // 3, x + r // 3):
            draw.ellipse((eye - 6, y - r // 3 - 9, eye + 6, y - r // 3 + 9), fill=(20, 20, 20))
        draw.arc((x - r // 2, y - r // 3, x + r // 2, y + r // 2), 20, 160, fill=(20, 20, 20), width=5)
    return np.asarray(image)


def boxes(found):
    return [(one.category.id, float(one.score.value), *one.bbox.to_xyxy()) for one in found.object_prediction_list]


@pytest.mark.slow
def test_sahi_opens_both_files_and_batches_agree(picture, tmp_path):
    sahi = pytest.importorskip("sahi", reason="needs sahi")
    predict = pytest.importorskip("sahi.predict")
    YOLO(CHECKPOINT).save(tmp_path / "best.pt")
    answers = []
    for place in ({"model": YOLO(CHECKPOINT)}, {"model_path": str(tmp_path / "best.pt")}):
        detector = sahi.AutoDetectionModel.from_pretrained(
            "ultralytics", confidence_threshold=0.25, image_size=192, device="cpu", **place
        )
        for batch in (1, 8):
            found = predict.get_sliced_prediction(
                picture, detector, slice_height=192, slice_width=192, batch_size=batch, verbose=0
            )
            answers.append(boxes(found))
    assert len(answers[0]) >= 3
    for other in answers[1:2]:
        np.testing.assert_allclose(other, answers[0], rtol=1e-4, atol=1e-3)
    for other in answers[2:]:  # a .pt is in half precision
        np.testing.assert_allclose(other, answers[0], rtol=1e-2, atol=0.5)


@pytest.mark.slow
def test_supervision_takes_results(picture):
    supervision = pytest.importorskip("supervision", reason="needs supervision")
    result = YOLO(CHECKPOINT).predict(picture, imgsz=192, conf=0.05, verbose=False)[0]
    found = supervision.Detections.from_ultralytics(result)
    np.testing.assert_allclose(found.xyxy, result.boxes.xyxy.numpy())
    assert list(found.data["class_name"]) == [result.names[int(index)] for index in result.boxes.cls]
    masks = YOLO("yolo26n-timm-seg.yaml", backbone="resnet10t").predict(picture, imgsz=96, conf=1e-9, verbose=False)[0]
    taken = supervision.Detections.from_ultralytics(masks)
    assert len(taken) == len(masks.boxes) and (masks.masks is None or taken.mask.shape[1:] == picture.shape[:2])


@pytest.mark.slow
def test_the_json_of_the_page_is_cocos(picture, tmp_path, monkeypatch):
    coco = pytest.importorskip("pycocotools.coco", reason="needs pycocotools")
    (tmp_path / "pictures" / "val").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(picture).save(tmp_path / "pictures" / "val" / name)
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    (block,) = [text for text in found if "predictions-coco" in text]
    exec(block, {"model": YOLO(CHECKPOINT)})
    truth = coco.COCO("predictions-coco.json")
    assert [truth.loadImgs(index)[0]["file_name"] for index in truth.getImgIds()] == ["a.png", "b.png"]
    again = truth.loadRes(truth.dataset["annotations"])
    assert len(again.anns) == len(truth.anns) >= 2
    assert {len(truth.getAnnIds(index)) for index in truth.getImgIds()} == {len(truth.anns) // 2}
