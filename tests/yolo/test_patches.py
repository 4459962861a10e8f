"""Registration: channel rules, names, collisions, budgets."""

import pytest
import torch
import ultralytics.nn.tasks as tasks
from ultralytics.nn.modules.block import C2f

from dualvit.models.dual_vit import CrossAttention
from dualvit.yolo import YOLO
from dualvit.yolo import patches as register
from dualvit.yolo import rows as modules


def test_aliases_compare_equal_to_their_rule_alone():
    assert modules.C2fDual == C2f
    assert modules.C2fDual in {C2f}
    assert modules.C2fDual != modules.FeatureMap
    assert modules.C2fDual != tasks.C3


def test_registering_again_changes_nothing():
    before = (tasks.parse_model, tasks.yaml_model_load)
    register.register(modules.TimmBackbone, modules.FeatureMap, modules.C2fDual)
    assert (tasks.parse_model, tasks.yaml_model_load) == before


def test_a_name_that_is_taken_is_an_error():
    taken = type("Conv", (torch.nn.Module,), {})
    with pytest.raises(RuntimeError, match="already has a module named 'Conv'"):
        register.register(taken)


def test_self_test_names_the_version(monkeypatch):
    monkeypatch.setattr(tasks, "parse_model", lambda *a, **k: (torch.nn.Sequential(), []))
    with pytest.raises(RuntimeError, match=r"ultralytics \d+\.\d+.* parses dualvit's rows wrongly"):
        register._self_test()


def test_the_yaml_in_the_checkpoint_stays_as_written():
    model = YOLO("yolov8n-dualvit.yaml").model
    assert model.yaml["backbone"][0][3][0]["name"]["s"] == "dualvit_t"
    assert model.yaml["backbone"][1][3] == [0]


@pytest.mark.usefixtures("flops")
@pytest.mark.parametrize(
    ("name", "parameters", "gflops"), [("yolov8n-dualvit", 3.2e6, 8.9), ("yolov8s-dualvit", 11.2e6, 28.8)]
)
def test_budgets_at_640(name, parameters, gflops):
    info = YOLO(f"{name}.yaml").model.info(verbose=True)
    assert info[1] <= parameters
    assert 0.9 * gflops < info[3] <= gflops


@pytest.mark.usefixtures("flops")
def test_flops_are_those_of_a_real_pass():
    """Not extrapolated from a tiny image, in which a fixed number of semantic tokens would dominate."""
    from torch.utils.flop_counter import FlopCounterMode
    from ultralytics.utils.torch_utils import get_flops

    model = YOLO("yolov8n-timm.yaml", backbone="pyramid_n").model.eval()

    def counted():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, 3, 320, 320))
        return counter.get_total_flops() / 1e9

    told, real = get_flops(model, 320), counted()
    for module in model.modules():
        if isinstance(module, CrossAttention):
            module.__class__ = CrossAttention
    # thop counts norms and upsampling too, a few hundredths. Its hooks on Linears bring the plain order of products
    # back, so what it tells is more than what runs.
    assert told == pytest.approx(counted(), rel=0.04)
    assert real < 0.95 * told


def test_unknown_yaml_suggests_the_nearest():
    with pytest.raises(FileNotFoundError, match=r"unknown model YAML.*did you mean yolov8n-dualvit"):
        YOLO("yolov8n-dualvti.yaml")


def test_unknown_backbone_suggests_the_nearest(tmp_path):
    file = tmp_path / "yolov8n-mine.yaml"
    file.write_text("like: yolov8-dualvit.yaml\nbackbone: {n: dualvit_nn}\n")
    with pytest.raises(ValueError, match="unknown model 'dualvit_nn'; did you mean dualvit_n"):
        YOLO(file)
