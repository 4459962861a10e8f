"""Files that `benchmarks/fuzz_readers.py` found: each is refused in one line, where it once ended in something else."""

import base64
import io
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import features

from dualvit.data import get, labelme, masks, shards, voc
from dualvit.data.images import UnreadableError, open_rgb, size_of
from dualvit.data.yolo_layout import read_layout
from dualvit.errors import DualViTError, InputError, MissingFileError
from dualvit.files import parse_yaml, read_yaml
from dualvit.weights import CheckpointError, read_checkpoint

# Each of zlib and base 85.
AVIF = (
    "c-muNU{FXasVqn=%S>Yc0uY^>nP!-qnV9D5Xy^nKdYzkElE?r7iWw<6MNl?FL1uCZ0~+8f$SlbPvlxL`E;A=T8N_h`@fjgX8i1H7"
    "8c1klX6B{A)k*<5sZ3B_Vwr)VbAC=f*siS1f}#Q-?VVYWoDZZ$GK&jRq4p^Nu>=qc6l7Lpf&`d3I5>b5Phy#&b0Y%}NJuz2Kc^@!"
    "Ii~_>GA{!g$bRw6f?SxNfDU6}WNKysx+*z0C9y<^fs0c@(7vpLBf~_&=roJS@%FY90Y{ckK#dODzuk8)RS13mJMMpW%XwF(m#Z^o"
    "&wL&mn>@Yz)aEk#&dGD^&TO9O@W1NfOZ#;awO-TaC(Eh4KFwj<yRSG^&PM&BX-bRREA@Y$b5g^f&RG*XfBW<b&9-TU-w!o)<edNU"
    "h38JfgUr{~ZM=)BqwUleF!CLhvgl_J{9V@eq=dIw>eGfVYZo>?)ZWfHng8?k@{&m@P0N4GxOB!SSm;!R(UnkXsqe3rr)>7y%Jov>"
    "0Av5di%*5N1>N1^zwEM*^r;W>$B!xaJ~fq@#5chu@p<0mUysWizJ#3otvTbW@s!17f7kCe$@%yCOUesdlV3YsxP^Sz^NViI3_E7}"
    "^{GX^_96+p0D;#}mu^bRX!-Z?&6GRw<};%6r|ayiUf&4~%7!MU3HvmI94~Du*fV$YzqYSxv1@arHd}3`R6e56_D;pOO_yR*4?X+r"
    "eY&@Guj1B+iUz)YpWM#+^%-|neRux#ut)vv%1z}edI9$%=Ww2UAhBzXc3H#24gZ|1X8hq6>JaJQpe;Ue;t!eN?>Dq+=Wi;AYB`_&"
    "-z8{@-~9Z%8Ta#Ip0{O|e%zn%D=p?lq4n`ID`M0p{g`&{N$?Jd6KaZ4fmvTCHFJrFUgcf3>;D#OQ70pv{x`pmt9?}OXpwAn<TWeI"
    "Td-<wUH$Aw;@{c$cg>%1dX;Ry=YQdSKc0MVTbCU2(=<Wiy!@KP!;-f*u02{CA7kF^)9_@2QjqqsF6+|ZBWt$(HPAmUQC9b2R_fI6"
    "zN&H#E16zD+pM_kWxD_CWf~dt_A@I00FyU$QU"
)
LEGACY = (
    "c-n1|%Wl&^6o!3ElejdLYg@{tEt_N$C5}<u1@Q)T!BC)S7qdYobw=?Z$CEQ27lCAvO)JWRCxAWT0eBC@Q&eJ6i4_t^jO~D^lv()5"
    "$DZ#$=l>_#J2U+CVf*LWi%(BiniFm3RF}^blsaBi6lKhrU_J}IL&9UqB2afuCwM`A38@ev@klhF{Rp(T*pyB2YD~PCz9uo~DHwHJ"
    "lFc|^TtEqFSeI`!5-^7hY-9`;4WW#TB>AhEL1NJt#2ZjwfSQ6<$MboUjG8YA9R>n)Uoh?mO)n8Nj7^V|gM@|yPmm~P+&i>PDP70q"
    "{2Jr^A%RkH#oP{AU+fi46XtMD{<CGbH(OR`Yq`^MoEDVxG5v7@6;ypJpt_3`q$B+pOj*=pm_PBQBO&pHG$b~k@B!gu@IcOM!i7c;"
    "76jCKa1mD}CSrWlJfQs;76Um`PzugzI`*dBwj8(=RFEOHE@xWC5nMs)5nMe9GTb!**L$#(Tj{ez+P7SwrYk*?CjQ%K<v+UBvD)`+"
    "%Z3}0u1fl<q&FG`^`?MZJ-D6ZSTbgQ0C$j{&&<Yxj%0=$)>2q6BFrLzjTG+2Sya!msAdSMvv$+Ynd}rM>!hhF#nGqLP-dU%wC;U#"
    "-5+m|d-nce_iR<TwWa6o_x&$j{_%6y+5LL|cLlqD0E9Tavj"
)

