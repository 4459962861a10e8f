"""A step of pretraining on two processes is that of one: batch norm and whitening included."""

import os
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("place"), np.random.default_rng(0)
    (folder / "pictures").mkdir()
    for index in range(8):
        blotches = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((72, 72))
        blotches.save(folder / f"pictures/{index}.png")
    torch.manual_seed(0)
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), folder / "teacher.pth")
    return folder


def test_two_processes_take_the_step_of_one(place):
    # At a learning rate of 1, SGD's first step is the gradient itself.
    changes = (
        "data.image_size=64", "data.batch=8", "data.samples=8", "optimizer.name=sgd", "optimizer.lr=1.0",
        "optimizer.weight_decay=0", "optimizer.clip=0", "schedule.warmup_steps=0", "schedule.min_lr=0",
        "trainer.accelerator=cpu",
    )  # fmt: skip
    runs = {}
    for name, more in (("one", ()), ("two", ("trainer.devices=2", "trainer.strategy=ddp"))):
        command = [
            sys.executable, "-m", "dualvit", "pretrain", "pictures", "--teacher", "mobilenetv3_small_050", "--weights",
            "teacher.pth", "--epochs", "1", "--out", name, *(f"--set={change}" for change in (*changes, *more)),
        ]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("274 entries are learnt") == 1  # one process writes
        runs[name] = torch.load(place / name / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in runs["one"].items():
        torch.testing.assert_close(
            runs["two"][name], value, rtol=1e-4, atol=2e-5, msg=lambda text, n=name: f"{n} {text}"
        )
