"""Runs: what checkpoints hold, export, and mistakes that cost one line and nothing else."""

import errno
import os
import re
import shutil
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

import timm
from tiny_runs import Stop, content, cut_at, recipe, require_equal

from dualvit import archives
from dualvit.files import atomic, read_json, read_yaml
from dualvit.finite import NonFiniteLossError
from dualvit.locks import only_writer
from dualvit.recipes import run
from dualvit.recipes.checkpoints import latest, require_same_run
from dualvit.recipes.classify.data import ClassifyData
from dualvit.recipes.classify.task import Classify
from dualvit.recipes.config import plain
from dualvit.recipes.loading import UnreadableError


def test_a_checkpoint_says_where_it_comes_from(root, straight):
    found = content(straight / "best.ckpt")["dualvit"]  # weights_only: nothing in it is pickled
    assert found["recipe"]["data"]["batch"] == 4
    assert found["classes"] == ["bright", "dark"]
    assert found["images"] == 12
    assert {"versions", "commit", "date", "hardware"} <= set(found["environment"])
    assert {"best", "history", "recipe", "environment"} <= set(read_json(straight / "results.json"))


def test_another_seed_is_another_run_and_the_same_is_the_same(root, straight, tmp_path):
    short = recipe(root, "schedule.epochs=1", "trainer.deterministic=true")
    first = run.fit(short, tmp_path / "a").state_dict()
    second = run.fit(short, tmp_path / "b").state_dict()
    require_equal(dict(first), dict(second))
    other = run.fit(recipe(root, "schedule.epochs=1", "seed=1"), tmp_path / "c").state_dict()
    assert not torch.equal(first["network.head.weight"], other["network.head.weight"])


def test_export_reads_in_timm_and_as_a_backbone(straight, tmp_path):
    from dualvit.backbones.timm_model import plan_backbone
    from dualvit.weights import load_backbone

    count, missing, options = run.export(straight / "best.ckpt", tmp_path / "n.safetensors")
    task = run.load(straight / "best.ckpt")
    model = timm.create_model("dualvit_n", checkpoint_path=tmp_path / "n.safetensors", **options).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(image), task.network(image), rtol=0, atol=1e-5)
    assert (count, missing, options["num_classes"]) == (len(model.state_dict()), (), 2)
    plan = plan_backbone("dualvit_n")
    assert load_backbone(plan.build(), tmp_path / "n.safetensors", plan.full_network()).missing == ()
    with pytest.raises(ValueError, match=r"end its name in .safetensors"):
        run.export(straight / "best.ckpt", tmp_path / "n.pth")


@pytest.mark.parametrize(("name", "classes"), [("laptop-detect", ("a", "b")), ("laptop-semantic", ("a", "b"))])
def test_export_of_a_detectors_and_a_segmenters_backbone(name, classes, tmp_path):
    from dualvit.backbones.timm_model import plan_backbone
    from dualvit.weights import load_backbone

    settings = run.load_recipe(name, ["data.root=x", "network.name=dualvit_n"])
    task = run.kind(settings.task).TaskType(settings, classes)
    held = {"recipe": plain(settings), "classes": list(classes)}
    torch.save({"dualvit": held, "state_dict": task.state_dict()}, tmp_path / "a.ckpt")
    _, missing, options = run.export(tmp_path / "a.ckpt", tmp_path / "a.safetensors")
    plan = plan_backbone("dualvit_n", {name: value for name, value in options.items() if name != "num_classes"})
    built = plan.build()
    assert load_backbone(built, tmp_path / "a.safetensors", plan.full_network()).missing == ()
    own = task.backbone().state_dict()
    shared = [name for name in built.state_dict() if name in own]
    assert shared and all(torch.equal(built.state_dict()[name], own[name]) for name in shared)
    assert missing == () or any("head" in name or "norm" in name for name in missing)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("network.drop_path=0.3", "network.drop_path was 0.2 and is 0.3"),
        ("schedule.epochs=5", "schedule.epochs was 4 and is 5"),
        ("network.options={}", "network.options.token_label was False and is not given"),
        ("trainer.logger=mlflow", "trainer.logger is 'mlflow'; give csv, tensorboard, wandb or false"),
        ("trainer.max_epochs=3", "set schedule.epochs"),
        ("trainer.limit_train_batches=many", "trainer.limit_train_batches='many': '<=' not supported"),
        ("trainer.strategy=fsdp", "ema is 0.8, which sharded weights (fsdp) do not allow; give ema=null"),
        ("trainer.device=2", "did you mean trainer.devices"),
        ("data.batch=0", "data.batch is 0"),
    ],
)
def test_mistakes_are_one_line(root, straight, change, words):
    before = (straight / "last.ckpt").read_bytes()
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        run.fit(recipe(root, change), straight)
    assert "\n" not in str(error.value)
    assert (straight / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["data=/pets"], "data is '/pets', and has settings of its own; give them as data.NAME=VALUE"),
        (["schedule.steps=5"], "schedule: epochs is 26 and steps 5; give exactly one of them, and null for the other"),
        (["task=detect"], "'task=detect': the task is the recipe's own"),
        (["schedul={epochs: 2}"], "unknown setting 'schedul'; did you mean schedule?"),
        (["network.weights=a/best.ckpt"], "dualvit recipe export a/best.ckpt weights.safetensors"),
    ],
)
def test_settings_that_are_none_are_one_line(changes, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        run.load_recipe("laptop-classify", changes)


def test_what_is_missing_in_a_file_may_be_misspelt(tmp_path):
    (tmp_path / "mine.yaml").write_text("task: classify\nnetwork: {name: dualvit_n}\nshedule: {epochs: 2}\ndata: {}\n")
    with pytest.raises(ValueError, match="unknown setting 'shedule'; did you mean schedule"):
        run.load_recipe(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("network.name=dualvit_q", "dualvit_q"),
        ("network.options={depth: 3}", "dualvit_n does not take network.options {'depth': 3}: "),
        ("optimizer.name=adamq", "unknown optimizer.name 'adamq'; did you mean adam"),
    ],
)
def test_names_that_timm_does_not_know(root, tmp_path, change, words):
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        run.fit(recipe(root, change), tmp_path)
    assert "required for data config" not in str(error.value)


