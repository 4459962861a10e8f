"""`dualvit explain`: files of pictures, folders and videos, and a line for each that cannot be explained."""

import json
import sys

import numpy as np
import pytest
import torch
from linear import PairDetector, pair_picture
from PIL import Image

from dualvit.errors import InputError
from dualvit.explain.choosing import Wanted
from dualvit.explain.explanation import Explanation
from dualvit.explain.run import Source, run, write
from dualvit_cli import main

WANTED = Wanted("relevance", number=0)
MODEL = {"model": "pair"}


def explained(path, out, wanted=WANTED, about=MODEL, **options):
    """Run, and return what was done and said."""
    lines = []
    done = run(PairDetector(), Source(path, **options), out, wanted, about, lines.append)
    return done, lines


@pytest.fixture
def file(tmp_path):
    pair_picture().save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_picture_gives_a_sheet_maps_and_figures(file, tmp_path):
    done, lines = explained(file, tmp_path / "out")
    assert lines[0].startswith("TwoBlocks has no semantics of Dual-ViT, so there are no regions")
    assert lines[1] == "passes per map: relevance 25; 1 picture with 1 object at most: 25 passes at most"
    assert done.written == [tmp_path / "out" / "a.png"] and Image.open(done.written[0]).width == 2 * 360 + 12
    maps = np.load(tmp_path / "out" / "a.npz")
    assert maps["relevance-0"].shape == (32, 32) and maps["content"].tolist() == [0, 0, 32, 32]
    content = json.loads((tmp_path / "out" / "a.json").read_text())
    about = content["objects"][0]["methods"]["relevance"]
    assert about["sum"] == pytest.approx(float(maps["relevance-0"].sum()), rel=1e-4) and about["passes"] == 25
    assert content["objects"][1]["methods"] == {} and content["versions"]["torch"]


@pytest.mark.parametrize(("most", "kind"), [(48, np.uint8), (300, np.uint16)])
def test_regions_of_many_tokens_keep_their_numbers(most, kind, tmp_path):
    picture = pair_picture()
    labels = torch.arange(picture.height * picture.width).reshape(picture.height, picture.width) % (most + 1)

    class Regions(Explanation):
        def regions(self, stage=None):
            return labels

        def sheet(self):
            return picture

    subject = PairDetector()
    write(Regions(picture, subject.view(picture), subject.classes, (), (), stage=0), tmp_path, "a", {})
    regions = np.load(tmp_path / "a.npz")["regions"]
    assert regions.dtype == kind and np.array_equal(regions, labels.numpy())


def test_what_is_there_is_not_made_again_or_written_over(file, tmp_path):
    out = tmp_path / "out"
    explained(file, out)
    before = (out / "a.json").read_bytes()
    again, lines = explained(file, out)
    assert again.earlier == [out / "a.png"] and again.written == [] and lines == []
    other, _ = explained(file, out, about={"model": "other"})
    assert other.written == [out / "a-2.png"] and (out / "a.json").read_bytes() == before
    pair_picture(200).save(file)
    assert explained(file, out)[0].written == [out / "a-3.png"]
    here, _ = explained(file, tmp_path)  # beside the picture itself
    assert here.written == [tmp_path / "a-2.png"] and Image.open(file).size == (64, 64)


