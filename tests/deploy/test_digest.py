"""The sum over a model's files: what another model changes in it, whatever form the model has."""

from dualvit.deploy.digest import digest_of


def test_new_weights_beside_an_openvino_network_are_another_model(tmp_path):
    network, weights = tmp_path / "model.xml", tmp_path / "model.bin"
    network.write_text("<net/>")
    weights.write_bytes(b"one")
    first = [digest_of(network), digest_of(tmp_path)]
    weights.write_bytes(b"two")
    assert not {*first} & {digest_of(network), digest_of(tmp_path)}


def test_weights_of_a_timm_name_count_and_a_copy_is_the_same(tmp_path):
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).write_bytes(b"weights")
    assert digest_of("dualvit_n", tmp_path / "a.pth") == digest_of("dualvit_n", tmp_path / "b.pth")
    assert digest_of("dualvit_n", tmp_path / "a.pth") != digest_of("dualvit_t", tmp_path / "a.pth")
    assert digest_of(tmp_path / "a.pth") == digest_of(tmp_path / "b.pth")
