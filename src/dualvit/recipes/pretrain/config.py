"""The settings of pretraining."""

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from dualvit.errors import InputError, MissingFileError
from dualvit.names import is_shards
from dualvit.recipes.config import CHECKED, Count, DataSettings, NotNegative, Positive, Recipe, Share, read, typed

YOLO_FILES = (".yaml", ".pt")  # endings of names that `dualvit.yolo.pretrain` knows
FORMULAS = "formulas"  # in place of a folder: pictures are drawn as training goes


@dataclass(frozen=True, config=CHECKED)
class Teacher:
    """The network whose maps the student learns; it is not changed.

    Attributes:
        name: Any timm model with maps at the strides; empty learns the formulas' classes, without a teacher.
        weights: File of its weights; nothing is downloaded.
        options: Further arguments of `timm.create_model`.
        sha256: Of the file of weights, as a run finds it and keeps it; a run goes on with that file alone.
        licence: Of the teacher's weights, as you state it; it is written into the student's file.
    """

    name: str = ""
    weights: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""
    licence: str = ""


@dataclass(frozen=True, config=CHECKED)
class Match:
    """How the student's maps are held against the teacher's, each through a 1x1 convolution of its own.

    Attributes:
        strides: Of the maps.
        whiten: The teacher's channels are brought to mean 0 and deviation 1 over the pictures.
        distance: Weight of the smooth L1 distance.
        cosine: Weight of one minus the cosine between the channels of a place.
        semantics: Weight of the same loss between the semantic tokens and the teacher's coarsest map, averaged over
            the areas that the tokens stand for. Null is 0.33 for networks with semantic tokens, and 0 for others.
        normalise: The student sees pictures as timm's models do, by mean and deviation; without it as YOLO gives
            them, from 0 to 1.
    """

    strides: tuple[Literal[4, 8, 16, 32], ...] = (8, 16, 32)
    whiten: bool = True
    distance: NotNegative = 1.0
    cosine: NotNegative = 1.0
    semantics: NotNegative | None = None
    normalise: bool = False

    def __post_init__(self) -> None:
        if not self.strides or sorted(set(self.strides)) != list(self.strides):
            raise InputError(f"strides is {list(self.strides)}; give some of 4, 8, 16, 32, ascending")
        if not self.distance + self.cosine:
            raise InputError("distance and cosine are both 0, so nothing would be learnt; give one of them")


@dataclass(frozen=True, config=CHECKED)
class PretrainAugment:
    """What training pictures go through; teacher and student see the same crop.

    Attributes:
        crop_scale: The smallest share of a picture that a crop shows.
        crop_ratio: Narrowest and widest crop, width over height.
        flip: Probability that a picture is mirrored.
        colour_jitter: Largest relative change of brightness, contrast and saturation.
    """

    crop_scale: Annotated[float, Field(gt=0, le=1)] = 0.2
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    flip: Share = 0.5
    colour_jitter: NotNegative = 0.4


@dataclass(frozen=True, config=CHECKED)
class PretrainSettings(DataSettings):
    """Pictures without labels.

    Attributes:
        root: A folder of pictures, by class or not; a data.yaml, or a folder in YOLO's or COCO's layout, of which
            the training pictures are taken; shards; or the word formulas.
        samples: Pictures in an epoch, at the least; a smaller set comes several times.
        digest: Of all pictures, as a run finds it and keeps it; a run goes on with these pictures alone.
        pictures: How many there are, as a run finds it and keeps it.
        classes: Formulas that pictures are drawn by, where root is `formulas`.
    """

    image_size: Annotated[int, Field(ge=64, multiple_of=32)] = 192
    batch: Count = 16
    samples: Count = 1000
    digest: str = ""
    pictures: Annotated[int, Field(ge=0)] = 0
    classes: Annotated[int, Field(ge=2)] = 1000

    @property
    def drawn(self) -> bool:
        """Whether pictures are drawn by formulas."""
        return self.root == FORMULAS


