"""Where a result comes from: the machine as it is, and the commit of these sources."""

import re

import torch

from dualvit.provenance import allowed_cores, cores, environment, processor


def test_the_processor_has_all_its_cores_whatever_a_library_sets(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cores() == 1
    assert f", {allowed_cores()} cores, " in processor()
    assert processor().endswith(torch.backends.cpu.get_cpu_capability())


def test_environment():
    found = environment(cuda=False)
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert found["commit"] is None or re.search(r"[0-9a-f]{7}", found["commit"])
    assert found["hardware"] == processor()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found["date"])
