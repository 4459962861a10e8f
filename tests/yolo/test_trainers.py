"""Training: backbone weights, optimizer groups, non-finite losses, data that cannot be read."""

import os
import shutil
from pathlib import Path
from threading import Barrier, Thread
from types import SimpleNamespace

import pytest
import timm
import torch
import ultralytics.utils.dist as dist
from PIL import Image
from safetensors.torch import save_file

from dualvit.finite import NonFiniteLossError
from dualvit.weights import CheckpointError
from dualvit.yolo import YOLO
from dualvit.yolo.groups import SCRATCH_LR, backbone_of, regroup
from dualvit.yolo.patches import YAML_ENV, start_yaml, starts_from
from dualvit.yolo.trainers import DetectionTrainer

SETTINGS = {
    "imgsz": 64, "batch": 4, "epochs": 1, "device": "cpu", "workers": 0, "plots": False, "amp": False,
    "optimizer": "AdamW", "name": "run", "verbose": False,
}  # fmt: skip


@pytest.fixture
def weights(tmp_path):
    """A classification checkpoint of dualvit_n with recognisable values."""
    model = timm.create_model("dualvit_n", num_classes=7)
    path = tmp_path / "backbone.safetensors"
    save_file(
        {k: torch.rand_like(v) * 0.1 if v.is_floating_point() else v for k, v in model.state_dict().items()}, path
    )
    return path


def same_tensors(backbone, path):
    from dualvit.weights import read_checkpoint

    state = read_checkpoint(path)
    own = backbone.model.model.state_dict()
    return all(torch.equal(value, state[name]) for name, value in own.items())


def test_backbone_weights_are_loaded_bit_for_bit_and_reported(weights, capsys, caplog):
    import logging

    logging.getLogger("ultralytics").addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "ultralytics")
    model = YOLO("yolov8n-dualvit.yaml", weights=weights)
    assert same_tensors(backbone_of(model.model), weights)
    total = len(backbone_of(model.model).model.model.state_dict())
    assert f"backbone weights: {total} of {total} loaded from {weights}" in caplog.text


def test_backbone_weights_reach_the_trainer_and_resume_needs_no_file(weights, digits, tmp_path, reports):
    seen = []
    model = YOLO("yolov8n-dualvit.yaml", weights=weights)
    model.add_callback("on_train_start", lambda trainer: seen.append(same_tensors(backbone_of(trainer.model), weights)))

    def kill(trainer):
        raise InterruptedError

    model.add_callback("on_model_save", kill)
    with pytest.raises(InterruptedError):
        model.train(data=str(digits), project=str(tmp_path), **SETTINGS | {"epochs": 2})
    assert seen == [True]
    assert not (tmp_path / "run" / "report.html").exists()  # it is not done
    weights.unlink()
    resumed = YOLO(tmp_path / "run" / "weights" / "last.pt")
    told = []
    resumed.add_callback("on_train_end", lambda trainer: told.append((trainer.save_dir / "report.html").exists()))
    resumed.train(resume=True)
    assert resumed.trainer.start_epoch == 1
    assert told == [True]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "yolov8n-dualvit on digits" in page and "on 2 validation pictures, after 2 epochs on 10 training" in page
    assert page.count("<svg ") == 4 and page.count('src="data:image/jpeg;base64,') == 2
    assert "No predictions are shown" not in page and "<h2>How to get it again</h2>" in page
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize("damage", ["missing key", "another size", "no file"])
def test_wrong_backbone_weights_are_one_clear_error(weights, damage, tmp_path):
    from dualvit.weights import read_checkpoint

    path, words = weights, ""
    if damage == "missing key":
        state = read_checkpoint(weights)
        del state["stages.0.blocks.0.attention.q.weight"]
        save_file(state, weights)
        words = "1 missing: stages.0.blocks.0.attention.q.weight"
    elif damage == "another size":
        save_file(timm.create_model("dualvit_t").state_dict(), weights)
        words = "it is a checkpoint of dualvit_t"
    else:
        path, words = tmp_path / "absent.pth", "no checkpoint at"
    with pytest.raises(CheckpointError, match=words) as error:
        YOLO("yolov8n-dualvit.yaml", weights=path)
    assert "\n" not in str(error.value)


def groups_of(model, name="AdamW", **options):
    trainer = DetectionTrainer.__new__(DetectionTrainer)
    trainer.args = type("Args", (), {"warmup_bias_lr": 0.1, "optimizer": name, "lr0": 0.01})()
    trainer.data = {"nc": 80}
    model.yaml |= options
    return trainer, trainer.build_optimizer(model, name=name, lr=0.01, momentum=0.9, decay=0.05, iterations=100)


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_each_parameter_in_exactly_one_group_and_no_decay_where_it_harms(name):
    model = YOLO("yolov8n-dualvit.yaml").model
    trainer, optimizer = groups_of(model, name)
    placed = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(placed) == sorted(id(p) for p in model.parameters())
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for key, p in model.named_parameters():
        expected = 0.0 if p.ndim < 2 or key.endswith("queries") else 0.05
        assert decay[id(p)] == expected, key
    # The stock bias warm-up is for neck and head; a transformer's biases do not survive it.
    kind = {id(p): group["param_group"] for group in optimizer.param_groups for p in group["params"]}
    assert all(kind[id(p)] != "bias" for p in backbone_of(model).parameters())
    assert trainer.args.warmup_bias_lr == 0.1


