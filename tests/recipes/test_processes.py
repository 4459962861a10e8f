"""Training in two processes equals training in one; so do two machines, simulated by torchrun."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning", reason="needs dualvit[recipes]")

from dualvit.files import read_json
from dualvit.recipes.run import fit, load_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 3)):  # an odd number to validate on
        for label, low in (("dark", 0), ("bright", 40)):
            (folder / split / label).mkdir(parents=True)
            for index in range(count if label == "dark" or split == "train" else count + 1):
                pixels = rng.integers(low, low + 200, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{index}.png")
    return folder


def changes(root):
    # Without batch norm, which each process computes of its own share.
    return [
        f"data.root={root}", "network.name=convnext_atto", "network.options={}", "optimizer.clip=0",
        "schedule.warmup_epochs=0", "data.image_size=32", "data.batch=4", "trainer.accelerator=cpu",
        "schedule.epochs=null", "schedule.steps=1", "optimizer.name=sgd", "optimizer.lr=1.0",
        "optimizer.weight_decay=0", "schedule.min_lr=0",
    ]  # fmt: skip


def command(root, out, *more):
    return [
        "-m",
        "dualvit",
        "recipe",
        "fit",
        "laptop-classify",
        *(f"--set={c}" for c in (*changes(root), *more)),
        "--out",
        str(out),
    ]


def start(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(*processes):
    try:
        said = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), said
    return said


@pytest.fixture(scope="module")
def single(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("single") / "run"
    fit(load_recipe("laptop-classify", changes(root)), out)
    return out


def require_same(single, other, said):
    """At a learning rate of 1, SGD's first step is the gradient itself."""
    one, two = (torch.load(out / "last.ckpt", weights_only=True)["state_dict"] for out in (single, other))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name} {text}")
    rows = [read_json(out / "results.json")["history"] for out in (single, other)]
    assert [row["top1"] for row in rows[0]] == [row["top1"] for row in rows[1]]
    assert rows[1][0]["loss"] == pytest.approx(rows[0][0]["loss"], abs=1e-5)
    assert sum(text.count("epoch 1, step 1") for text in said) == 1  # one process speaks, and writes
    assert [file.name for file in (other / "logs").iterdir()] == ["version_0"]


def test_two_processes_take_the_step_of_one(root, single, tmp_path):
    said = finish(start(*command(root, tmp_path / "run", "trainer.devices=2", "trainer.strategy=ddp")))
    require_same(single, tmp_path / "run", said)


def test_two_machines_by_torchrun(root, single, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = ("trainer.num_nodes=2", "trainer.devices=1", "trainer.strategy=ddp")
    said = finish(
        *(
            start(
                "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", f"--node-rank={rank}",
                "--master-addr=127.0.0.1", f"--master-port={port}", *command(root, tmp_path / "run", *more),
            )
            for rank in range(2)
        )
    )  # fmt: skip
    require_same(single, tmp_path / "run", said)
