"""The code of README.md and docs/: blocks run on drawn data, or are at least understood.

README.md runs as a whole. On other pages, commands of a kind that README.md or docs/recipes.md runs are parsed, and
trainings and exports in Python check their settings alone: see `RUN_ON` and `check_settings`.
"""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

pytest.importorskip("ultralytics", reason="needs dualvit[all]")
pytest.importorskip("lightning", reason="needs dualvit[all]")

import cv2
import numpy as np
import timm
import ultralytics
import ultralytics.cfg
import yaml
from command_lines import ROOT, understand
from PIL import Image
from safetensors.torch import save_file

from dualvit.compare import reading
from dualvit.drawn.digits import write_digits
from dualvit.yolo import YOLO
from dualvit_cli import main

FILES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = {str(page.relative_to(ROOT)): page for page in FILES}
TRANSLATED = ".zh-CN."  # in names of pages whose code is that of the English page: tests/test_translations.py
DIAGRAMS = {"docs/architecture.md"}  # pages whose blocks without a language are no code
LANGUAGES = ("python", "sh", "yaml", "text")  # text is a picture of folders, or a reference
# Each command that takes seconds, with the pages that run it; the others are parsed.
RUN_ON = {
    "yolo": {"README.md"},
    "backbones": {"docs/tools.md"},
    "bench": {"README.md"},
    "explain": set(),  # tests/explain runs it
    "compare": {"README.md"},
    "recipe": {"README.md", "docs/recipes.md"},
}

# What a shell block is not run for: a text in it, and the reason. Such blocks are checked alone.
NOT_RUN = {
    "make ": "the demo takes minutes, and `make test` is this suite",
    "pip install": "fetches packages",
    "dualvit predict best.onnx": "tests/deploy/test_predictor.py predicts",
    "dualvit serve": "does not end; tests/serve asks one",
    "dualvit app": "does not end; tests/app opens the page",
    "/shared/pictures": "a folder that several machines share; tests/batch asks about pictures",
    "dualvit export dualvit_n --weights": "reads what the last block of the page writes; tests/deploy exports",
    "benchmarks/int8.py": "takes half an hour, and writes docs/results",
    "=/data/": "ImageNet and COCO are fetched by the reader",
    "dualvit_s.pth.tar": "a published file is fetched by the reader",
    "ADEChallengeData2016": "ADE20K is fetched by the reader",
    "s3://": "shards in an object store",
    "torchrun": "two machines",
    "srun": "a cluster",
    "benchmarks/compare/": "trains for up to hours on data that are fetched",
    "dualvit data get": "fetches a data set",
    "dualvit teacher": "reads a package that the reader installs",
    "--student mobilenetv3_small_100": "the second block of docs/start.md is of the same kind",
    "--student yolov8n.yaml": "tests/yolo/test_yolo_pretrain.py trains it",
    "pretrain formulas --student dualvit_n --teacher": "tests/recipes/pretrain trains on formulas",
    "--fuse --rounds 8": "six networks at full size; the first block of docs/speed.md is of the same kind",
    "benchmarks/ranks.py": "reads and writes docs/results; tests/compare/test_statistics.py ranks",
    "benchmarks/starts.py": "trains for an hour",
    "benchmarks/fewer_labels.py": "trains for an hour",
    "benchmarks/exports.py": "exports five networks at full size; tests/deploy/test_exports.py exports",
    "benchmarks/load.py": "takes half an hour; tests/serve has a short form",
    "benchmarks/seen.py": "asks a model that `dualvit demo` leaves, which takes minutes",
    "benchmarks/evidence.py": "asks a model that a training leaves; tests/yolo/test_evidence_export.py asks one",
    "doctor data.yaml --model": "asks a model that a training leaves; tests/doctor asks one",
    "benchmarks/doctor.py": "trains for half an hour",
    "benchmarks/choices.py": "trains for an hour",
    "benchmarks/families.py": "takes an hour, and writes docs/results",
    "benchmarks/null.py": "takes a minute, and writes docs/results",
    "benchmarks/make_starts.py": "takes hours, and writes into the package",
    "benchmarks/free_pictures.py": "fetches packages",
    "data cutouts scenes": "tests/drawn/test_cutouts.py pastes cut-outs that it draws",
}
# What makes a block small: a text in the documents, and what runs instead of it.
QUICK = "batch=4 workers=0 plots=False"
SMALL = {
    "epochs=100, imgsz=640": f"epochs=1, imgsz=64, {QUICK.replace(' ', ', ')}",
    'export(format="onnx"': 'export(imgsz=64, format="onnx"',
    "--minutes 15": "--epochs 1 --set data.image_size=64 --set data.batch=4 --set data.samples=8",
    "digits digits --images 400": "digits digits --images 6 --size 64",
    "scenes --images 400 --size 320": "scenes --images 6 --size 64",
    "imgsz=320 epochs=30": f"imgsz=64 epochs=1 {QUICK}",
    "data=data.yaml epochs=100": f"data=data.yaml imgsz=64 epochs=1 {QUICK}",
    "dualvit_s,swin_tiny_patch4_window7_224 --image-size 224,640 --batch 8": "dualvit_n --image-size 64 --rounds 2",
    "roofline.py dualvit_s": "roofline.py dualvit_n --size 64 --batch 1 --passes 1",
    "recipe fit laptop-classify": "recipe fit laptop-classify --set schedule.epochs=1 --set data.image_size=32 "
    "--set data.batch=4",
    "compare digits --set epochs=3": "compare digits --set epochs=1",
    "images: 2000": "images: 20",
    "[dualvit_n, mobilenetv3_small_100, resnet18]": "[test_resnet]",
    "epochs: 10\nimage_size: 64\nseeds: [0, 1, 2]": "epochs: 1\nimage_size: 32\nseeds: [0]",
}