BOMB = "a0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


def unpacked(text):
    return zlib.decompress(base64.b85decode(text))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_a_decoder_that_raises_a_kind_of_its_own(tmp_path):
    (tmp_path / "a.avif").write_bytes(unpacked(AVIF))
    for act in (open_rgb, size_of, lambda file: open_rgb(io.BytesIO(file.read_bytes()), "a.avif")):
        try:
            act(tmp_path / "a.avif")
        except UnreadableError as error:
            assert "a.avif" in str(error)
            assert "\n" not in str(error)
        else:
            assert act is size_of  # its head is whole


@pytest.mark.parametrize("content", [b"\x80", unpacked(LEGACY), unpacked(LEGACY)[:30]])
def test_pickles_that_nobody_wrote(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pth is truncated or no checkpoint") as caught:
        read_checkpoint(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nc: 2020-99-99", "month must be in 1..12"), ("a: b\nname", "could not find expected"),
        ("a: " + "9" * 5000, "limit"), ("{" * 1200, "nested too deeply"), ("a: &a [*a]", "holds itself"),
        (BOMB, "over 1000000 values"), ("a: \x00", "special characters"), ("? {a: 1}\n: 2\n", "unhashable"),
    ],
)  # fmt: skip
def test_yaml_that_is_none(tmp_path, text, said):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_yaml(tmp_path / "a.yaml")
    assert "a.yaml is not valid YAML: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_with_aliases_is_read():
    assert parse_yaml("a: &x [1e-3, 2]\nb: *x\nc: {<<: {d: *x}}", "here") == {
        "a": [1e-3, 2], "b": [1e-3, 2], "c": {"d": [1e-3, 2]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"train: {'x' * 3000}\nval: images\nnames: [a]\n", "no images at"),
        ("train: images\nval: images\nnames: {0: a, 1e999: b}\n", "number them 0 to 1"),
        ("train: images\nval: images\nnc: 99999999999\n", "100000 classes are the most"),
    ],
)
def test_a_data_yaml_of_impossible_values(tmp_path, text, said):
    (tmp_path / "images").mkdir()
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises((InputError, MissingFileError), match=said):
        read_layout(tmp_path / "data.yaml").pairs("train")


def test_a_list_with_a_name_that_no_system_takes(tmp_path):
    (tmp_path / "list.txt").write_text("x" * 5000 + "\n")
    (tmp_path / "data.yaml").write_text("train: list.txt\nval: list.txt\nnames: [a]\n")
    pairs = read_layout(tmp_path / "data.yaml").pairs("train")
    assert len(pairs) == 1
    with pytest.raises(UnreadableError, match="File name too long"):
        open_rgb(pairs[0][0])


def test_class_names_that_are_no_text(tmp_path):
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe")
    for act in (lambda: shards.read_classes(str(tmp_path / "classes.txt")), lambda: masks.class_names(tmp_path)):
        with pytest.raises(InputError, match=r"classes\.txt is no UTF-8 text \(invalid start byte at byte 0\)"):
            act()


@pytest.mark.parametrize("encoding", ["uf-16", "utf-7", "idna"])
def test_an_xml_of_an_encoding_that_is_none(encoding):
    with pytest.raises(InputError, match="it is no xml: "):
        voc.read_annotation(f'<?xml version="1.0" encoding="{encoding}"?><annotation></annotation>'.encode())


def test_a_labelme_json_of_endless_width():
    with pytest.raises(InputError, match="no json of LabelMe: cannot convert float infinity"):
        labelme.read_annotation(b'{"imageWidth": 1e999, "shapes": []}')


def test_a_zip_whose_table_names_a_place_before_its_beginning(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for name in ("JPEGImages/BloodImage_00000.jpg", "Annotations/BloodImage_00000.xml"):
            zipped.writestr(f"BCCD_Dataset-master/BCCD/{name}", "x")
    data = bytearray(buffer.getvalue())
    data[-6:-2] = (int.from_bytes(data[-6:-2], "little") + 9).to_bytes(4, "little")
    with pytest.raises(DualViTError, match=r"is damaged or no zip file|is not the expected one") as caught:
        get.convert(io.BytesIO(data), replace(get.SOURCES["bccd"], pictures=1), "http://x/a.zip", Path(tmp_path))
    assert "\n" not in str(caught.value)
