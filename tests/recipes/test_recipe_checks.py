"""A mistake in a recipe or a comparison is told before torch, timm or Lightning is imported."""

import inspect
import subprocess
import sys

import pytest

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

import lightning
import timm
from timm.optim import list_optimizers

from dualvit.recipes import checks

RECIPE = "task: classify\nnetwork: {name: dualvit_n}\nschedule: {epochs: 1}\ndata: {root: .}\n"
EXPERIMENT = "engine: recipe\ntask: classify\ndata: digits\nepochs: 1\nmodels: [dualvit_n]\n"
CALLS = """
import sys
from dualvit_cli import main
heavy = ("torch", "timm", "torchvision", "lightning", "ultralytics")
for line in sys.stdin.read().splitlines():
    sys.argv = ["dualvit", *line.split("|")]
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    print("STATUS", status, *[name for name in heavy if name in sys.modules], file=sys.stderr, flush=True)
"""


def told(lines, folder):
    """What each command line says as an error, its exit status, and which large libraries are imported by then."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS], input="\n".join(lines), cwd=folder, capture_output=True, text=True, timeout=120
    )
    blocks = done.stderr.split("STATUS ")
    states = [block.partition("\n")[0] for block in blocks[1:]]
    said = [block.partition("\n")[2] if number else block for number, block in enumerate(blocks[:-1])]
    return list(zip(said, states, strict=True)), done.stdout


FIT = "recipe|fit|laptop-classify"
MISTAKES = [
    ("recipe|fit|laptop-clasify", "unknown recipe 'laptop-clasify'; did you mean laptop-classify"),
    ("recipe|show|laptop-clasify", "unknown recipe 'laptop-clasify'"),
    (f"{FIT}|--set|data.roto=x", "unknown setting 'roto'; did you mean root?"),
    ("recipe|show|laptop-detect|--set|head.chanels=8", "unknown setting 'chanels'; did you mean channels?"),
    (f"{FIT}|--set|token_labels.mapps=x", "unknown setting 'mapps'; did you mean maps?; token_labels has maps"),
    (f"{FIT}|--set|optimizer.lr=-1", "optimizer.lr is -1: input should be greater than 0"),
    (f"{FIT}|--set|optimizer.lr=fast", "optimizer.lr is 'fast'"),
    (f"{FIT}|--set|data.batch", "changes nothing; write key=value"),
    (f"{FIT}|--set|data.batch=[1", "is not valid YAML"),
    (FIT, "data.root is missing; name the data set: data.root=folder"),
    (f"{FIT}|--set|data.root=", "data.root is"),
    (f"{FIT}|--set|data.root=absent", "no data set at absent; give data.root=FOLDER with train/CLASS/ and val/CLASS/"),
    ("recipe|fit|laptop-detect|--set|data.root=absent", "no data set at absent; give data.root=data.yaml"),
    ("recipe|fit|laptop-semantic|--set|data.root=absent", "no data set at absent; give data.root=FOLDER with images/"),
    (f"{FIT}|--set|data.root=.|--set|network.name=dualvit_q", "unknown model 'dualvit_q'; did you mean dualvit_"),
    ("recipe|show|laptop-detect|--set|network.name=resnet1", "unknown model 'resnet1'; did you mean resnet1"),
    (f"{FIT}|--set|data.root=.|--set|network.weights=absent.pth", "no weights at absent.pth"),
    (f"{FIT}|--set|data.root=.|--set|optimizer.name=adamq", "unknown optimizer.name 'adamq'; did you mean adam"),
    (f"{FIT}|--set|data.root=.|--set|trainer.device=2", "did you mean trainer.devices"),
    (f"{FIT}|--set|data.root=.|--set|trainer.max_epochs=2", "trainer.max_epochs cannot be set: set schedule.epochs"),
    (
        f"{FIT}|--set|data.root=.|--set|trainer.logger=mlflow",
        "trainer.logger is 'mlflow'; give csv, tensorboard, wandb or false",
    ),
    (
        f"{FIT}|--set|data.root=.|--set|trainer.strategy=fsdp|--set|ema=0.9",
        "ema is 0.9, which sharded weights (fsdp) do not allow",
    ),
    ("recipe|fit|imagenet-s|--set|data.root=.", "token_labels.maps is missing"),
    ("recipe|fit|imagenet-s|--set|data.root=.|--set|token_labels.maps=absent", "no label maps in absent"),
    (f"{FIT}|--set|data.root=a-{{0..3}}.tar", "shards need data.samples"),
    ("recipe|fit|task.yaml", "unknown task 'clasify'"),
    ("recipe|fit|list.yaml", "list.yaml holds no settings"),
    ("recipe|fit|broken.yaml", "broken.yaml is not valid YAML"),
    (f"{FIT}|data.root=.", "'data.root=.' stands alone; write --set data.root=."),
    (f"{FIT}|--set|network.checkpoint=a.pth", "unknown setting 'checkpoint'; it is called weights"),
    (f"{FIT}|--set|network.checkpointing=true", "unknown setting 'checkpointing'; it is called grad_checkpointing"),
    ("bench|--models|dualvit_n|--sizes|224", "unknown option --sizes; it is called --image-size"),
    ("bench|--models|dualvit_n|--checkpointing=all", "unknown option --checkpointing; it is called --grad-chec"),
    ("compare", "no experiment is named; give a YAML file"),
    ("compare|--template|digts", "unknown template 'digts'; did you mean digits?"),
    ("compare|digits|epochs=3", "'epochs=3' stands alone; write --set epochs=3"),
    ("compare|digits|--set|epoch=3", "unknown setting 'epoch'; did you mean epochs?"),
    ("recipe|validate|absent.ckpt", "no checkpoint at absent.ckpt"),
    ("recipe|predict|absent.ckpt|images", "no checkpoint at absent.ckpt"),
    ("recipe|export|absent.ckpt|a.safetensors", "no checkpoint at absent.ckpt"),
    ("bench|--models|dualvit_q", "unknown model 'dualvit_q'; did you mean dualvit_"),
    ("bench|--models|dualvit_n|--image-size|big", "image-size is 'big'; give whole numbers"),
    ("compare|absent.yaml", "no experiment at absent.yaml"),
    ("compare|epoch.yaml", "neither epochs nor minutes is given"),
    ("compare|reference.yaml", "reference is 'resnet', no label of a model; give one of dualvit_n"),
    ("compare|data.yaml", "no data set at absent"),
    ("compare|detect.yaml", "no data set at absent.yaml"),
    ("compare|model.yaml", "unknown model 'dualvit_q'; did you mean dualvit_"),
    ("compare|broken.yaml", "broken.yaml is not valid YAML"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    files = {
        "mine": RECIPE, "task": RECIPE.replace("classify", "clasify"), "list": "- a\n", "broken": "task: [\n",
        "epoch": EXPERIMENT.replace("epochs", "epoch"), "reference": f"{EXPERIMENT}reference: resnet\n",
        "data": EXPERIMENT.replace("digits", "absent"), "model": EXPERIMENT.replace("dualvit_n", "dualvit_q"),
        "detect": EXPERIMENT.replace("classify", "detect").replace("digits", "absent.yaml"),
    }  # fmt: skip
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    lines = [*(line for line, _ in MISTAKES), "recipe|show|mine.yaml|--set|trainer.devices=2", "recipe|list"]
    found, out = told(lines, folder)
    assert not any(path.is_dir() for path in folder.iterdir())  # no empty run is left behind
    return dict(zip(lines, found, strict=True)), out


@pytest.mark.parametrize(("line", "words"), MISTAKES, ids=lambda text: text.replace("|", " "))
def test_mistakes_are_told_before_large_libraries_are_imported(answers, line, words):
    said, state = answers[0][line]
    errors = [row for row in said.splitlines() if row.strip()]
    assert state == "1"  # and none of the libraries after it
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert words in errors[0]


def test_show_and_list_need_no_large_library_either(answers):
    assert [answers[0][line][1] for line in list(answers[0])[-2:]] == ["0", "0"]
    assert "devices: 2" in answers[1]
    assert "laptop-classify" in answers[1]


def test_the_package_registers_its_models_after_an_early_check():
    code = (
        "import sys; from dualvit_cli import main; sys.argv = 'dualvit recipe show laptop-classify'.split()\n"
        "try: main()\nexcept SystemExit: assert 'torch' not in sys.modules\n"
        "import timm, dualvit; from dualvit.recipes import config; assert config is dualvit.recipes.config\n"
        "print(timm.is_model('dualvit_n'), dualvit.create_model('pvt_tiny', num_classes=0).num_classes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "True 0", done.stderr


def test_names_are_those_of_the_libraries():
    """What is read from the files of timm and Lightning is what these say of themselves."""
    modules = {name: timm.model_entrypoint(name).__module__ for name in timm.list_models()}  # tests may add their own
    assert checks.model_names() == {name for name, at in modules.items() if at.startswith(("timm.", "dualvit."))}
    for name in ("vit_base_patch16_224.augreg_in21k", "convnext_tiny_in22ft1k"):  # a tag; and one that timm renamed
        assert timm.is_model(name.split(".")[0])
        checks.require_model(name)
    for name in list_optimizers():
        checks.require_optimizer(name)
    assert checks.trainer_settings() == list(inspect.signature(lightning.Trainer.__init__).parameters)[1:]
