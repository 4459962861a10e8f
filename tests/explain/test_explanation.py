"""An explanation of one picture: what is chosen, what is said of it, and what is refused."""

import pytest
import torch
from linear import PairDetector, pair_picture
from PIL import Image
from torch import nn

import dualvit
from dualvit.errors import InputError
from dualvit.explain import Classifier, Wanted, explain, open_subject
from dualvit.explain.benchmark import small_network
from dualvit.explain.explanation import SMALLEST

BRIEF = {"methods": "relevance"}


def names(explanation):
    return [one.found.name for one in explanation.maps]


def test_each_object_has_a_map_of_its_own():
    found = explain(PairDetector(), pair_picture(), Wanted(**BRIEF))
    assert [(one.name, round(one.score, 2)) for one in found.found] == [("left", 1.0), ("right", 0.5)]
    assert names(found) == ["left", "right"]
    left, right = (found.map("relevance", number) for number in (0, 1))
    assert left.shape == (64, 64)
    assert float(left[:, :32].sum()) == pytest.approx(float(left.sum()), rel=0.02)
    assert float(right[:, 32:].sum()) == pytest.approx(float(right.sum()), rel=0.02)
    one = found.maps[0]
    assert one.evidence.inside > 0.9 and one.passes == 25 and one.relevance.lost < 0.01
    plain = found.plain()
    assert plain["objects"][1]["box"] == [40.0, 16.0, 56.0, 32.0]
    about = plain["objects"][0]["methods"]["relevance"]
    assert about["sum"] == pytest.approx(about["rise"], rel=0.01) and about["unit"] == "logit per pixel"
    assert any("TwoBlocks has no semantics of Dual-ViT" in note for note in found.notes)
    with pytest.raises(InputError, match="no map drise-0; there are relevance-0, relevance-1"):
        found.map("drise")
    with pytest.raises(InputError, match="no semantics"):
        found.regions()


def test_objects_are_chosen_by_number_and_by_class():
    assert names(explain(PairDetector(), pair_picture(), Wanted(**BRIEF, number=1))) == ["right"]
    assert names(explain(PairDetector(), pair_picture(), Wanted(**BRIEF, label="right"))) == ["right"]
    few = explain(PairDetector(), pair_picture(), Wanted(**BRIEF, most=1))
    assert names(few) == ["left"] and "1 more found, without maps: the 1 surest have some" in few.notes


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"number": 2}, "object 2 is not there: 2 objects were found above confidence 0.25, numbers 0 to 1"),
        ({"number": 1, "confidence": 0.9}, "object 1 is not there: 1 object was found above confidence 0.9, number 0"),
        ({"number": 0, "confidence": 1.0}, None),
        ({"label": "middle"}, "no class 'middle'; the model knows left, right"),
        ({"label": "left", "number": 0}, "object 0 and class left are both named; give one of the two"),
        ({"confidence": 1.5}, "confidence is 1.5; give a number from 0 to 1"),
        ({"most": 0}, "explain 1 object or more"),
        ({"methods": "gradcam"}, "give some of relevance, layercam, eigencam, drise"),
        ({"methods": "layercam"}, "layercam of 0 left failed: TwoBlocks has no maps that are known here"),
    ],
)
def test_wishes_that_cannot_be_met(wanted, words):
    def run():
        return explain(PairDetector(), pair_picture(), Wanted(**(BRIEF | wanted)))

    if words is None:
        assert names(run()) == ["left"]
        return
    with pytest.raises(InputError) as error:
        run()
    assert words in str(error.value)


def test_nothing_found_is_a_line():
    found = explain(PairDetector(), pair_picture(50, 20), Wanted(**BRIEF))
    assert found.maps == () and found.sheet().size[0] == 360
    assert "nothing was found above confidence 0.25; the surest is left 0.196: lower the confidence for it" in (
        found.notes
    )
    found = explain(PairDetector(), pair_picture(250, 20), Wanted(**BRIEF, label="right"))
    assert found.maps == () and "no right was found" in found.notes[-1] and "right 0.078" in found.notes[-1]


@pytest.mark.parametrize("size", [(1, 1), (SMALLEST - 1, 400), (65 * SMALLEST, SMALLEST)])
def test_pictures_of_hardly_any_pixels_are_refused(size):
    with pytest.raises(InputError, match=f"the picture has {size[0]}x{size[1]} pixels"):
        explain(PairDetector(), Image.new("RGB", size), Wanted(**BRIEF))


def test_a_failing_method_is_a_line_beside_the_others():
    found = explain(PairDetector(), pair_picture(), Wanted("relevance,layercam", number=0))
    assert [one.method for one in found.maps] == ["relevance"]
    assert found.notes[-1].startswith("layercam of 0 left failed: TwoBlocks has no maps")


def test_any_number_of_any_network_is_explained():
    class Depth(nn.Module):
        def forward(self, images):
            return {"depth": images.mean(1)}

    picture = pair_picture()
    wanted = Wanted(target=lambda outputs: outputs["depth"][0, :8].sum(), called="upper rows", **BRIEF)
    found = explain(Classifier(Depth(), image_size=32), picture, wanted)
    assert [one.name for one in found.found] == ["upper rows"]
    values = found.map("relevance")
    assert float(values[32:].abs().sum()) == 0 and float(values[:14].abs().sum()) > 0
    both = Wanted("drise", target=lambda outputs: outputs["depth"][0])
    with pytest.raises(InputError, match="the target gives 1024 values; return one"):
        explain(Classifier(Depth(), image_size=32), picture, both)


def test_drise_follows_a_target():
    from dualvit.explain.drise import Masks, drise
    from dualvit.explain.subject import Found

    subject = PairDetector()
    one = Found(0, "target", 1.0, 0, target=lambda outputs: outputs[0, 1])
    values = drise(subject, subject.view(pair_picture()), one, Masks(count=120, grid=4))
    assert values[:, 16:].max() > 3 * values[:, :12].max()


@pytest.fixture(scope="module")
def dual():
    torch.manual_seed(0)
    return Classifier(small_network(3), ("a", "b", "c"), 64)


def test_a_classifier_with_semantics_has_regions_and_profiles(dual):
    found = explain(dual, pair_picture(), Wanted(**BRIEF, label="b"))
    assert names(found) == ["b"] and len(found.profiles) == 4 and len(found.found) <= 3
    assert found.regions().shape == (64, 64) and len(found.regions(0).unique()) > 1
    assert found.maps[0].evidence is None and len(found.maps[0].relevance.flows) == 5
    assert found.sheet().size[0] == 2 * 360 + 12
    assert set(found.plain()["profiles"][0]) >= {"reading", "consulting", "reach", "scales"}
    with pytest.raises(InputError, match="stage 9 has no pixels that consult semantics; there are 0, 1, 2, 3"):
        explain(dual, pair_picture(), Wanted(**BRIEF, stage=9))


def test_methods_that_fit_are_taken(dual, monkeypatch):
    by_name = [method.name for method in Wanted().methods_for(dual)[0]]
    assert by_name == ["relevance", "layercam"]
    assert [method.name for method in Wanted().methods_for(PairDetector())[0]] == by_name
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    methods, notes = Wanted().methods_for(PairDetector())
    assert [method.name for method in methods] == ["relevance"] and "install dualvit[explain]" in notes[-1]


def test_open_models_are_subjects():
    network = dualvit.create_model("dualvit_n", num_classes=2)
    assert open_subject(network, image_size=64).classes == ("0", "1")
    with pytest.raises(InputError, match="int cannot be explained; give a file, a timm name, a YOLO or a module"):
        open_subject(3)
