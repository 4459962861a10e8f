"""A trace in plain forms holds operators that every converter knows, in numbers, and answers as the network does."""

import copy

import pytest
import torch
import torch.nn.functional as F

import dualvit
from dualvit.fast.forms import KnownSeed, LayeredConvFFN, plain, plain_forms

IMAGE = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
KNOWN = {  # that NCNN, CoreML, Paddle and TensorFlow converted and ran; look at each of them before adding another
    "_convolution", "add", "cat", "chunk", "contiguous", "div", "expand", "flatten", "layer_norm", "linear", "matmul",
    "mean", "mul", "permute", "relu", "relu_", "reshape", "select", "silu", "silu_", "slice", "softmax", "transpose",
    "unsqueeze", "view",
    "arange", "clamp", "maximum", "minimum", "sub", "to",  # of numbers alone: shares of means, which converters fold
}  # fmt: skip


def kinds(traced: torch.jit.ScriptModule) -> set[str]:
    nodes = traced.inlined_graph.findAllNodes
    names = {node.kind() for node in traced.inlined_graph.nodes()}
    assert not nodes("prim::If") and not nodes("prim::Loop")
    return {name.removeprefix("aten::") for name in names if name.startswith("aten::")}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = dualvit.create_model("dualvit_n", features_only=True).eval()
    return dualvit.fuse(model)


def traced(network, dynamic=False):
    with plain_forms(dynamic), torch.no_grad():
        own = plain(copy.deepcopy(network))
        return own, torch.jit.trace(own, IMAGE, check_trace=False)


def test_a_trace_holds_known_operators_and_one_size(network):
    own, graph = traced(network)
    assert kinds(graph) <= KNOWN, kinds(graph) - KNOWN
    assert {type(module) for module in own.modules()} >= {KnownSeed, LayeredConvFFN}
    with torch.no_grad():
        for answer, again, expected in zip(graph(IMAGE), own(IMAGE), network(IMAGE), strict=True):
            torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-4)


def test_sizes_stay_free_if_they_are_asked_for(network):
    graph = traced(network, dynamic=True)[1]
    assert kinds(graph).isdisjoint({"upsample_bicubic2d", "unbind", "unflatten", "baddbmm"})
    other = torch.rand(2, 3, 64, 160)
    with torch.no_grad():
        for answer, expected in zip(graph(other), network(other), strict=True):
            torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)


def test_elsewhere_nothing_changes(network):
    names = [type(module) for module in network.modules()]
    assert [type(module) for module in plain(network).modules()] == names
    q = torch.rand(1, 2, 5, 8)
    plainly = F.scaled_dot_product_attention(q, q, q)
    with plain_forms():
        assert torch.equal(F.scaled_dot_product_attention(q, q, q), plainly)  # no trace, no other form
        graph = torch.jit.trace(lambda x: F.scaled_dot_product_attention(x, x, x) @ x[0].transpose(1, 2), q)
        torch.testing.assert_close(graph(q), plainly @ q[0].transpose(1, 2))
    assert "scaled_dot_product_attention" not in str(graph.graph)
