"""Experiments of seconds: finished cells stay, a failure stays alone, a kill costs no more than an epoch."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

pytest.importorskip("lightning", reason="needs dualvit[recipes]")
pytest.importorskip("matplotlib", reason="needs dualvit[recipes]")

from dualvit.compare import runner as compare
from dualvit.provenance import cores


def run(path, width=200):
    screen = io.StringIO()
    done = compare.run(path, Console(file=screen, width=width))
    return done, screen.getvalue()


def environment(place):
    path = [str(place), str(Path(compare.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def results(place):
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(place.glob("out/cells/*/result.json"))}


def test_a_failing_model_stays_alone_and_is_tried_again(experiment, place):
    models = ["tiny_test", {"name": "tiny_test", "label": "broken", "fails": True}, {"name": "tiny_test", "width": 8}]
    models.append({"name": "tiny_test", "label": "[/] $nan", "fails": "nan"})
    path = experiment(models=models, seeds=[0, 1], jobs=2, epochs=1)
    done, screen = run(path)
    assert not done
    found = results(place)
    assert set(found) == {f"{name}-s{seed}" for name in ("tiny_test", "tiny_test-width-8") for seed in (0, 1)}
    log = place / "out" / "cells" / "broken-s0" / "log.txt"
    assert f"failed broken seed 0: RuntimeError: the network broke (log: {log})" in screen
    assert "Traceback" in log.read_text()
    words = "the loss is not finite in step 1 (class nan): first in conv (Conv2d); lower optimizer.lr"
    assert f"failed [/] $nan seed 0: {words}" in screen
    report = (place / "out" / "report.html").read_text()
    assert "the network broke" in report
    assert "2 models" in report

    before = {file: file.stat().st_mtime_ns for file in place.glob("out/cells/tiny*/result.json")}
    models[1]["fails"] = False
    del models[-1]
    with pytest.raises(ValueError, match=r"other settings \(model 'broken' was .*name another `output`"):
        run(experiment(models=models, seeds=[0, 1], epochs=1))
    del models[1]
    done, screen = run(experiment(models=models, seeds=[0, 1], epochs=1))
    assert done
    assert "starts" not in screen
    assert {file: file.stat().st_mtime_ns for file in before} == before
    done, screen = run(experiment(models=models, seeds=[0, 1, 2], epochs=1))
    assert done
    assert screen.count("starts") == 2
    assert {file: file.stat().st_mtime_ns for file in before} == before
    with pytest.raises(ValueError, match=r"other settings \(epochs was 1\)"):
        run(experiment(models=models, epochs=2))


def test_a_result_says_what_was_done(experiment, place):
    done, screen = run(experiment(models=["tiny_test", {"name": "tiny_test", "label": "wide", "width": 16}]))
    assert done
    result = results(place)["tiny_test-s0"]
    assert [row["epoch"] for row in result["epochs"]] == [1, 2]
    assert result["last"] == result["epochs"][-1]["top1"]
    assert result["best"] == max(row["top1"] for row in result["epochs"])
    assert result["versions"]["torch"]
    summary = json.loads((place / "out" / "results.json").read_text())
    assert [row["label"] for row in summary["rows"]] == ["tiny_test", "wide"]
    assert summary["rows"][0]["parameters"] == 4 * 27 + 4 + 2 * 4 + 2
    assert summary["rows"][0]["macs"] == 15 * 15 * 4 * 27 + 4 * 2
    assert summary["cost"]["threads"] == cores()
    assert all(row["latency"]["repeats"] >= 5 for row in summary["rows"])
    assert "one seed, which cannot tell" in screen
    told = json.loads((place / "out" / "differences.json").read_text())
    (pair,) = told["pairs"]
    assert (told["measure"], told["seed"], told["split"]) == ("the probability of the right class", 0, "val")
    assert pair["better"] + pair["worse"] + pair["equal"] == 8
    gaps = [abs(one["other"] - one["reference"]) for one in pair["pictures"]]
    assert gaps == sorted(gaps, reverse=True) and len(gaps) == pair["better"] + pair["worse"]
    assert (place / "out" / "differences.png").exists() == bool(gaps)


def test_the_test_split_is_scored_once(experiment, place):
    for label, colour in (("dark", 200), ("light", 80)):  # the other way round than in training
        folder = place / "data" / "test" / label
        folder.mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (32, 32), (colour, colour, colour + index)).save(folder / f"{index}.png")
    settings = {"optimizer.lr": 0.05, "schedule.warmup_epochs": 1}
    done, _ = run(experiment(score="test", epochs=8, batch=4, settings=settings))
    assert done
    result = results(place)["tiny_test-s0"]
    assert (result["score"], result["last"], result["best"]) == ("test", 0.0, 1.0)
    assert result["epochs"][-1]["top1"] == 1.0
    answers = json.loads((place / "out" / "cells" / "tiny_test-s0" / "predictions.json").read_text())
    assert answers["split"] == "test" and len(answers["answers"]) == 6
    text = (place / "out" / "report.md").read_text()
    assert "| model | top-1, test | best on val |" in text and "6 to score on" in text
    with pytest.raises(ValueError, match=r"other settings \(score was 'test'; test images was 6\)"):
        run(experiment(epochs=8, batch=4, settings=settings))


def test_without_a_test_split_nothing_is_trained(experiment, place):
    with pytest.raises(ValueError, match=r"has no test split, and score is test; give test/CLASS/picture.jpg, or"):
        run(experiment(score="test"))
    assert not (place / "out" / "cells").exists()


def test_our_own_networks_reach_the_report(experiment, place):
    done, _ = run(experiment(models=["dualvit_n", "tiny_test"], epochs=1))
    assert done
    rows = json.loads((place / "out" / "results.json").read_text())["rows"]
    assert [row["label"] for row in rows] == ["dualvit_n", "tiny_test"]
    assert (place / "out" / "report.html").exists()


def test_equal_minutes(experiment, place):
    done, _ = run(experiment(models=[{"name": "tiny_test", "pause": 0.2}], epochs=None, minutes=0.05))
    assert done
    result = results(place)["tiny_test-pause-0.2-s0"]
    assert 3.0 <= result["seconds"] < 6.0
    assert len(result["epochs"]) >= 2  # three steps of 0.2 s an epoch


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"models": ["tiny_tset"]},
            "model 'tiny_tset' at 32 pixels: unknown model 'tiny_tset'; did you mean tiny_test",
        ),
        ({"data": "nowhere"}, "no data set at nowhere"),
        ({"imports": ["absent_module"]}, "imports names 'absent_module'"),
        ({"device": "7"}, "device is '7', but torch sees"),
        ({"models": [{"name": "resnet18", "widht": 3}]}, "model 'resnet18 widht=3' at 32 pixels"),
    ],
)
def test_mistakes_show_before_anything_is_trained(experiment, place, keys, words):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        run(experiment(**keys))
    assert words in str(caught.value)
    assert not (place / "out" / "cells").exists()


def test_a_folder_without_pictures(experiment, place):
    for file in place.glob("data/val/*/*"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"no images in .*val"):
        run(experiment())


def start(path, place):
    """The command in a process of its own, which hears Ctrl-C even where the tests run in a shell's background."""
    return subprocess.Popen(
        [sys.executable, "-c", "from dualvit_cli import main; main()", "compare", str(path)],
        env=environment(place), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for(epochs, cell, running):
    """Wait until a cell has reported more epochs than those, and return what it has; `running` says whether it runs."""
    limit = time.monotonic() + 240
    while True:
        found = json.loads((cell / "progress.json").read_text())["epochs"] if (cell / "progress.json").exists() else []
        if len(found) > len(epochs):
            assert found[: len(epochs)] == epochs
            assert not (cell / "result.json").exists()
            return found
        assert running()
        assert time.monotonic() < limit
        time.sleep(0.05)


def end(command, number):
    """Send a signal to the command alone; its cells must end with it, so that a second one does not race them."""
    psutil = pytest.importorskip("psutil")
    family = psutil.Process(command.pid).children(recursive=True)
    assert family
    command.send_signal(number)
    out, _ = command.communicate(timeout=60)
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    return out


@pytest.mark.slow
def test_killed_half_way_it_continues(experiment, place):
    """SIGKILL to the command, Ctrl-C, SIGKILL to a cell: what is finished stays, the rest goes on from its epoch."""
    psutil = pytest.importorskip("psutil")
    path = experiment(models=["tiny_test", {"name": "tiny_test", "label": "slow", "pause": 0.3}], epochs=5)
    cell = place / "out" / "cells" / "slow-s0"
    first = start(path, place)
    before = wait_for([], cell, lambda: first.poll() is None)
    end(first, signal.SIGKILL)
    kept = place / "out" / "cells" / "tiny_test-s0" / "result.json"
    stamp = kept.stat().st_mtime_ns

    second = start(path, place)
    before = wait_for(before, cell, lambda: second.poll() is None)
    out = end(second, signal.SIGINT)
    assert second.returncode == 130
    assert "slow seed 0: continues" in out
    assert "stopped" in out

    def kill_the_cell():
        wait_for(before, cell, lambda: True)
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if process.pid == os.getpgid(process.pid):  # a cell leads a group, the server that forked it does not
                    process.kill()

    killer = threading.Thread(target=kill_the_cell)
    killer.start()
    done, screen = run(path)
    killer.join()
    assert not done
    assert "killed by signal 9" in screen

    done, screen = run(path)
    assert done
    assert "slow seed 0: continues" in screen
    assert "tiny_test seed 0: " not in screen
    assert kept.stat().st_mtime_ns == stamp
    epochs = results(place)["slow-s0"]["epochs"]
    assert [row["epoch"] for row in epochs] == [1, 2, 3, 4, 5]
    assert epochs[: len(before)] == before
    assert [row["seconds"] for row in epochs] == sorted(row["seconds"] for row in epochs)
