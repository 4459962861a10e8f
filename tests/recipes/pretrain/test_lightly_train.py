"""The other way to a start, which docs/start.md names: lightly-train teaches dualvit_n without labels or a teacher."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightly_train", reason="needs lightly-train, which is AGPL and installed by who wants it")

from dualvit.backbones.timm_model import plan_backbone
from dualvit.weights import load_backbone

# Without a teacher: `distillation`, the default, would fetch one.
CODE = """
import dualvit, lightly_train
lightly_train.pretrain(
    out="run", data=PICTURES, model="timm/dualvit_n", method="simclr", epochs=1, batch_size=4, num_workers=0,
    accelerator="cpu", transform_args={"image_size": (64, 64)},
)
"""


@pytest.mark.slow
def test_its_file_is_a_start(blotches, tmp_path):
    code = CODE.replace("PICTURES", repr(str(blotches)))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    plan = plan_backbone("dualvit_n")
    file: Path = tmp_path / "run" / "exported_models" / "exported_last.pt"
    report = load_backbone(plan.build(), file, plan.full_network())
    assert (report.loaded, report.total) == (403, 403)