@dataclass(frozen=True, config=CHECKED, kw_only=True)
class PretrainRecipe(Recipe):
    """A recipe of pretraining."""

    LAYOUT: ClassVar[str] = "data.root=FOLDER of pictures, a data.yaml, shards, or formulas"

    task: Literal["pretrain"] = "pretrain"
    teacher: Teacher = field(default_factory=Teacher)
    match: Match = field(default_factory=Match)
    augment: PretrainAugment = field(default_factory=PretrainAugment)
    data: PretrainSettings

    def timm_names(self) -> tuple[str, ...]:
        """Return student and teacher, unless they are Ultralytics'."""
        names = (self.network.name, self.teacher.name)
        return tuple(name for name in names if name and not name.endswith(YOLO_FILES))

    def require(self) -> None:
        """Check that there is something to learn from, and that what is named is there.

        Raises:
            ValueError: no teacher for pictures that are not drawn, or a teacher without weights.
            FileNotFoundError: there is no file of the teacher's weights.
        """
        teacher, root = self.teacher, self.data.root
        if not teacher.name and not self.data.drawn:
            raise InputError(
                f"without --teacher, nothing here learns from the pictures of {root}; lightly-train does: "
                'pip install lightly-train; python -c "import dualvit, lightly_train; '
                f"lightly_train.pretrain(out='runs/lightly', data='{root}', model='timm/{self.network.name}')\""
            )
        if teacher.name and teacher.weights is None:
            raise InputError(
                f"teacher {teacher.name} has no weights here, and none are downloaded; give --weights FILE"
            )
        if teacher.weights is not None and not teacher.name:
            raise InputError(f"weights {teacher.weights} are a teacher's, and none is named; give --teacher NAME")
        if teacher.weights is not None and not Path(teacher.weights).is_file():
            raise MissingFileError(
                f"no weights of the teacher at {teacher.weights}; give a .pth, .pth.tar or .safetensors file"
            )

    def completed(self) -> "PretrainRecipe":
        """Return the recipe with the digests of the teacher's file and of the pictures.

        Raises:
            ValueError: the file or the pictures are not those whose digest the recipe has.
        """
        from dualvit.data.pictures import digest, training_pictures
        from dualvit.weights.read import sha256

        self.require()
        teacher, data = self.teacher, self.data
        if teacher.weights is not None:
            teacher = replace(teacher, sha256=_kept(teacher.sha256, sha256(teacher.weights), teacher.weights))
        if not data.drawn and not is_shards(data.root):  # whose pictures are known once they are read
            files = training_pictures(data.root)
            if len(files) < data.batch:
                raise InputError(
                    f"{data.root} has {len(files)} pictures, and a batch has {data.batch}; give more, or a smaller "
                    f"batch by --set data.batch={max(len(files), 1)}"
                )
            data = replace(data, digest=_kept(data.digest, digest(files), data.root), pictures=len(files))
        return replace(self, teacher=teacher, data=data)

    def portable(self) -> "PretrainRecipe":
        """Return the recipe without the place of the teacher's file."""
        return replace(self, teacher=replace(self.teacher, weights=None))


def _kept(before: str, now: str, place: str) -> str:
    """Return a digest that is the same as before, if there was one."""
    if before not in ("", now):
        raise InputError(f"{place} has sha256 {now[:16]}..., and the recipe names {before[:16]}...; give that one")
    return now


def settings(
    changes: Iterable[str], teacher: str, weights: Path | None, minutes: float | None, epochs: int | None, licence: str
) -> PretrainRecipe:
    """Return the recipe `pretrain` with what its command was given.

    Args:
        changes: Settings, each as `data.root=folder`.
        teacher, weights, licence: Of the teacher.
        minutes, epochs: The length; the recipe's own if both are None.

    Raises:
        ValueError: a mistake in a setting, or both lengths.
    """
    if minutes is not None and epochs is not None:
        raise InputError(f"--minutes is {minutes:g} and --epochs {epochs}; give one of them")
    values = read("pretrain", changes)
    if minutes is not None or epochs is not None:
        length: dict[str, Any] = {"minutes": minutes, "epochs": epochs, "steps": None}
        values["schedule"] = {**values["schedule"], **length}
    if teacher.endswith(YOLO_FILES[1]) and weights is None:
        weights = Path(teacher)  # of Ultralytics' checkpoints, the file is the network
    own = {"name": teacher, "weights": weights and str(weights), "licence": licence}
    values["teacher"] = {**values.get("teacher", {}), **{key: value for key, value in own.items() if value}}
    recipe: PretrainRecipe = typed(PretrainRecipe, values)
    return recipe