@pytest.mark.parametrize("first", [0, 1])
def test_settings_that_come_or_go_are_one_difference(root, tmp_path, first):
    common = ("network.options={}", "mix.mixup=0", "mix.cutmix=0")
    pair = recipe(root, *common), recipe(root, *common, "token_labels={maps: m}")
    held = {"recipe": plain(pair[first]), "classes": ["bright", "dark"]}
    torch.save({"dualvit": held}, tmp_path / "last.ckpt")
    require_same_run(pair[first], ("bright", "dark"), tmp_path / "last.ckpt")
    words = ["token_labels was None and is {'maps': 'm'", "token_labels was {'maps': 'm'.* and is None; give another"]
    with pytest.raises(ValueError, match=words[first]):
        require_same_run(pair[1 - first], ("bright", "dark"), tmp_path / "last.ckpt")


def test_epochs_without_validation(root, tmp_path, capsys):
    """They say so, and a run of nothing else does not begin."""
    less = ["network.name=test_convnext", "network.options={}", "schedule.epochs=3", "trainer.precision=16-mixed"]
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # as outside of pytest, which is told to ignore some
        run.fit(recipe(root, *less, "trainer.check_val_every_n_epoch=2"), tmp_path)
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].startswith("test_convnext") and lines[0].endswith("3 epochs of 3 steps of 4 images on cpu")
    assert [line.split("  ")[:2] for line in lines[1::2]] == [
        ["epoch 1, step 3", "not validated"], ["epoch 3, step 9", "not validated"],
    ]  # fmt: skip
    assert lines[2].startswith("epoch 2, step 6  loss ")
    assert said.err.count("warning: ") == 1  # of fp16, which there is none of on a CPU
    assert "fp16 is not supported on CPU. Using `precision='bf16-mixed'` instead." in said.err
    assert read_yaml(tmp_path / "logs/version_0/hparams.yaml")["schedule"]["epochs"] == 3
    with pytest.raises(ValueError, match="check_val_every_n_epoch is 4, and the run has 3 epochs: nothing would be"):
        run.fit(recipe(root, *less, "trainer.check_val_every_n_epoch=4"), tmp_path / "none")


def test_a_run_stays_with_its_classes_and_its_data(root, straight, tmp_path, monkeypatch):
    other = shutil.copytree(root, tmp_path / "other")
    (other / "train" / "dark" / "0.png").unlink()
    with monkeypatch.context() as patch, pytest.raises(Stop):
        cut_at(patch, 4)
        run.fit(recipe(root), tmp_path / "fewer")
    with pytest.raises(ValueError, match="had 12 images to train on when this run began, and has 11"):
        run.fit(recipe(other), tmp_path / "fewer")
    for split in ("train", "val"):
        (other / split / "dark").rename(other / split / "night")
    with pytest.raises(ValueError, match=r"were 2 \(bright, dark\) and are 2 \(bright, night\)"):
        run.fit(recipe(other), straight)


