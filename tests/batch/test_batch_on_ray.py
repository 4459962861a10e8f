"""A batch on Ray's workers: killed and started again, it has the rows of a batch that nobody disturbed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

pytest.importorskip("ray")
SCRIPT = """
import sys
from pathlib import Path
from standin import open_it
from dualvit.batch.plan import Settings
from dualvit.batch.run import run
print(run(Path(sys.argv[2]), Settings(sys.argv[1], sys.argv[3], batch=4), open_it, workers=int(sys.argv[4])))
"""


def start(source, out, model, workers, seconds):
    environment = os.environ | {
        "STANDIN_SECONDS": str(seconds),
        "PYTHONPATH": os.pathsep.join(PLACES),
        "RAY_worker_niceness": "0",  # Ray's workers give way to all else: beside other tests they would take minutes
    }
    command = [sys.executable, "-c", SCRIPT, str(source), str(out), str(model), str(workers)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


PLACES = [str(Path(__file__).parent), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


@pytest.mark.slow
def test_a_killed_batch_goes_on_on_two_workers(tmp_path):
    model, source, out = tmp_path / "model.pt", tmp_path / "pictures", tmp_path / "out"
    model.write_text("detect")
    source.mkdir()
    for number in range(96):
        Image.fromarray(np.full((16, 24, 3), 100 + number, np.uint8)).save(source / f"{number:02}.png")
    (source / "50.png").write_bytes(b"")
    process = start(source, out, model, 2, 0.1)
    end = time.monotonic() + 300
    while len(list(out.glob("parts/*.parquet"))) < 2 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len(list(out.glob("parts/*.parquet")))
    assert 2 <= done < 6
    process = start(source, out, model, 2, 0.0)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert said.strip() == "96 pictures: 95 answered, 1 without an answer (zero bytes 1)"
    calm = start(source, tmp_path / "calm", model, 0, 0.0)
    assert calm.wait(300) == 0
    one, other = (parquet.read_table(place / "predictions.parquet") for place in (out, tmp_path / "calm"))
    assert one.equals(other)
    assert one["index"].to_pylist() == list(range(96))
