"""A run that was stopped, in whatever way, ends with the weights of one that was not."""

import importlib.util
import io
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

from tiny_runs import Stop, changes, content, cut_at, recipe, require_equal

from dualvit.recipes import run
from dualvit.recipes.classify.task import Classify


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "more"), [(6, []), (4, ["data.workers=2"]), (4, ["schedule.epochs=null", "schedule.steps=8"])]
)
def test_a_resumed_run_equals_a_straight_one(root, straight, tmp_path, monkeypatch, step, more):
    """Two epochs, and two more, are four; so it is after a cut in mid-epoch, and where the last epoch has two steps."""
    reference = straight
    if more:
        reference = tmp_path / "straight"
        run.fit(recipe(root, *more), reference)
    with monkeypatch.context() as patch:
        cut_at(patch, step)
        with pytest.raises(Stop):
            run.fit(recipe(root, *more), tmp_path / "cut")
    task = run.fit(recipe(root, *more), tmp_path / "cut")
    assert [row["epoch"] for row in task.history] == list(range(1, len(task.history) + 1))
    one, other = content(reference / "last.ckpt"), content(tmp_path / "cut" / "last.ckpt")
    require_equal(one, other)
    assert other["global_step"] == (8 if "schedule.steps=8" in more else 12)
    again = run.fit(recipe(root, *more), tmp_path / "cut")  # a finished run stays as it is
    assert again.history == task.history
    require_equal(one, content(tmp_path / "cut" / "last.ckpt"))


def test_the_last_epoch_is_kept_where_it_is_not_the_best(root, tmp_path, monkeypatch):
    real = Classify.scores
    monkeypatch.setattr(Classify, "scores", lambda self: {**real(self), "top1": 0.5})
    run.fit(recipe(root, "schedule.epochs=2"), tmp_path)
    assert [content(tmp_path / f"{name}.ckpt")["global_step"] for name in ("best", "last")] == [3, 6]


@pytest.mark.slow
def test_killed_in_mid_epoch_the_same_command_goes_on(root, straight, tmp_path):
    out = tmp_path / "killed"
    slow = (
        "import time; from dualvit.recipes.classify.task import Classify as C; real = C.training_step\n"
        "def step(self, batch, index):\n"
        "    if self.global_step == 4: print('HERE', flush=True); time.sleep(60)\n"
        "    return real(self, batch, index)\n"
        "C.training_step = step\n"
    )
    arguments = ["recipe", "fit", "laptop-classify", *(f"--set={c}" for c in changes(root)), "--out", str(out)]
    code = f"import sys, torch; torch.set_num_threads(1); sys.argv[1:] = {arguments!r}\n"
    code += "{}from dualvit_cli import main; main()"
    with subprocess.Popen([sys.executable, "-c", code.format(slow)], stdout=subprocess.PIPE, text=True) as process:
        assert any("HERE" in line for line in process.stdout)
        process.send_signal(signal.SIGKILL)
    assert content(out / "last.ckpt")["global_step"] == 3
    done = subprocess.run([sys.executable, "-c", code.format("")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"continues from {out / 'last.ckpt'}" in done.stdout
    require_equal(content(straight / "last.ckpt"), content(out / "last.ckpt"))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_killed_at_random_it_ends_with_the_same_bits(tmp_path):
    """A short form of benchmarks/kills.py: two kills, at moments from the imports to the end."""
    file = Path(__file__).parents[2] / "benchmarks" / "kills.py"
    spec = importlib.util.spec_from_file_location("kills", file)
    kills = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kills)
    lines = kills.verify("recipe", tmp_path, kills=2, epochs=3)
    found = kills.summary(lines)
    assert found["by signal"] == {"SIGKILL": 1, "SIGTERM": 1}
    assert not found["problems"] and not found["tracebacks"] and not found["not clean"], lines


@pytest.fixture(scope="module")
def shards(root, tmp_path_factory):
    """Settings of the pictures as two shards to train on, and one to validate on."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "classes.txt").write_text("bright\ndark\n")
    for split in ("train", "val"):
        for number, file in enumerate(sorted((root / split).rglob("*.png"))):
            label = str(int(file.parent.name == "dark")).encode()
            with tarfile.open(folder / f"{split}-{number % 2 if split == 'train' else 0}.tar", "a") as tar:
                for suffix, data in (("png", file.read_bytes()), ("cls", label)):
                    info = tarfile.TarInfo(f"{number:03}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return [
        f"data.root={folder}/train-{{0..1}}.tar", f"data.val={folder}/val-0.tar", "data.samples=12", "data.shuffle=4",
        f"data.classes={folder / 'classes.txt'}", "network.name=test_convnext", "network.options={}",
        "augment.erasing=0.5",
    ]  # fmt: skip


@pytest.mark.parametrize(("step", "more"), [(6, []), (7, ["data.workers=2"])])
def test_a_resumed_run_on_shards_equals_a_straight_one(root, shards, tmp_path, monkeypatch, step, more):
    """Two epochs of three steps, and two more; after a cut in mid-epoch, that epoch begins again."""
    settings = recipe(root, *shards, *more)
    reference = run.fit(settings, tmp_path / "straight")
    with monkeypatch.context() as patch, pytest.raises(Stop):
        cut_at(patch, step)
        run.fit(settings, tmp_path / "cut")
    run.fit(settings, tmp_path / "cut")
    assert reference.global_step == 12
    require_equal(content(tmp_path / "straight" / "last.ckpt"), content(tmp_path / "cut" / "last.ckpt"))
