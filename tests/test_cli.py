"""The command line: results, and errors that are one line with a non-zero exit."""

import importlib
import io
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

import dualvit as package
from dualvit_cli import main

ultralytics = pytest.importorskip("ultralytics", reason="needs dualvit[yolo]")
cfg = pytest.importorskip("ultralytics.cfg")


def dualvit(*arguments, process=False):
    """Run the command here, or in a process of its own."""
    command = ["dualvit", *map(str, arguments)]
    if process:
        start = [sys.executable, "-c", "from dualvit_cli import main; main()", *command[1:]]
        return subprocess.run(start, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    out, err, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", command)
        for owner, name in ((ultralytics, "YOLO"), (cfg, "ARGV")):  # what `dualvit yolo` replaces
            patch.setattr(owner, name, getattr(owner, name))
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())


def fails(done, *words):
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0
    assert "Traceback" not in done.stderr + done.stdout
    assert len(lines) == 1, done.stderr
    assert all(word in lines[0] for word in words), lines[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"], ["--version"], ["models", "--help"], ["compare", "--help"], ["bench", "--help"], ["yolo", "--help"],
        ["data", "convert", "--help"], ["compare"], ["compare", "--template"], ["demo", "--help"],
        ["convert", "--help"],
        ["yolo", "train", "--help"], ["recipe", "--help"], ["recipe", "list", "--help"], ["recipe", "show", "--help"],
        ["recipe", "validate", "--help"], ["recipe", "predict", "--help"], ["recipe", "export", "--help"],
        ["token-labels", "--help"], ["probe", "--help"], ["bench", "--sizs", "224"], ["recipe", "fit", "--help"],
        ["recipe", "fit", "--ot", "x"], ["eval", "--help"], ["probe", "--sizs", "3"], ["token-labels"],
        ["doctor", "--help"], ["doctor", "--jsn"], ["explain", "--help"], ["explain", "--modl", "x"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_help_and_mistyped_options_import_no_library(arguments):
    libraries = ["torch", "timm", "dualvit", "ultralytics", "numpy", "lightning", "PIL"]
    code = (
        "import sys; from dualvit_cli import main; sys.argv = ['dualvit', *sys.argv[1:]]\n"
        "assert 'pydantic' not in sys.modules\n"  # typer takes it afterwards, to convert what a command is given
        f"try: main()\nfinally: print([name for name in {libraries} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_version():
    done = dualvit("--version")
    assert (done.returncode, done.stdout) == (0, f"dualvit {package.__version__}\n")


def test_recipe_and_classifier_commands():
    done = dualvit("recipe", "list")
    assert done.returncode == 0, done.stderr
    assert "laptop-classify" in done.stdout
    done = dualvit("eval", "--help")
    assert "dualvit eval" in done.stdout
    assert "--unreadable" in done.stdout
    assert dualvit("probe", "--sizs", "3").returncode == 2
    fails(dualvit("recipe", "show", "laptop-clasify"), "laptop-clasify")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "n.pth"
    torch.save({"state_dict": package.create_model("dualvit_n", num_classes=5).state_dict()}, path)
    return path


def test_convert_reports_keys_and_hash(checkpoint, tmp_path):
    from dualvit.weights import sha256

    done = dualvit("convert", checkpoint, tmp_path / "n.safetensors")
    assert done.returncode == 0, done.stderr
    total = len(package.create_model("dualvit_n").state_dict())
    assert f"dualvit_n: {total} of {total} keys" in done.stdout
    assert "missing: none" in done.stdout
    assert "unexpected: none" in done.stdout
    assert sha256(tmp_path / "n.safetensors") in done.stdout


def test_convert_errors_leave_the_target(checkpoint, tmp_path):
    target = tmp_path / "kept.safetensors"
    target.write_bytes(b"earlier result")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(checkpoint.read_bytes()[:1000])
    fails(dualvit("convert", broken, target), "broken.pth is truncated", "fetch it again")
    fails(dualvit("convert", tmp_path / "absent.pth", target), "no checkpoint at", "absent.pth")
    assert target.read_bytes() == b"earlier result"


def test_digits(tmp_path):
    done = dualvit("data", "digits", tmp_path / "digits", "--images", "6", "--size", "64")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "digits" / "data.yaml").exists()
    assert done.stdout.splitlines() == [
        f"6 images in {tmp_path / 'digits'}; train on it with data={tmp_path / 'digits' / 'data.yaml'}"
    ]
    fails(dualvit("data", "digits", tmp_path / "other", "--size", "100"), "size is 100")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], [], ["detect", "train", "--help"]])
def test_yolo_help_is_ours(arguments, monkeypatch):
    from dualvit.yolo.patches import find_yaml
    from dualvit.yolo.stock import derive
    from dualvit.yolo.yaml import OPTIONS

    monkeypatch.setenv("COLUMNS", "80")
    done = dualvit("yolo", *arguments)
    assert done.returncode == 0
    assert all(f"{option}=" in done.stdout for option in OPTIONS)
    assert "dualvit yolo help" in " ".join(done.stdout.split())  # how to see Ultralytics' own
    assert max(map(len, done.stdout.splitlines())) <= 80
    names = set(re.findall(r"yolov8n-[a-z0-9-]+\.yaml", done.stdout))
    assert len(names) == 5
    assert all(find_yaml(name) or derive(name) for name in names)


