"""Distillation by Ultralytics: any trained YOLO teaches, and what is written holds the student alone."""

from pathlib import Path

import pytest
import torch
from ultralytics.utils import DEFAULT_CFG_DICT

from dualvit.yolo import YOLO
from dualvit.yolo.groups import backbone_of, unwrap

pytestmark = pytest.mark.skipif("distill_model" not in DEFAULT_CFG_DICT, reason="needs a newer Ultralytics")
SETTINGS = {
    "imgsz": 64, "batch": 4, "epochs": 1, "device": "cpu", "workers": 0, "plots": False, "amp": False,
    "optimizer": "AdamW", "name": "run", "verbose": False,
}  # fmt: skip


class Killed(Exception):
    """Ends a run."""


def ten(folder: Path, name: str) -> Path:
    """A YAML of the ten digits' classes on a model YAML of ours."""
    file = folder / f"{name.partition('-')[0]}n-ten.yaml"
    file.write_text(f"like: {name}\nnc: 10\n")
    return file


@pytest.mark.slow
def test_a_teacher_leaves_the_students_groups_as_they_are(digits, tmp_path):
    """Teacher and student have a timm backbone each; what is written holds the student alone."""
    teacher = YOLO(ten(tmp_path, "yolov8-timm.yaml"), backbone="convnext_atto").save_weights(tmp_path / "t.safetensors")
    settings = SETTINGS | {"data": str(digits), "project": str(tmp_path), "epochs": 2}
    found = {}

    def kill(trainer):
        raise Killed

    for name, more in (("alone", {}), ("taught", {"distill_model": str(teacher)})):
        model = YOLO("yolov8n-dualvit.yaml", backbone_lr=0.1, layer_decay=0.8)
        model.add_callback("on_model_save", kill)
        with pytest.raises(Killed):
            model.train(**settings | {"name": name}, **more)
        learner = unwrap(model.trainer.model)
        assert (learner is model.trainer.model) == (name == "alone")
        assert backbone_of(model.trainer.model).spec["name"] == "dualvit_n"
        assert backbone_of(model.trainer.model) is backbone_of(learner)
        group = {id(p): group for group in model.trainer.optimizer.param_groups for p in group["params"]}
        found[name] = {
            key: (group[id(p)]["initial_lr"], group[id(p)]["weight_decay"], group[id(p)]["param_group"])
            for key, p in learner.named_parameters()
        }
    assert found["taught"] == found["alone"]
    assert len({lr for lr, _, _ in found["taught"].values()}) > 5

    last = tmp_path / "taught" / "weights" / "last.pt"
    opened = YOLO(last)
    assert set(opened.model.state_dict()) == set(YOLO("yolov8n-dualvit.yaml").model.state_dict())
    again = YOLO(opened.save_weights(tmp_path / "student.safetensors", half=False)).model.state_dict()
    assert all(torch.equal(value.float(), again[key].float()) for key, value in opened.model.state_dict().items())
    opened.train(resume=True)
    assert opened.trainer.start_epoch == 1
    assert set(YOLO(opened.trainer.best).model.state_dict()) == set(again)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "file"),
    [
        ("yolov8n.yaml", {}, "stock.pt"),
        ("yolo26-dualvit.yaml", {}, "ours.safetensors"),
        ("yolo11-timm.yaml", {"backbone": "resnet10t"}, "timm.pt"),
    ],
)
def test_every_trained_yolo_teaches(name, options, file, digits, tmp_path):
    if "-" in name:
        teacher = YOLO(ten(tmp_path, name), **options)
    else:
        teacher = YOLO(name)
        teacher.model = type(teacher.model)(name, nc=10, verbose=False)
        teacher.model.args, teacher.model.task = {}, "detect"
        teacher.model.names = dict(enumerate("0123456789"))
    write = teacher.save_weights if file.endswith(".safetensors") else teacher.save
    write(tmp_path / file)
    seen = []

    def stop(trainer):
        seen.append(float(trainer.loss_items["dis_loss"]))
        raise Killed

    student = YOLO("yolo26n-timm.yaml", backbone="resnet10t")
    student.add_callback("on_train_batch_end", stop)
    with pytest.raises(Killed):
        student.train(data=str(digits), distill_model=str(tmp_path / file), project=str(tmp_path), **SETTINGS)
    assert seen[0] > 0
    assert student.trainer.model.teacher_model.yaml["backbone"] == teacher.model.yaml["backbone"]


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("absent/teacher.pt", r"^no checkpoint at absent/teacher\.pt"),
        ("{tmp}/a.safetensors", "is truncated or no safetensors file"),
        (
            "{tmp}/a.pt",
            r"a\.pt is no trained YOLO \(.*\); give its \.pt or \.safetensors, and let other networks teach by",
        ),
        ("{tmp}/backbone.pth", r"backbone\.pth is no trained YOLO; .* teach by: dualvit pretrain --teacher$"),
        ("convnext_atto", r"convnext_atto is no trained YOLO; .* teach by: dualvit pretrain --teacher$"),
        ("yolov8n.yaml", r"yolov8n\.yaml is no trained YOLO"),
        ("{tmp}/eighty.safetensors", "knows 80 classes, and the data have 10; give a teacher"),
        ("{tmp}/pose.safetensors", "is a model for pose, and the task is detect; give one for it"),
    ],
)
def test_a_teacher_that_cannot_teach_is_one_line(digits, tmp_path, teacher, words):
    (tmp_path / "a.safetensors").touch()
    torch.save({"weight": torch.zeros(1)}, tmp_path / "a.pt")
    for name, suffix in (("eighty", ""), ("pose", "-pose")):
        if name in teacher:
            YOLO(f"yolov8n-timm{suffix}.yaml", backbone="resnet10t").save_weights(tmp_path / f"{name}.safetensors")
    settings = SETTINGS | {"project": str(tmp_path)}
    with pytest.raises((FileNotFoundError, ValueError), match=words) as said:
        YOLO("yolov8n-timm.yaml", backbone="resnet10t").train(
            data=str(digits), distill_model=teacher.format(tmp=tmp_path), **settings
        )
    assert "\n" not in str(said.value)


def test_a_task_or_an_ultralytics_without_distillation_says_so(monkeypatch, digits):
    with pytest.raises(ValueError, match=r"^distill_model: Ultralytics teaches no task classify; .* dualvit pretrain"):
        YOLO("yolov8n-dualvit-cls.yaml").train(data=str(digits.parent / "classify"), distill_model="teacher.pt")
    monkeypatch.delitem(DEFAULT_CFG_DICT, "distill_model")
    with pytest.raises(ValueError, match=r"^distill_model needs a newer Ultralytics than \d"):
        YOLO("yolov8n-dualvit.yaml").train(data="data.yaml", distill_model="teacher.pt")
