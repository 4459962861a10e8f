"""The network against the answers of the paper's own code for the same weights and images (see tests/golden)."""

import json

import numpy as np
import pytest
import timm
import torch

import dualvit  # noqa: F401
from dualvit.models.published import native_name

SIZES = ["s", "b", "l"]
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
# Every array of the three files is compared by exactly one test below.
KINDS = {"logits", "cls_logits", "aux_logits", "semantics0", "gradnorm", "feature0", "feature1", "feature2", "feature3"}


class Reference:
    """One size: our model with the golden weights, the reference arrays, and outputs kept for reuse."""

    def __init__(self, golden, folder, size):
        self.name = f"dualvit_{size}"
        self.golden = golden
        self.manifest = json.loads((folder / f"{self.name}.json").read_text())
        with np.load(folder / f"{self.name}.npz") as file:
            self.arrays = {key: torch.from_numpy(file[key]) for key in file.files}
        state = {name: torch.from_numpy(value) for name, value in golden.state_dict(self.name).items()}
        with torch.device("meta"):  # every value comes from the file, so none is initialised
            self.model = timm.create_model(self.name).eval()
        self.model.load_state_dict(state, strict=True, assign=True)
        self._features = {}

    def of(self, kind):
        """The (image shape as text, array) pairs of one kind."""
        return [(key.rsplit("_", 1)[1], value) for key, value in self.arrays.items() if key.rsplit("_", 1)[0] == kind]

    def image(self, shape):
        return torch.from_numpy(self.golden.image(*map(int, shape.split("x"))))

    def features(self, shape):
        if shape not in self._features:
            with torch.no_grad():
                self._features[shape] = self.model.forward_features(self.image(shape))
        return self._features[shape]


@pytest.fixture(scope="module", params=SIZES)
def reference(request, golden):
    return Reference(golden, golden.folder(f"dualvit_{request.param}"), request.param)


def assert_matches(ours, theirs):
    assert ours.shape == theirs.shape
    limit = 1e-4 * theirs.abs().max()
    assert (ours.detach() - theirs).abs().max() <= limit


def test_each_array_has_its_test(reference):
    assert {key.rsplit("_", 1)[0] for key in reference.arrays} <= KINDS


def test_native_name_is_a_bijection(reference):
    """Each published name is one name of the state dict, and none is left over; shapes agree."""
    ours = reference.model.state_dict()
    names = {native_name(name): tuple(shape) for name, shape in reference.manifest.items()}
    assert len(names) == len(reference.manifest)
    assert names == {name: tuple(value.shape) for name, value in ours.items()}


def test_loaded_values_are_the_files(reference):
    ours = reference.model.state_dict()
    for name, value in reference.golden.state_dict(reference.name).items():
        assert torch.equal(ours[native_name(name)], torch.from_numpy(value)), name


def test_logits(reference):
    pairs = reference.of("logits")
    assert len(pairs) >= 3
    for shape, expected in pairs:
        with torch.no_grad():
            assert_matches(reference.model.forward_head(reference.features(shape)), expected)


def test_class_logits(reference):
    """The head on the class row, without the token-labelling head's share."""
    for shape, expected in reference.of("cls_logits"):
        assert_matches(reference.model.head(reference.features(shape)[:, 0, 0]), expected)


def test_token_logits(reference):
    """The token-labelling head on each pixel row."""
    ((shape, expected),) = reference.of("aux_logits")
    assert_matches(reference.model.aux_head(reference.features(shape)[:, 1:].flatten(1, 2)), expected)


def test_first_semantics(reference):
    for shape, expected in reference.of("semantics0"):
        with torch.no_grad():
            assert_matches(reference.model.begin(reference.image(shape))[1], expected)


def test_feature_maps(reference):
    expected = [reference.of(f"feature{level}") for level in range(4)]
    if not expected[0]:
        pytest.skip(f"no feature maps were recorded for {reference.name}")
    shape = expected[0][0][0]
    with torch.no_grad():
        maps = reference.model.forward_intermediates(reference.image(shape), intermediates_only=True)
    for ours, [(_, theirs)] in zip(maps, expected, strict=True):
        assert_matches(ours, theirs)


def test_gradient_norms(reference):
    """The norm of each parameter's gradient of mean(logits^2)."""
    ((shape, expected),) = reference.of("gradnorm")
    names = [native_name(name) for name in reference.manifest if not name.endswith(BUFFERS)]
    parameters = dict(reference.model.named_parameters())
    loss = reference.model(reference.image(shape)).square().mean()
    gradients = torch.autograd.grad(loss, [parameters[name] for name in names])
    norms = torch.stack([gradient.norm() for gradient in gradients])
    assert norms.shape == expected.shape
    assert (norms > 0).all()
    relative = (norms - expected).abs() / expected
    worst = int(relative.argmax())
    assert relative[worst] <= 1e-3, f"{names[worst]}: {norms[worst]} and {expected[worst]}"