def test_a_folder_goes_on_behind_bad_files(file, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    pair_picture().save(folder / "good.jpg", quality=95)
    (folder / "broken.jpg").write_bytes((folder / "good.jpg").read_bytes()[:400])
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    (folder / "notes.md").write_text("no picture")
    done, lines = explained(folder, folder / "out")
    assert [path.name for path in done.written] == ["good.png"] and len(done.failed) == 2
    assert any(line.startswith("not explained: cannot read the picture") and "broken.jpg" in line for line in lines)
    assert any("the picture has 1x1 pixels" in line for line in lines)
    again, _ = explained(folder, folder / "out")  # whose sheet lies in the folder
    assert len(again.earlier) == 1 and again.written == []


def picture_of(mode, path):
    """A picture in another form that shows what `pair_picture` shows."""
    red = pair_picture()
    if mode == "alpha":
        red.putalpha(120)
    elif mode == "grey":
        red = red.getchannel("R")
    elif mode == "16 bit":
        red = Image.fromarray(np.asarray(red.getchannel("R")).astype(np.uint16) * 257)
    red.save(path)


@pytest.mark.parametrize("mode", ["alpha", "grey", "16 bit"])
def test_other_kinds_of_pixels(mode, tmp_path):
    picture_of(mode, tmp_path / "a.png")
    explained(tmp_path / "a.png", tmp_path / "out")
    content = json.loads((tmp_path / "out" / "a.json").read_text())
    assert [(one["name"], round(one["score"], 2)) for one in content["objects"]] == [("left", 1.0), ("right", 0.5)]


def test_a_map_lies_on_the_picture_as_it_stands_upright(tmp_path):
    upright = pair_picture(255, 0).crop((0, 0, 64, 48))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    for name in ("turned", "upright"):
        explained(tmp_path / f"{name}.png", tmp_path / "out", WANTED)
    maps = [np.load(tmp_path / "out" / f"{name}.npz") for name in ("turned", "upright")]
    assert np.array_equal(maps[0]["relevance-0"], maps[1]["relevance-0"]) and maps[0]["size"].tolist() == [64, 48]


def test_of_an_animation_the_first_picture(tmp_path):
    pair_picture().save(tmp_path / "a.gif", save_all=True, append_images=[pair_picture(0, 0)])
    done, lines = explained(tmp_path / "a.gif", tmp_path / "out")
    assert len(done.written) == 1 and "  it has several frames, and the first one is explained" in lines
    content = json.loads((tmp_path / "out" / "a.json").read_text())
    assert content["objects"][0]["name"] == "left" and content["notes"][0].startswith("it has several frames")


def test_frames_of_a_video(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="needs dualvit[yolo]")
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 64))
    for number in range(9):
        video.write(np.asarray(pair_picture(255 - number))[..., ::-1])
    video.release()
    done, lines = explained(tmp_path / "v.avi", tmp_path / "out", every=3, frames=2)
    assert [path.name for path in done.written] == ["v-000000.png", "v-000003.png"]
    assert lines[0] == "v.avi: every 3rd frame, 2 at most"
    assert lines[2] == "passes per map: relevance 25; 2 pictures with 1 object at most: 50 passes at most"
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"cannot read the video .*broken\.mp4: OpenCV knows no such format"):
        explained(tmp_path / "broken.mp4", tmp_path / "out")


def test_a_video_without_opencv_is_a_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    (tmp_path / "v.mp4").write_bytes(b"no video")
    with pytest.raises(ModuleNotFoundError, match=r"a video needs OpenCV; install dualvit\[yolo\]"):
        explained(tmp_path / "v.mp4", tmp_path / "out")


# ---- the command


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run the command here, on the detector of two blocks, and return its status and its lines."""
    monkeypatch.setattr("dualvit.explain.opening.open_subject", lambda *_: PairDetector())

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dualvit", "explain", *map(str, arguments), "--out", str(tmp_path / "out")])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        said = capsys.readouterr()
        return status, said.out.splitlines(), [line for line in said.err.splitlines() if line.startswith("error: ")]

    return run


def test_the_command_says_what_it_found(command, file, tmp_path):
    status, lines, errors = command(file, "--model", "pair.pt", "--methods", "relevance")
    assert (status, errors) == (0, [])
    assert lines[1] == "passes per map: relevance 25; 1 picture with 3 objects at most: 75 passes at most"
    assert lines[2] == f"a.png: 2 found, {tmp_path / 'out' / 'a.png'}"
    assert lines[3].startswith("  0 left 1.00: relevance ") and lines[3].endswith(" far")
    assert not any("no semantics" in line for line in lines[1:])
    assert lines[-1] == f"1 explained in {tmp_path / 'out'}"
    assert command(file, "--model", "pair.pt", "--methods", "relevance")[1][-1].endswith("1 explained before")


def test_mistakes_are_one_line(command, file, tmp_path):
    big = tmp_path / "big.png"
    Image.new("1", (20_000, 20_000)).save(big)  # small as a file
    truncated, folder = tmp_path / "half.png", tmp_path / "empty"
    truncated.write_bytes(file.read_bytes()[:100])
    folder.mkdir()
    (tmp_path / "text.png").write_text("no picture")
    model = ["--model", "pair.pt", "--methods", "relevance"]
    for arguments, words in [
        (["absent.png", *model], "no picture, folder or video at absent.png"),
        ([file], "--model is missing"),
        (["--model", "pair.pt"], "PICTURES is missing"),
        ([big, *model], "it has 400000000 pixels, and the limit is 150000000; shrink it"),
        ([truncated, *model], f"cannot read the picture {truncated}"),
        ([tmp_path / "text.png", *model], "no format that Pillow knows; remove it"),
        ([folder, *model], f"no images in {folder}"),
        ([file, *model, "--object", "7"], "object 7 is not there: 2 objects were found"),
        ([file, *model, "--class", "cat"], "no class 'cat'; the model knows left, right"),
        ([file, "--benchmark"], "leave a picture out"),
        (["--benchmark", "--methods", "gradcam"], "method 'gradcam' is unknown"),
    ]:
        status, _, errors = command(*arguments)
        assert status == 1 and len(errors) == 1 and words in errors[0], (arguments, errors)


def test_a_folder_of_bad_files_alone_fails(command, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("no picture")
    status, lines, errors = command(tmp_path / "in", "--model", "pair.pt", "--methods", "relevance")
    assert status == 1 and errors == []
    assert lines[-1] == f"0 explained in {tmp_path / 'out'}, 1 not explained"
