"""A step of pretraining on two processes is that of one: batch norm and whitening included."""

import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

pytestmark = pytest.mark.slow


def test_two_processes_take_the_step_of_one(blotches, teacher_file, tmp_path):
    # At a learning rate of 1, SGD's first step is the gradient itself.
    changes = (
        "data.image_size=64", "data.batch=10", "data.samples=10", "optimizer.name=sgd", "optimizer.lr=1.0",
        "optimizer.weight_decay=0", "optimizer.clip=0", "schedule.warmup_steps=0", "schedule.min_lr=0",
        "trainer.accelerator=cpu",
    )  # fmt: skip
    runs = {}
    for name, more in (("one", ()), ("two", ("trainer.devices=2", "trainer.strategy=ddp"))):
        command = [
            sys.executable, "-m", "dualvit", "pretrain", blotches, "--teacher", "mobilenetv3_small_050", "--weights",
            teacher_file, "--epochs", "1", "--out", name, *(f"--set={change}" for change in (*changes, *more)),
        ]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("403 entries are learnt") == 1  # one process writes
        runs[name] = torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in runs["one"].items():
        torch.testing.assert_close(
            runs["two"][name], value, rtol=1e-4, atol=2e-5, msg=lambda text, n=name: f"{n} {text}"
        )
