"""What timm and its users do with a model: groups of parameters, checkpointing, copies and graphs."""

import copy
import pickle
from itertools import pairwise

import pytest
import timm
import torch
from timm.models import get_notrace_functions, get_notrace_modules
from timm.optim import param_groups_layer_decay
from torch.testing import assert_close
from torchvision.models.feature_extraction import create_feature_extractor

import dualvit
from dualvit.backbones.recompute import recompute_blocks

# ---- optimisation


def test_layer_decay_puts_each_parameter_in_one_group_and_rises(dual):
    model = dual()
    groups = param_groups_layer_decay(model, no_weight_decay_list=model.no_weight_decay(), layer_decay=0.5)
    scale, decay = {}, {}
    for group in groups:
        for parameter in group["params"]:
            assert id(parameter) not in scale
            scale[id(parameter)], decay[id(parameter)] = group["lr_scale"], group["weight_decay"]
    names = {name: id(parameter) for name, parameter in model.named_parameters()}
    assert set(scale) == set(names.values())
    order = ["stem.conv.0.weight", "seed.queries"]
    order += [
        f"stages.{i}.blocks.{j}.attention.q.weight" for i, s in enumerate(model.stages) for j in range(len(s.blocks))
    ]
    by_order = [scale[names[name]] for name in [*order, "head.weight"]]
    assert by_order[0] == by_order[1]
    assert all(low < high for low, high in pairwise(by_order[1:]))
    assert scale[names["head.weight"]] == scale[names["aux_head.weight"]] == 1.0
    assert len(set(scale.values())) >= 2 + len(order) - 2
    undecayed = {name for name, key in names.items() if decay[key] == 0}
    assert undecayed == {n for n, p in model.named_parameters() if p.ndim <= 1} | {"seed.queries"}


def test_no_weight_decay_is_queries_and_layer_scales(dual):
    model = dual()
    scales = {f"{name}.gamma" for name, module in model.named_modules() if type(module).__name__ == "LayerScale"}
    blocks = sum(len(stage.blocks) for stage in model.stages)
    assert len(scales) >= 2 * blocks
    assert model.no_weight_decay() == scales | {"seed.queries"}


def test_checkpointing_moves_the_running_statistics_once(image):
    states = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model, picture = dualvit.create_model("dualvit_n", num_classes=3).train(), image(64, 64)
        model.set_grad_checkpointing(recompute)
        model(picture).sum().backward()
        states.append({name: value for name, value in model.named_buffers() if "running" in name})
    assert len(states[0]) == 2 * (1 + 4 + 6 * 6)
    for name, value in states[0].items():
        assert_close(states[1][name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_checkpointing_equals_plain(each, training, image):
    model, picture = each().train(training), image()
    for module in model.modules():  # the recomputation must not move the running statistics
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()

    def run():
        out = model(picture)
        return out, torch.autograd.grad(out.square().mean(), list(model.parameters()))

    plain = run()
    model.set_grad_checkpointing()
    calls = []
    model.stages[0].blocks[0].register_forward_pre_hook(lambda *_: calls.append(0))
    recomputed = run()
    assert len(calls) == 2
    assert_close(recomputed, plain, rtol=0, atol=1e-6)
    model.set_grad_checkpointing(False)
    run()
    assert len(calls) == 3


def test_checkpointing_by_stage_recomputes_those_alone(image):
    model = dualvit.create_model("dualvit_n", features_only=True)
    calls = []
    for index, stage in enumerate(model.model.stages):
        stage.blocks[0].register_forward_pre_hook(lambda *_, index=index: calls.append(index))
    recompute_blocks(model, (0, 2))
    sum(out.sum() for out in model(image(64, 64))).backward()
    assert sorted(calls) == [0, 0, 1, 2, 2, 3]
    with pytest.raises(ValueError, match="no stage 4 to recompute; give 0 to 3"):
        recompute_blocks(model, (4,))


@pytest.mark.parametrize(
    ("name", "stages", "message"),
    [("resnet18", (0,), "cannot recompute by stage; give true"), ("identity", True, "leave grad_checkpointing out")],
)
def test_networks_that_cannot_recompute_say_so(name, stages, message):
    network = torch.nn.Identity() if name == "identity" else timm.create_model(name)
    with pytest.raises(ValueError, match=message):
        recompute_blocks(network, stages)


# ---- copies and graphs


def test_copies_answer_the_same(dual, image):
    model, picture = dual(), image(64, 64)
    twin = dual()
    twin.load_state_dict(model.state_dict(), strict=True)
    expected = model(picture)
    for other in (twin, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(picture), expected)


def test_fx_feature_extractor_equals_eager(dual, image):
    model, picture = dual(), image(64, 64)
    leaves = {"leaf_modules": list(get_notrace_modules()), "autowrap_functions": list(get_notrace_functions())}
    nodes = {"stages.1.norm": "pixels", "stages.1.semantic_norm": "semantics", "head": "class_logits"}
    out = create_feature_extractor(model, nodes, tracer_kwargs=leaves)(picture)
    pixels, semantics = model.begin(picture)
    for stage in model.stages[:2]:
        pixels, semantics = stage(pixels, semantics)
    assert_close(out["pixels"], pixels)
    assert_close(out["semantics"], semantics)
    assert_close(out["class_logits"], model.head(model.forward_features(picture)[:, 0, 0]))
