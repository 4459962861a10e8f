"""Fixtures of the checkpoints' tests: a nano model's state, and a file of each published form of it."""

import argparse
import re

import pytest
import safetensors.torch
import timm
import torch

# The published names for ours: the reverse of `native_name`, written down on its own.
PUBLISHED = (
    (r"^seed\.queries$", "q"),
    (r"^seed\.query_norm\.", "q_embed.0."),
    (r"^seed\.query_proj\.", "q_embed.1."),
    (r"^seed\.kv\.", "kv."),
    (r"^seed\.norm\.", "proxy_ln."),
    (r"^seed\.gate\.", "se."),
    (r"^stem\.", "patch_embed1."),
    (r"^stages\.(\d)\.downsample\.semantic_proj\.", "proxy_embed{}.proj_proxy.0."),
    (r"^stages\.(\d)\.downsample\.semantic_norm\.", "proxy_embed{}.proj_proxy.1."),
    (r"^stages\.(\d)\.downsample\.", "patch_embed{}."),
    (r"^stages\.(\d)\.semantic_norm\.", "norm_proxy{}."),
    (r"^stages\.(\d)\.norm\.", "norm{}."),
    (r"^stages\.(\d)\.blocks\.", "block{}."),
    (r"^norm\.", "norm4."),
    (r"^class_block\.", "post_network.0."),
    (r"\.semantic_update\.norm1\.", ".attn.qkv_proxy.0."),
    (r"\.semantic_update\.self_attention\.qkv\.", ".attn.qkv_proxy.1."),
    (r"\.semantic_update\.norm2\.", ".attn.q_proxy_ln."),
    (r"\.semantic_update\.cross_attention\.q\.", ".attn.q_proxy."),
    (r"\.semantic_update\.cross_attention\.kv\.", ".attn.kv_proxy."),
    (r"\.semantic_update\.norm3\.", ".attn.p_ln."),
    (r"\.semantic_update\.ffn\.fc1\.", ".attn.mlp_proxy.0."),
    (r"\.semantic_update\.ffn\.fc2\.", ".attn.mlp_proxy.2."),
    (r"\.semantic_update\.scale(\d)\.gamma", r".attn.gamma\1"),
    (r"\.semantic_norm\.", ".attn.proxy_ln."),
    (r"\.attention\.", ".attn."),
    (r"\.scale(\d)\.gamma", r".gamma\1"),
    (r"\.semantic_ffn\.fc1\.", ".mlp.fc_proxy.0."),
    (r"\.semantic_ffn\.fc2\.", ".mlp.fc_proxy.2."),
    (r"\.ffn\.conv\.", ".mlp.dwconv.dwconv."),
    (r"\.ffn\.", ".mlp."),
)


def published_name(name):
    for pattern, replacement in PUBLISHED:
        if "{}" in replacement:
            name = re.sub(pattern, lambda m, r=replacement: r.format(int(m[1]) + 1), name)
        else:
            name = re.sub(pattern, replacement, name)
    return name


def published(state):
    return {published_name(name): value for name, value in state.items()}


def save_pth(state, path):
    torch.save(published(state), path)


def save_trainer(state, path):
    """What a training script leaves: optimizer, arguments, and a NumPy scalar for the best score."""
    torch.save(
        {
            "state_dict": published(state),
            "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3}]},
            "args": argparse.Namespace(model="dualvit", lr=5e-4),
            "epoch": 309,
            "metric": 84.1,
        },
        path,
    )


def save_ddp(state, path):
    torch.save({"state_dict": {f"module.{name}": v for name, v in published(state).items()}}, path)


def save_safetensors(state, path):
    safetensors.torch.save_file({name: v.contiguous() for name, v in published(state).items()}, path)


def save_native(state, path):
    torch.save(state, path)


FORMS = {
    "plain.pth": save_pth,
    "trainer.pth.tar": save_trainer,
    "ddp.pth": save_ddp,
    "published.safetensors": save_safetensors,
    "native.pth": save_native,
}


@pytest.fixture(name="published_name")
def _published_name():
    """The published name of one of ours."""
    return published_name


@pytest.fixture(name="published")
def _published():
    """A state dict under its published names."""
    return published


@pytest.fixture(scope="session")
def state():
    """Our names and values of a nano model in which every value differs from a fresh one."""
    torch.manual_seed(1)
    model = timm.create_model("dualvit_n")
    return {name: torch.randn_like(v) if v.is_floating_point() else v + 3 for name, v in model.state_dict().items()}


@pytest.fixture(scope="session")
def files(state, tmp_path_factory):
    """The folder of `state` in each form."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, save in FORMS.items():
        save(state, folder / name)
    return folder


@pytest.fixture(params=FORMS)
def form(request):
    """The name of a file in `files`: each form in turn."""
    return request.param


@pytest.fixture
def assert_same():
    """Assert that a model holds a state dict bit for bit."""

    def check(model, state, prefix=""):
        ours = model.state_dict()
        assert ours
        for name, value in ours.items():
            assert torch.equal(value, state[name.removeprefix(prefix)]), name

    return check
