"""Crafted checkpoints of recipes: by every door one line, and nothing that they name is run, asked or removed."""

import copy
import pickle
import sys

import pytest
import torch

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

from tiny_runs import content, recipe

import dualvit_cli
from dualvit.recipes import run
from dualvit.recipes.classify.evaluate import Look, open_source
from dualvit.recipes.content import to_store

URL = "http://dualvit.invalid/x.pth"


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def of_run(*path, value):
    """Set one value below `dualvit`."""

    def change(found):
        inner = found["dualvit"]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        return found

    return change


def option(**options):
    return of_run("recipe", "network", "options", value=options)


def weight(make):
    def change(found):
        name = "network.head.weight"
        found["state_dict"][name] = make(found["state_dict"][name].clone())
        return found

    return change


def with_nan(tensor):
    tensor[0, 0] = float("nan")
    return tensor


def without(*path):
    def change(found):
        inner = found
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        return found

    return change


# What is refused when a checkpoint is opened to be validated, exported, evaluated, and to predict.
OPENED = {
    "pretrained": option(pretrained=True),
    "pretrained_cfg": option(pretrained=True, pretrained_cfg={"url": URL}),
    "pretrained_cfg_overlay": option(pretrained=True, pretrained_cfg_overlay={"url": URL}),
    "pretrained_cfg_overlay to a file": option(pretrained_cfg_overlay={"file": "EVIL"}),
    "checkpoint_path": option(checkpoint_path="EVIL"),
    "cache_dir": option(cache_dir="CANARY"),
    "a hub": of_run("recipe", "network", "name", value="hf-hub:someone/something"),
    "a local folder": of_run("recipe", "network", "name", value="local-dir:CANARY"),
    "a long name": of_run("recipe", "network", "name", value="x" * 5000),
    "an unknown setting of token labels": of_run("recipe", "token_labels", value={"maps": "", "evil": 1}),
    "a name that is a list": of_run("recipe", "network", "name", value=["dualvit_n"]),
    "another network": of_run("recipe", "network", "name", value="dualvit_t"),
    "no network": of_run("recipe", "network", value=None),
    "an option with a URL": option(mixer=URL),
    "an option with a path": option(mixer="../CANARY"),
    "options that are a list": of_run("recipe", "network", "options", value=[1]),
    "blocks without end": option(depths=[65536] * 4),
    "huge channels": option(dims=[65536] * 4),
    "an infinite number": option(drop_rate=float("inf")),
    "an unknown option": option(evil=1),
    "an unknown task": of_run("recipe", "task", value="os"),
    "a task that is a path": of_run("recipe", "task", value="..run"),
    "an unknown setting": of_run("recipe", "evil", value=1),
    "data that are none": of_run("recipe", "data", value="x"),
    "classes that lead out": of_run("classes", value=["../../CANARY", "b"]),
    "classes that are numbers": of_run("classes", value=[1, 2]),
    "classes that are one text": of_run("classes", value="ab"),
    "too many classes": of_run("classes", value=["a", "b", "c"]),
    "history that is none": of_run("history", value="x"),
    "history without steps": of_run("history", value=[{"top1": 1.0}]),
    "no recipe": without("dualvit", "recipe"),
    "no classes": without("dualvit", "classes"),
    "no weights": without("state_dict"),
    "a weight less": without("state_dict", "network.head.weight"),
    "NaN": weight(with_nan),
    "another shape": weight(lambda tensor: tensor[:, :1]),
    "another kind": weight(lambda tensor: tensor.int()),
    "a weight that is a text": weight(lambda tensor: "x"),
    "a run that is a list": lambda found: found | {"dualvit": []},
    "a list": lambda found: [found],
}
# What is refused when a run goes on from it.
RESUMED = {
    "removes another file": lambda found: lightning(found, kth_best_model_path="CANARY"),
    "removes beyond its folder": lambda found: lightning(found, kth_best_model_path="FOLDER/../../CANARY"),
    "removes its folder": lambda found: lightning(found, kth_best_model_path="FOLDER"),
    "other paths": lambda found: lightning(found, best_k_models={"CANARY": torch.tensor(0.0)}),
    "a last one": lambda found: lightning(found, last_model_path="CANARY"),
    "callbacks that are none": lambda found: found | {"callbacks": [1]},
    "a callback that is none": lambda found: found | {"callbacks": {"ModelCheckpoint": 1}},
    "no loops": without("loops"),
    "loops of no run": lambda found: found | {"loops": {"fit_loop": {"a": 1}}},
    "no optimizer": lambda found: found | {"optimizer_states": []},
    "an optimizer of none": lambda found: found | {"optimizer_states": [{"state": {}, "param_groups": []}]},
    "an epoch that is a text": lambda found: found | {"epoch": "one"},
    "history of another task": of_run("history", value=[{"epoch": 1, "step": 1, "miou": 0.5}]),
    "NaN": weight(with_nan),
}


def lightning(found, **paths):
    name = next(name for name, state in found["callbacks"].items() if "best_model_path" in state)
    found["callbacks"][name] |= paths
    return found