def test_layer_decay_and_backbone_lr():
    model = YOLO("yolov8n-dualvit.yaml").model
    _, optimizer = groups_of(model, layer_decay=0.5, backbone_lr=0.1)
    lr = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    names = {name: lr[id(p)] for name, p in model.named_parameters()}
    head = names["model.16.cv2.0.0.conv.weight"]
    assert head == 0.01
    inner = "model.0.model.model."
    last = names[inner + "stages.3.blocks.0.ffn.fc2.weight"]
    assert last == pytest.approx(0.001)
    block = [names[f"{inner}stages.{s}.blocks.0.attention.q.weight"] for s in range(4)]
    assert block == sorted(block)
    assert names[inner + "stem.conv.0.weight"] < block[0] < block[3] <= last


@pytest.mark.parametrize("option", [{"layer_decay": 1.5}, {"backbone_lr": 0}, {"layer_decay": float("nan")}])
def test_bad_factors_are_named(option):
    with pytest.raises(ValueError, match=r"is not in \(0, 1\]"):
        groups_of(YOLO("yolov8n-dualvit.yaml").model, **option)


def test_stock_models_keep_stock_groups():
    model = YOLO("yolov8n.yaml").model
    trainer, optimizer = groups_of(model)
    assert len(optimizer.param_groups) == 3
    assert trainer.args.warmup_bias_lr == 0.1


def test_unknown_option_is_named():
    with pytest.raises(TypeError, match="no option 'backbone_wieghts'"):
        YOLO("yolov8n-dualvit.yaml", backbone_wieghts="x")


def test_drop_path_rate_reaches_the_backbone():
    model = YOLO("yolov8n-dualvit.yaml", drop_path_rate=0.3).model
    rates = {m.drop_prob for m in backbone_of(model).modules() if type(m).__name__ == "DropPath"}
    assert max(rates) == pytest.approx(0.3)


def test_a_non_finite_loss_stops_and_names_the_module(digits, tmp_path):
    model = YOLO("yolov8n-dualvit.yaml")

    def poison(trainer):
        with torch.no_grad():
            trainer.model.model[0].model.model.stages[2].blocks[0].ffn.fc1.weight.fill_(float("nan"))
        trainer.weights_before = {k: v.clone() for k, v in trainer.model.state_dict().items() if "head" in k}

    model.add_callback("on_train_start", poison)
    with pytest.raises(NonFiniteLossError, match=r"first non-finite value in model\.0.*stages\.2\.blocks\.0\.ffn\.fc1"):
        model.train(data=str(digits), project=str(tmp_path), **SETTINGS)
    assert not list((tmp_path / "run" / "weights").iterdir())


def test_a_nan_image_is_named(digits, tmp_path):
    model = YOLO("yolov8n-dualvit.yaml")

    def spoil(trainer):
        stock = trainer.preprocess_batch

        def preprocess(batch):
            batch = stock(batch)
            batch["img"][1, 0, 5, 5] = float("nan")
            return batch

        trainer.preprocess_batch = preprocess

    model.add_callback("on_train_start", spoil)
    with pytest.raises(NonFiniteLossError, match=r"the input image .*\.jpg"):
        model.train(data=str(digits), project=str(tmp_path), **SETTINGS)