def blocks(page):
    """The language and the text of each block of code."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.M | re.S)


def commands(text):
    """The command lines of a shell block as words."""
    lines = (shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines())
    return [words for words in lines if words]


def small(text):
    for old, new in SMALL.items():
        text = text.replace(old, new)
    return text


def not_run(text):
    return [why for mark, why in NOT_RUN.items() if mark in text]


# ---- every command is understood


@pytest.mark.parametrize("name", PAGES)
def test_shell_blocks_are_understood(name):
    for language, text in blocks(PAGES[name]):
        assert language in LANGUAGES or name in DIAGRAMS, f"{name} has a block that no test reads: {text}"
        for words in commands(text) if language == "sh" else ():
            understand(words)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    text = PAGES[name].read_text()
    targets = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text)
    for target in ("".join(pair) for pair in targets):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        page = PAGES[name].parent / path if path else PAGES[name]
        assert page.exists(), f"{name} links to {target}, which is not there"
        if anchor and page.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
            anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor in anchors, f"{name} links to {target}; the page has {', '.join(anchors)}"


@pytest.mark.parametrize("name", [name for name in PAGES if TRANSLATED not in name])
def test_lines_are_no_longer_than_100(name):
    """Of text; a command may take the line that it needs, and a Chinese paragraph is one line."""
    text = re.sub(
        r"^```.*?^```$", lambda block: "\n" * block[0].count("\n"), PAGES[name].read_text(), flags=re.M | re.S
    )
    for number, line in enumerate(text.splitlines(), 1):
        table_or_html = line.lstrip().startswith(("|", "<"))
        assert len(line) <= 100 or table_or_html, f"{name}, line {number} has {len(line)} characters"


@pytest.mark.parametrize("name", PAGES)
def test_commands_in_sentences_are_understood(name):
    text = re.sub(r"^```.*?^```$", "", PAGES[name].read_text(), flags=re.M | re.S)
    for span in re.findall(r"`([^`]+)`", text):
        if re.match(r"(dualvit|make|pip install|tensorboard|python benchmarks/\S+|\S*python -m) ", span):
            understand(shlex.split(span), whole=False)


def test_commands_in_help_and_comments_are_understood():
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.yaml"), *(ROOT / "benchmarks").rglob("*.*")]
    found = []
    for file in files:
        text = re.sub(r"\\{1,2}\n\s*", "", file.read_text(errors="ignore"))
        found += re.findall(r"`((?:dualvit|python benchmarks/\S+) [^`{}|]+)`|^#? +(dualvit \w+ \w.*)$", text, re.M)
    lines = {" ".join("".join(pair).split()) for pair in found}
    assert len(lines) > 10
    for line in sorted(lines):
        understand(shlex.split(re.sub(r"[.,:;]$| \.\.\.", "", line)), whole=False)


def test_yaml_blocks_load():
    contents = [yaml.safe_load(text) for page in PAGES.values() for lang, text in blocks(page) if lang == "yaml"]
    experiments = [content for content in contents if "models" in content]
    assert experiments
    for content in experiments:
        reading.parse(content)
    for content in contents:  # the rest describes data sets in the YOLO layout
        assert content in experiments or {"train", "val", "names"} <= content.keys()


def test_each_exception_is_needed():
    shell = [text for page in PAGES.values() for language, text in blocks(page) if language == "sh"]
    files = [file.read_text() for file in reading.TEMPLATES.glob("*.yaml")]
    everything = "\n".join([*(text for page in PAGES.values() for _, text in blocks(page)), *files])
    assert [mark for mark in NOT_RUN if not any(mark in text for text in shell)] == []
    assert [old for old in SMALL if old not in everything] == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dualvt bench", "unknown program 'dualvt'"),
        ("dualvit recipes list", "unknown command 'recipes'; did you mean recipe"),
        ("dualvit recipe fti imagenet-s", "unknown command 'fti'"),
        ("dualvit recipe fit imagenet-z", "unknown recipe 'imagenet-z'"),
        ("dualvit recipe fit imagenet-s --set data.roto=x", "unknown setting 'roto'"),
        ("dualvit recipe fit imagenet-s --set data.batch=many", "data.batch is 'many'"),
        ("dualvit recipe fit imagenet-s --set network.name=dualvit_q", "unknown model 'dualvit_q'"),
        ("dualvit recipe fit imagenet-s --set trainer.device=8", "did you mean trainer.devices"),
        ("dualvit recipe predict best.ckpt images --outt x", "No such option"),
        ("dualvit recipe export best.ckpt", "Missing argument"),
        ("dualvit recipe export a.ckpt b.safetensors c", "unexpected extra argument"),
        ("dualvit bench --models dualvit_s --size 224", "it is called --image-size"),
        ("dualvit bench --models dualvit_s --sizes 224", "it is called --image-size"),
        ("dualvit bench --models dualvit_s --batch many", "valid integer"),
        ("dualvit compare benchmarks/compare/digit.yaml", "no experiment at"),
        ("dualvit yolo detekt train", "unknown task or mode 'detekt'"),
        ("dualvit yolo detect train epoch=3", "unknown setting 'epoch'"),
        ("dualvit yolo detect train epochs=many", "epochs"),
        ("dualvit yolo detect train model=yolov8n-dulavit.yaml", "no model YAML yolov8n-dulavit.yaml"),
        ("torchrun --nnodes=2 --nproc-per-core=8 -m dualvit recipe list", "unrecognized arguments"),
        ("torchrun -m dualvit recipe fit imagenet-s --set data.roto=x", "unknown setting 'roto'"),
        ("srun python -m dualvit recipe fit imagenet-z", "unknown recipe"),
        ("python benchmarks/rooflin.py", "no script at"),
        ("python benchmarks/roofline.py --call 12 --sizes 3", "unrecognized arguments"),
        ("make demos", "unknown target 'demos'"),
        ("pip install dualvit[yol]", "unknown extra 'yol'"),
    ],
)
def test_mistakes_in_documents_are_found(line, words):
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(words)):
        understand(shlex.split(line))


# ---- what can run does


def draw(folder, text):
    """Make the files that a page's code names, as far as no command of the page makes them."""
    digits = write_digits(folder / "drawn", 6, 64)
    pictures = sorted((folder / "drawn/images").rglob("*.jpg"))
    (folder / "data.yaml").write_text(f"path: {digits.parent}\n{digits.read_text()}")
    (folder / "image.jpg").write_bytes(pictures[0].read_bytes())
    video = cv2.VideoWriter(str(folder / "video.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 64))
    for picture in pictures:
        video.write(cv2.imread(str(picture)))
    video.release()
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for flower in ("rose", "tulip"):
            (folder / "flowers" / split / flower).mkdir(parents=True)
            for number in range(12):
                pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "flowers" / split / flower / f"{number}.jpg")
    shutil.copytree(digits.parent / "images", folder / "pictures")
    weights = {
        "OUT": "dualvit_s",
        "lite2": "tf_efficientnet_lite2",
        "dualvit_s": "dualvit_s",
        "swin": "swin_tiny_patch4_window7_224",
    }
    for name, network in weights.items():
        if f"{name}.safetensors" in text:
            save_file(timm.create_model(network).state_dict(), folder / f"{name}.safetensors")
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")


def run(line, log):
    """Run a command line here, as a shell in the working directory would; return what it printed and logged."""
    words = [os.path.expandvars(word) for word in line]
    words, target = (words[: words.index(">")], Path(words[-1])) if ">" in words else (words, None)
    out, err, status = io.StringIO(), io.StringIO(), 0
    log.clear()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", words[words[0] == "python" :])
        for owner, name in ((ultralytics, "YOLO"), (ultralytics.cfg, "ARGV")):  # what `dualvit yolo` replaces
            patch.setattr(owner, name, getattr(owner, name))
        try:
            main() if words[0] == "dualvit" else _script(words[1:], out, err)
        except SystemExit as end:
            status = end.code or 0
    assert status == 0, f"{shlex.join(words)}: {err.getvalue()[-2000:]}"
    if target:
        target.write_text(out.getvalue())
    return f"{err.getvalue()}{log.text}{out.getvalue()}"


def _script(words, out, err):
    """Run a script in a process of its own: one that times operations replaces them in its own."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    out.write(done.stdout)
    err.write(done.stderr)
    sys.exit(done.returncode)


def results(said, folder, start):
    """What is new in a folder, and named in what a command printed."""
    words = re.sub(r"\x1b\[[0-9;]*m|=", " ", said).split()
    paths = [path for word in words if (path := Path(word.strip("'\",;:()"))).suffix != ".cache" and path.exists()]
    return [path for path in paths if folder in path.resolve().parents and path.stat().st_mtime >= start]


def check_training(model, **settings):
    """Stand in for YOLO's `train`: the settings must be some that Ultralytics knows, and nothing is trained."""
    check_settings(model, **settings)
    model.overrides |= {"data": settings["data"], "imgsz": settings["imgsz"]}  # as after a training


def check_settings(_model, **settings):
    """Stand in for a slow method of YOLO: the settings must be some that Ultralytics knows."""
    ultralytics.cfg.get_cfg(ultralytics.cfg.DEFAULT_CFG_DICT, settings)


def has_code(page):
    """Whether a page has Python, or a command that runs."""
    name = str(page.relative_to(ROOT))
    return TRANSLATED not in name and any(
        language == "python" or (language == "sh" and not not_run(text) and any(runs(name, c) for c in commands(text)))
        for language, text in blocks(page)
    )


def runs(name, words):
    """Whether a page runs a command; the words begin with the program."""
    return words[0] != "dualvit" or name in RUN_ON.get(words[1], {name})


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if has_code(page)])
def test_blocks_run(name, tmp_path, monkeypatch, caplog):
    """In the order of the page, in one folder; each command of ours says where its result is, and it is there."""
    text = PAGES[name].read_text()
    draw(tmp_path, text)
    for file in reading.TEMPLATES.glob("*.yaml"):
        (tmp_path / file.name).write_text(small(file.read_text()))
    monkeypatch.setattr(reading, "TEMPLATES", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    if name != "README.md":
        monkeypatch.setattr(YOLO, "train", check_training)
        monkeypatch.setattr(YOLO, "export", check_settings)
    names: dict = {}
    for language, text in blocks(PAGES[name]):
        if language == "python":
            exec(small(text), names)
        elif language == "sh" and not not_run(text):
            for words in (words for words in commands(small(text)) if runs(name, words)):
                start = time.time() - 0.01  # a file's time is that of the last tick
                said = run(words, caplog)
                if words[0] == "dualvit" and words[1:3] != ["recipe", "list"] and words[1] != "backbones":
                    assert results(said, tmp_path, start), f"{shlex.join(words)} names no result: {said[-2000:]}"
    if name == "README.md":
        assert names["logits"].shape == (1, 10)
        assert [m.shape[1] for m in names["maps"]] == [64, 128, 320, 448]
        assert len(names["results"]) == 1