@pytest.mark.slow
def test_yolo_trains_and_reports_mistakes(tmp_path):

    yaml = tmp_path / "digits" / "data.yaml"
    assert dualvit("data", "digits", yaml.parent, "--images", "6", "--size", "64").returncode == 0
    save_file(package.create_model("dualvit_n").state_dict(), tmp_path / "backbone.safetensors")
    common = [f"data={yaml}", "imgsz=64", "epochs=1", "batch=4", "device=cpu", "workers=0", "plots=False"]
    done = dualvit(
        "yolo", "detect", "train", "model=yolov8n-dualvit.yaml", *common, f"project={tmp_path}", "name=run",
        f"weights={tmp_path / 'backbone.safetensors'}", "layer_decay=0.8", process=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert " of " in done.stdout + done.stderr
    assert "loaded from" in done.stdout + done.stderr
    best = tmp_path / "run" / "weights" / "best.pt"
    before = best.read_bytes()
    wrong = ["yolo", "detect", "train", "model=yolov8n-dulavit.yaml", *common]
    fails(dualvit(*wrong), "did you mean yolov8n-dualvit")
    right = ["yolo", "detect", "train", "model=yolov8n-dualvit.yaml"]
    fails(dualvit(*right, "data=absent.yaml", "device=cpu"), "absent")
    fails(dualvit(*right, *common, "layer_decay=x"), "layer_decay=x")
    assert best.read_bytes() == before


def test_models_lists_all(monkeypatch):
    from dualvit.yolo.patches import yaml_names

    monkeypatch.setattr("dualvit_cli.models.console", Console(width=80))
    done = dualvit("models")
    lines = done.stdout.splitlines()
    rows = {line.split()[0]: line for line in lines if line.strip()}
    listed = {name for name in rows if name.endswith(".yaml")}
    assert set(package.list_models()) < set(rows)
    also = {name.replace(".", f"{suffix}.") for name in listed for suffix in rows[name].split() if suffix[0] == "-"}
    assert listed | also == set(yaml_names())
    assert rows["yolo26n-dualvit.yaml"].rstrip().endswith("on Dual-ViT")
    assert max(map(len, lines)) <= 80


def test_bench(tmp_path):
    done = dualvit("bench", "--models", "dualvit_n,resnet18", "--image-size", "64", "--rounds", "2", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1.85" in done.stdout
    assert (tmp_path / "bench.json").exists()
    fails(dualvit("bench", "--models", "dualvit_n", "--image-size", "100"), "image_size is 100", "such as 96")
    fails(dualvit("bench", "--models", "dualvit_n", "--image-size", "big"), "image-size is 'big'", "whole numbers")
    fails(dualvit("bench", "--models", "dualvit_nn"), "did you mean dualvit_n")
    fails(dualvit("bench", "--models", "dualvit_n", "--device", "cuda:99"), "is not here", "this machine has cpu")


@pytest.mark.parametrize(
    ("where", "arguments"),
    [
        ("dualvit.recipes.run.fit", ["recipe", "fit", "laptop-classify", "--set", "data.root=x"]),
        ("dualvit.recipes.run.load", ["recipe", "validate", "best.ckpt"]),
        ("dualvit.recipes.classify.evaluate.evaluate", ["eval", "best.ckpt", "data"]),
        ("dualvit.recipes.classify.teacher.write_maps", ["token-labels", "best.ckpt", "data", "maps"]),
        ("dualvit.drawn.digits.write_digits", ["data", "digits", "folder"]),
        ("dualvit.drawn.varied.write_scenes", ["data", "scenes", "folder"]),
        ("dualvit.data.convert.convert", ["data", "convert", "x", "out", "--to", "yolo"]),
        ("dualvit.bench.bench.bench", ["bench", "--models", "dualvit_n", "--out", "out"]),
        ("dualvit.compare.runner.run", ["compare", "experiment.yaml"]),
        ("dualvit.weights.convert", ["convert", "a.pth", "b.safetensors"]),
        ("dualvit_cli.yolo.run", ["yolo", "train"]),
    ],
)
def test_an_interrupt_is_130_and_one_word(where, arguments, monkeypatch, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    pytest.importorskip("lightning", reason="needs dualvit[recipes]")
    module, _, name = where.rpartition(".")
    monkeypatch.setattr(importlib.import_module(module), name, interrupt)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()  # what is not there is told before anything is imported
    (tmp_path / "best.ckpt").touch()
    (tmp_path / "experiment.yaml").write_text("task: classify\ndata: digits\nepochs: 1\nmodels: [dualvit_n]\n")
    done = dualvit(*arguments)
    assert done.returncode == 130
    assert done.stdout.strip().splitlines()[-1] == "stopped" and not done.stderr


def test_an_interrupt_that_an_import_wraps_is_one(monkeypatch, tmp_path):
    class Interrupts:
        def __set_name__(self, owner, name):
            raise KeyboardInterrupt

    def convert(*_):
        type("Imported", (), {"attribute": Interrupts()})  # Python makes a RuntimeError of it, before 3.12

    monkeypatch.setattr("dualvit.weights.convert", convert)
    done = dualvit("convert", "a.pth", tmp_path / "b.safetensors")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (130, "stopped", "")


def test_a_path_is_printed_as_it_is(tmp_path):
    folder = tmp_path / "[red]x [y]"
    done = dualvit("data", "digits", folder, "--images", 5, "--size", 64)
    assert done.returncode == 0, done.stderr
    assert f"5 images in {folder}; train on it" in done.stdout