def test_a_corrupt_training_image_stops_the_run(digits, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(digits.parent, data)
    image = sorted((data / "images" / "train").iterdir())[2]
    image.write_bytes(image.read_bytes()[:40])
    with pytest.raises(ValueError, match=rf"1 of \d+ train images or their labels cannot be read: .*{image.name}"):
        YOLO("yolov8n-dualvit.yaml").train(data=str(data / "data.yaml"), project=str(tmp_path), **SETTINGS)


def test_a_corrupt_classification_image_stops_the_run(digits, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(digits.parent / "classify", data)
    image = next((data / "train").rglob("*.png"))
    image.write_bytes(image.read_bytes()[:40])
    with pytest.raises(ValueError, match=rf"1 of \d+ train images or their labels cannot be read: .*{image.name}"):
        YOLO("yolov8n-dualvit-cls.yaml").train(data=str(data), project=str(tmp_path), **SETTINGS)


def test_a_data_yaml_without_its_folders_is_one_line(tmp_path):
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: a}\n")
    with pytest.raises(FileNotFoundError, match="make its folders, or correct") as error:
        YOLO("yolov8n-dualvit.yaml").train(data=str(tmp_path / "data.yaml"), project=str(tmp_path), **SETTINGS)
    assert "\n" not in str(error.value)


def test_a_nan_image_in_prediction_is_refused():
    image = torch.rand(2, 3, 64, 64)
    model = YOLO("yolov8n-dualvit.yaml")
    assert len(model.predict(image, imgsz=64, device="cpu", verbose=False)) == 2
    image[1, 2, 3, 4] = float("nan")
    with pytest.raises(ValueError, match="image 1 of the batch holds NaN"):
        model.predict(image, imgsz=64, device="cpu", verbose=False)


@pytest.mark.slow
def test_classification_trains(digits, tmp_path, reports):
    model = YOLO("yolov8n-dualvit-cls.yaml")
    model.train(data=str(digits.parent / "classify"), project=str(tmp_path), **SETTINGS)
    kernels = [p for p in model.trainer.model.parameters() if p.ndim == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    image = Image.open(next((digits.parent / "classify" / "val").rglob("*.png")))
    result = model.predict(image, imgsz=64, device="cpu", verbose=False)[0]
    assert result.probs.data.sum() == pytest.approx(1, abs=1e-3)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "top-1 of best.pt" in page and "the probability of the right class" in page
    assert page.count('src="data:image/jpeg;base64,') >= 2


def test_regroup_keeps_ultralytics_keys():
    model = YOLO("yolov8n-dualvit.yaml").model
    params = list(model.parameters())
    optimizer = torch.optim.SGD(
        [{"params": params, "param_group": "weight", "use_muon": False, "weight_decay": 0.1}], lr=0.1
    )
    regroup(optimizer, model, 0.1)
    assert {group["param_group"] for group in optimizer.param_groups} == {"weight", "bn"}
    assert all(group["use_muon"] is False for group in optimizer.param_groups)


def test_layer_norms_from_scratch_get_their_own_lr_under_adam_alone():
    model = YOLO("yolov8n-timm.yaml", backbone="pyramid_n").model
    for name, factor in (("AdamW", SCRATCH_LR), ("SGD", 1.0)):
        _, optimizer = groups_of(model, name, from_scratch=True)
        lr = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
        for key, p in model.named_parameters():
            assert lr[id(p)] == pytest.approx(0.01 * (factor if key.startswith("model.0.") and p.ndim >= 2 else 1.0)), (
                key
            )
    _, optimizer = groups_of(model, from_scratch=False)
    assert {group["initial_lr"] for group in optimizer.param_groups} == {0.01}
    for name in ("yolov8n-dualvit.yaml", "yolov8m-dualvit.yaml"):  # with batch norms, and S as the paper starts it
        _, optimizer = groups_of(YOLO(name).model, from_scratch=True)
        assert {group["initial_lr"] for group in optimizer.param_groups} == {0.01}


class Killed(Exception):
    """Stands for a run that ends after its first epoch."""


class Told(DetectionTrainer):
    """A trainer that knows its model by name alone, and stops once it has built it."""

    def __init__(self, overrides, _callbacks=None):
        self.args, self.resume, self.device = SimpleNamespace(**overrides), False, torch.device("cpu")
        self.data = {"nc": 1, "names": {0: "digit"}, "channels": 3}

    def train(self):
        self.args.meet()  # no one builds before each has begun
        self.args.built.append(self.get_model(cfg="yolov8n-timm.yaml", verbose=False))
        raise InterruptedError


def test_threads_train_the_models_that_they_were_asked_for(digits):
    asked = [("dualvit_n", {}), ("resnet18", {}), ("convnext_atto", {"layer_decay": 0.5})]
    meet, found = Barrier(len(asked), timeout=60).wait, {}

    def run(name, options):
        found[name] = []
        model = YOLO("yolov8n-timm.yaml", backbone=name, **options)
        with pytest.raises(InterruptedError):
            model.train(Told, data=str(digits), meet=meet, built=found[name])

    threads = [Thread(target=run, args=one) for one in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    built = {name: (backbone_of(model).spec["name"], model.yaml.get("layer_decay")) for name, [model] in found.items()}
    assert built == {name: (name, options.get("layer_decay")) for name, options in asked}


def test_a_ddp_worker_gets_the_yaml_and_no_one_else_does(tmp_path, monkeypatch):
    yaml = {"backbone": [[-1, 1, "TimmBackbone", [{"name": "resnet18"}]]], "file": Path("x")}
    monkeypatch.setattr(dist, "USER_CONFIG_DIR", tmp_path)
    trainer = SimpleNamespace(args=SimpleNamespace(), model=None, callbacks={}, hub_session=None)
    before = dict(os.environ)
    with starts_from(yaml):
        script = Path(dist.generate_ddp_file(trainer)).read_text()
    assert dict(os.environ) == before
    assert start_yaml() is None
    with monkeypatch.context() as worker:
        worker.setenv(YAML_ENV, "")
        exec(script, {"__name__": "imported"})
        assert start_yaml() == yaml | {"file": "x"}
    assert YAML_ENV not in Path(dist.generate_ddp_file(trainer)).read_text()