def named(value, words):
    """The same content with texts in place of others."""
    if isinstance(value, str):
        for word, text in words.items():
            value = value.replace(word, str(text))
        return value
    if isinstance(value, dict):
        return {named(key, words): named(item, words) for key, item in value.items()}
    return type(value)(named(item, words) for item in value) if isinstance(value, list | tuple) else value


def crafted(straight, tmp_path, canary, change, file=None):
    file = file or tmp_path / "crafted.ckpt"
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil(canary)))
    words = {"CANARY": canary, "EVIL": tmp_path / "evil.pt", "FOLDER": file.parent}
    torch.save(named(change(copy.deepcopy(content(straight / "last.ckpt"))), words), file)
    return file


def refused(door, file):
    with pytest.raises((ValueError, OSError)) as error:
        door()
    assert "\n" not in str(error.value)
    assert file.name in str(error.value)
    assert len(str(error.value)) < 700


@pytest.mark.parametrize("name", OPENED)
def test_what_is_not_opened(straight, tmp_path, canary, name):
    refused(lambda: run.load(crafted(straight, tmp_path, canary, OPENED[name])), tmp_path / "crafted.ckpt")


@pytest.mark.parametrize("name", ["pretrained_cfg_overlay", "blocks without end", "NaN"])
def test_all_doors_are_one(straight, root, tmp_path, canary, name):
    file = crafted(straight, tmp_path, canary, OPENED[name])
    picture = next(root.rglob("*.png"))
    for door in (
        lambda: run.validate(file, [f"data.root={root}"]),
        lambda: list(run.predict(file, [picture], tmp_path / "out")),
        lambda: run.export(file, tmp_path / "out.safetensors"),
        lambda: open_source(Look(str(file)), None),
    ):
        refused(door, file)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("name", RESUMED)
def test_what_a_run_does_not_go_on_from(straight, root, tmp_path, canary, name):
    out = tmp_path / "out"
    out.mkdir()
    precious = tmp_path / "precious"
    precious.write_text("mine")
    file = crafted(straight, tmp_path, canary, RESUMED[name], out / "last.ckpt")
    before = file.read_bytes()
    refused(lambda: run.fit(recipe(root), out), file)
    assert file.read_bytes() == before
    assert precious.read_text() == "mine"


@pytest.mark.parametrize(
    "data",
    [
        {"val": "pipe:touch CANARY", "root": "shards-{0..1}.tar", "classes": "classes.txt"},
        {"val": "{p,p}ipe:touch CANARY;.tar", "root": "pipe:touch CANARY", "classes": "classes.txt"},
        {"val": "a.tar::pipe:touch CANARY", "root": "a.tar"},
        {"val": f"{URL}.tar", "root": f"{URL}.tar"},
        {"root": URL},
        {"root": r"\\dualvit.invalid\share"},
    ],
)
def test_data_that_only_a_checkpoint_names_are_not_opened(straight, root, tmp_path, canary, monkeypatch, capsys, data):
    def change(found):
        found["dualvit"]["recipe"]["data"] |= {"samples": 8, "val": "val.tar", "classes": "classes.txt"} | data
        return found

    (tmp_path / "classes.txt").write_text("bright\ndark\n")
    monkeypatch.chdir(tmp_path)
    file = crafted(straight, tmp_path, canary, change)
    refused(lambda: run.validate(file), file)
    monkeypatch.setattr(sys, "argv", ["dualvit", "recipe", "validate", str(file)])
    with pytest.raises(SystemExit) as end:
        dualvit_cli.main()
    assert end.value.code == 1
    assert "not opened" in capsys.readouterr().err
    if "val" in data and data["root"] != f"{URL}.tar":
        refused(lambda: run.validate(file, ["data.classes=classes.txt"]), file)
    assert run.validate(file, [f"data.root={root}"])["top1"] >= 0


def test_where_a_run_ran_is_not_where_it_is_validated(straight, root, tmp_path, canary):
    trainer = {"devices": 64, "strategy": "ddp", "num_nodes": 8, "logger": "wandb", "limit_val_batches": 0}
    file = crafted(straight, tmp_path, canary, of_run("recipe", "trainer", value=trainer))
    assert run.validate(file, [f"data.root={root}"]) == run.validate(straight / "last.ckpt")


def test_a_run_that_began_with_pretrained_weights_goes_on(root, tmp_path, monkeypatch):
    """What is stored does not say so, and the same recipe is the same run; what cannot be stored is not trained."""
    kept = to_store(recipe(root, "network.options={pretrained: true, layer_scale: 0.1}"))
    assert kept["network"]["options"] == {"layer_scale": 0.1}
    with pytest.raises(ValueError, match=r"pretrained_cfg_overlay.*give network.weights=FILE"):
        run.prepare(recipe(root, f"network.options={{pretrained_cfg_overlay: {{url: '{URL}'}}}}"), None)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_is_not_unpickled(tmp_path, root, canary, legacy):
    file = tmp_path / "last.ckpt"
    torch.save({"dualvit": Evil(canary)}, file, _use_new_zipfile_serialization=not legacy)
    refused(lambda: run.validate(file), file)
    refused(lambda: open_source(Look(str(file)), None), file)