def test_a_damaged_checkpoint_is_put_aside(root, straight, tmp_path, capsys):
    out = shutil.copytree(straight, tmp_path / "run")
    (out / "last.ckpt").write_bytes((straight / "last.ckpt").read_bytes()[:1000])
    run.fit(recipe(root), out)
    said = capsys.readouterr().out
    assert f"continues from {out / 'best.ckpt'}" in said
    assert "last.damaged" in said
    require_equal(content(straight / "last.ckpt")["state_dict"], content(out / "last.ckpt")["state_dict"])


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def no_more_files(path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        return real_require_whole(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def raises(error):
    def fail(*_, **__):
        raise error

    return fail


real_require_whole = archives.require_whole
LIMITS = {
    "memory": ("torch.load", raises(MemoryError()), "Cannot allocate memory; free memory"),
    "mapping": ("torch.load", raises(RuntimeError("unable to mmap 9 bytes")), "Cannot allocate memory; free memory"),
    "open files": (
        "dualvit.archives.require_whole",
        no_more_files,
        "Too many open files; raise the limit of open files",
    ),
    "permission": ("pathlib.Path.open", None, "Permission denied; make it readable"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_limits_of_the_system_stop_with_a_line_and_change_nothing(root, straight, tmp_path, monkeypatch, limit):
    out = shutil.copytree(straight, tmp_path / "run")
    where, how, words = LIMITS[limit]
    real = Path.open

    def denied(self, mode="r", *arguments, **options):
        if self.suffix == ".ckpt":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, mode, *arguments, **options)

    before = contents(out)
    for command in (
        lambda: run.fit(recipe(root), out),
        lambda: run.validate(out / "last.ckpt"),
        lambda: run.export(out / "last.ckpt", tmp_path / "a.safetensors"),
        lambda: list(run.predict(out / "last.ckpt", [root], tmp_path / "predicted")),
    ):
        with (
            monkeypatch.context() as patch,
            pytest.raises(OSError, match=f"^cannot read .*last.ckpt: {words}") as error,
        ):
            patch.setattr(where, how or denied)
            command()
        assert "\n" not in str(error.value)
        assert contents(out) == before
    assert not (tmp_path / "predicted").exists() and not (tmp_path / "a.safetensors").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs a user to change to")
def test_a_file_of_another_user_is_no_damage(straight, tmp_path):
    out = shutil.copytree(straight, tmp_path / "run")
    out.chmod(0o777)
    (out / "last.ckpt").chmod(0)
    before = contents(out)
    read, write = os.pipe()
    if not os.fork():
        try:
            os.chdir(out)
            os.setuid(65534)
            found = str(latest(Path(), True))
        except OSError as error:
            found = str(error)
        os.write(write, found.encode())
        os._exit(0)
    assert os.read(read, 1000).decode() == "cannot read last.ckpt: Permission denied; make it readable"
    assert contents(out) == before


def test_one_fit_in_a_folder(root, straight, tmp_path):
    out = shutil.copytree(straight, tmp_path / "run")
    (out / "last.ckpt").write_bytes(b"damaged")  # the second one must not even rename it
    before = contents(out)
    words = r"another dualvit recipe fit \(process \d+\) is at work in .*; wait for it, or give another place"
    with only_writer(out, "dualvit recipe fit"), pytest.raises(RuntimeError, match=words):
        run.fit(recipe(root), out)
    assert contents(out) == before


def test_an_interrupt_in_a_save_keeps_the_old_file(root, tmp_path, monkeypatch):
    real, saved = archives._Summed.write, []

    def write(self, data):
        if self.file.name.endswith("last.ckpt.part") and self not in saved:
            saved.append(self)
        if len(saved) == 2:  # the second epoch's
            raise KeyboardInterrupt
        return real(self, data)

    monkeypatch.setattr(archives._Summed, "write", write)
    with pytest.raises(KeyboardInterrupt):
        run.fit(recipe(root), tmp_path)
    assert content(tmp_path / "last.ckpt")["global_step"] == 3
    assert not list(tmp_path.glob("*.part"))


def test_an_interrupt_in_a_validation_is_one(root, straight, monkeypatch):
    monkeypatch.setattr(Classify, "validation_step", raises(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run.validate(straight / "best.ckpt")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs resource limits")
def test_a_full_disk_keeps_the_previous_checkpoint(root, tmp_path, monkeypatch):
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    real = Classify.on_save_checkpoint
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def on_save_checkpoint(self, checkpoint):
        real(self, checkpoint)
        if self.current_epoch == 1:  # the second epoch's file breaks off after a megabyte
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))

    monkeypatch.setattr(Classify, "on_save_checkpoint", on_save_checkpoint)
    try:
        with pytest.raises(OSError, match=r"cannot write .*\.ckpt: File too large; the previous one is whole") as error:
            run.fit(recipe(root), tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "\n" not in str(error.value)
    assert content(tmp_path / "run" / "last.ckpt")["global_step"] == 3
    assert not list((tmp_path / "run").glob("*.part"))


def test_a_file_that_breaks_off_leaves_the_old_one(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(Stop), atomic(tmp_path / "a") as file:
        file.write(b"new")
        raise Stop
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"old")]


def test_a_folder_that_cannot_be_written(root, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write to .*; give another place"):
        run.fit(recipe(root), tmp_path / "file" / "run")


class Broken:
    """A data set in which some files cannot be read, and one holds NaN."""

    def __init__(self, data, bad=(), nan=None):
        self.data, self.bad, self.nan, self.samples = data, bad, nan, data.samples

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        if index in self.bad:
            raise UnreadableError(f"{self.samples[index][0]}: broken")
        image, label = self.data[index]
        return (image * float("nan") if index == self.nan else image), label


def broken(monkeypatch, **how):
    real = ClassifyData.train_data
    monkeypatch.setattr(ClassifyData, "train_data", lambda self: Broken(real(self), **how))


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_files_are_listed_until_they_are_too_many(root, tmp_path, monkeypatch, workers):
    broken(monkeypatch, bad=(1, 7))
    more = ["schedule.epochs=1", f"data.workers={workers}"]
    run.fit(recipe(root, *more, "data.unreadable=2"), tmp_path / "go")
    assert len((tmp_path / "go" / "unreadable.txt").read_text().splitlines()) == 2
    with pytest.raises(ValueError, match=r"1 others could not be read either, and data.unreadable allows 1") as error:
        run.fit(recipe(root, *more, "data.unreadable=1"), tmp_path / "stop")
    assert "\n" not in str(error.value)


def test_a_nan_names_its_culprit(root, tmp_path, monkeypatch):
    real = Classify.__init__

    def spoil(self, *args):
        real(self, *args)
        torch.nn.init.constant_(self.network.head.bias, float("nan"))

    with monkeypatch.context() as patch, pytest.raises(NonFiniteLossError, match=r"in step 1 .*first in head \(Linear"):
        patch.setattr(Classify, "__init__", spoil)
        run.fit(recipe(root), tmp_path / "weights")
    broken(monkeypatch, nan=7)
    with pytest.raises(NonFiniteLossError, match=r"its input is not: .*train/dark/1\.png"):
        run.fit(recipe(root), tmp_path / "image")


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_reduced_precision_stays_finite(root, tmp_path, precision):
    task = run.fit(
        recipe(root, "schedule.epochs=null", "schedule.steps=10", f"trainer.precision={precision}"), tmp_path
    )
    assert task.history[-1]["step"] == 10
    assert all(np.isfinite(row["loss"]) for row in task.history)


def test_predict_skips_what_it_cannot_read(root, straight, tmp_path, monkeypatch):
    def predict(self, files, out):
        for file in files:
            (out / f"{file.stem}.txt").write_text("seen")
            yield f"{file.name} seen"

    monkeypatch.setattr(Classify, "predict", predict)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    lines = list(run.predict(straight / "best.ckpt", [root / "val" / "dark", bad], tmp_path / "out"))
    assert lines[0].startswith(f"skipped: cannot read the picture {bad}: ")
    assert len(lines) == 6
    assert len(list((tmp_path / "out").iterdir())) == 5
    with pytest.raises(ValueError, match="none of the 1 images can be read"):
        list(run.predict(straight / "best.ckpt", [bad], tmp_path / "out"))
    with pytest.raises(FileNotFoundError, match="no image or folder"):
        list(run.predict(straight / "best.ckpt", [tmp_path / "absent"], tmp_path / "out"))


def test_a_checkpoint_of_something_else(root, straight, tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="no checkpoint of a recipe"):
        run.load(tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="another network than dualvit_t"):
        run.load(straight / "best.ckpt", ["network.name=dualvit_t"])
    with pytest.raises(ValueError, match=r"network.name was .*dualvit_n.* and is .*dualvit_t"):
        run.fit(recipe(root, "network.name=dualvit_t"), straight)
