"""The command line: `dualvit yolo | compare | bench | ...`. Errors are one line, with the remedy.

It stands beside the package `dualvit`, and imports it inside commands alone: whoever imports `dualvit` gets torch and
timm with it, and `--help`, `--version` and a mistyped option need not wait for these.
"""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from dualvit_cli import classify, recipe
from dualvit_cli.early import before_torch, keep_memory
from dualvit_cli.progress import LIBRARIES, importing, working

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Dual Vision Transformer: weights, data, and YOLOv8 on top of it.",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: drawn ones, and public ones.")
app.add_typer(recipe.app, name="recipe")
classify.register(app)
app.add_typer(data_app, name="data")
console = Console()


def say(line: str) -> None:
    """Print a line as it is: a path may hold what rich takes for its markup."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_version(asked: bool) -> None:
    """Print the version and stop, where `--version` is given."""
    if asked:
        print(f"dualvit {version('dualvit')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of the command line itself."""


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": ["-h", "--help"],
    },
    options_metavar="TASK MODE model=... data=... key=value",
)
def yolo(context: typer.Context) -> None:
    """The Ultralytics command line with Dual-ViT registered.

    \b
    TASK  detect, segment, classify, pose or obb
    MODE  train, val, predict, track or export

    Models besides Ultralytics' own:

    \b
    yolov8n-dualvit.yaml        also s m l x, and -seg -cls -pose -obb
    yolov8n-timm.yaml           on any timm backbone, likewise
    yolov8n-c2fdual.yaml        dual blocks in the stock backbone
    yolov8n-c2fdual-neck.yaml   dual blocks in the stock neck
    best.pt, best.safetensors   what training and save_weights wrote

    Options besides Ultralytics' own, for models on a timm backbone:

    \b
    backbone=NAME           any timm model with maps at strides 8, 16 and 32
    backbone_args=MAPPING   its options, such as "{mixer: outlook}"
    weights=FILE   its checkpoint; every key must match
    backbone_lr=FACTOR      on the backbone's learning rate, in (0, 1]
    layer_decay=FACTOR      on it for each layer further down, in (0, 1]
    drop_path_rate=RATE     drop path of the backbone's last block

    Examples:

    \b
    dualvit yolo detect train model=yolov8n-dualvit.yaml data=data.yaml
    dualvit yolo segment train model=yolov8n-timm-seg.yaml data=data.yaml \\
        backbone=convnext_atto epochs=100 imgsz=640
    dualvit yolo detect predict model=best.pt source=images

    Ultralytics' own help: dualvit yolo help. Its settings: dualvit yolo cfg.
    """
    if not context.args:
        print(context.get_help())
        return
    with importing():
        from dualvit.yolo.cli import run

    keep_memory()
    run(context.args)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Published checkpoint: .pth, .pth.tar or .safetensors.")],
    target: Annotated[Path, typer.Argument(help="Where the .safetensors file goes.")],
) -> None:
    """Convert a checkpoint to safetensors in this package's names, and report its keys."""
    with working(f"converting {source}", first=LIBRARIES):
        from dualvit.weights import convert as convert_checkpoint

        report, name, digest = convert_checkpoint(source, target)
    console.print(f"[bold]{name}[/bold]: {report.loaded} of {report.total} keys", highlight=False)
    say(f"missing: {', '.join(report.missing) or 'none'}\nunexpected: {', '.join(report.unexpected) or 'none'}")
    say(f"sha256 {digest}  {target}")


@data_app.command()
def digits(
    folder: Annotated[Path, typer.Argument(help="Where the data set goes; a new folder.")],
    images: Annotated[int, typer.Option(help="Images, training and validation together.")] = 400,
    size: Annotated[int, typer.Option(help="Sides of an image in pixels.")] = 320,
    seed: Annotated[int, typer.Option(help="The same seed makes the same data.")] = 0,
) -> None:
    """Real handwritten digits on cluttered backgrounds, with boxes, polygons and classes."""
    with working(f"drawing {images} images, and single digits") as report:
        from dualvit.drawn.digits import write_digits

        yaml = write_digits(folder, images, size, seed, progress=report)
    say(f"{images} images in {folder}; train on it with data={yaml}")


@data_app.command()
def get(
    name: Annotated[str, typer.Argument(help="bccd, nuclei, raccoon or sign-digits.")],
    out: Annotated[Path | None, typer.Option(help="Where the data set goes; datasets/NAME if left out.")] = None,
) -> None:
    """Fetch a public data set, check it, and write it so that dualvit and YOLO read it.

    The real hosts were not tried when this was written. DUALVIT_MIRROR=URL takes the place of https://HOST.
    """
    with working(f"fetching {name}") as report:
        from dualvit.data.get import get as get_data

        data, pictures = get_data(name, out or Path("datasets") / name, progress=report)
    say(f"{pictures} images in {out or Path('datasets') / name}; train on it with data={data}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where data, run and pictures go.")] = Path("demo"),
) -> None:
    """Train yolov8n-dualvit on digits for a few minutes, validate it, and draw what it finds."""
    with importing():
        from dualvit.locks import only_writer
        from dualvit.yolo.demo import run

    keep_memory()
    with only_writer(folder, "dualvit demo"):
        run(folder, console)


@app.command()
def compare(
    experiment: Annotated[
        Path,
        typer.Argument(
            help="YAML file: task, data, models, epochs or minutes; or digits, one that comes with dualvit."
        ),
    ],
) -> None:
    """Train models at an equal budget, and report accuracy, cost, and how sure the differences are.

    Running it again keeps what is finished, continues what was stopped, and retries what failed.
    """
    with before_torch():
        from dualvit.compare.experiment import load, require

        require(load(experiment))
    with importing():
        from dualvit.compare.runner import run

    if not run(experiment, console):
        raise typer.Exit(1)


@app.command()
def bench(
    models: Annotated[str, typer.Option(help="Names, split by commas; options as in dualvit_s:semantic_grid=8x8.")],
    image_size: Annotated[str, typer.Option(help="Sides of the images in pixels, split by commas.")] = "224",
    batch: Annotated[int, typer.Option(help="Images in a pass.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, bf16-autocast, float16, int8.")] = "float32",
    train: Annotated[bool, typer.Option(help="A training step instead of inference.")] = False,
    features: Annotated[bool, typer.Option(help="The maps that detectors read, without the classifier.")] = False,
    fuse: Annotated[bool, typer.Option(help="Fold what can be folded first.")] = False,
    compile: Annotated[bool, typer.Option(help="Run through torch.compile.")] = False,
    grad_checkpointing: Annotated[
        str, typer.Option(help="Recompute in the backward pass: all, or stages, as 0,1.")
    ] = "",
    rounds: Annotated[int, typer.Option(help="Passes of each model that count, the models in turn.")] = 20,
    seconds: Annotated[float, typer.Option(help="No new round after this time.")] = 120.0,
    out: Annotated[Path, typer.Option(help="Folder for bench.json and the picture.")] = Path("runs/bench"),
    sizes: Annotated[str, typer.Option(hidden=True)] = "",
    checkpointing: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Parameters, multiply-adds, latency, memory, and the share of the machine's matrix-product rate."""
    for old, new in (
        (sizes, "--sizes; it is called --image-size"),
        (checkpointing, "--checkpointing; it is called --grad-checkpointing"),
    ):
        if old:
            raise ValueError(f"unknown option {new}")
    sides, stages = tuple(numbers("image-size", image_size)), recomputed(grad_checkpointing)
    with before_torch():
        from dualvit.recipes.checks import require_model

        for name in (model.split(":")[0] for model in split(models)):
            if not name.endswith((".yaml", ".yml")):
                require_model(name)
    with importing():
        from dualvit.bench.bench import bench
        from dualvit.bench.report import show, write
        from dualvit.bench.results import BenchSettings
        from dualvit.locks import only_writer

    settings = BenchSettings(
        split(models), sides, split(dtype), batch, device, train, features, fuse, compile, stages, rounds, seconds
    )
    with only_writer(out, "dualvit bench"):
        with working("warm up") as report:
            result = bench(settings, lambda what, done, total: report(done, total, what), detector)
        show(result, console)
        files = write(result, out)
    say(f"results {', '.join(map(str, files))}")
    if not result.measured:
        raise typer.Exit(1)


def detector(name: str, options: dict[str, Any]) -> Any:
    """Build an Ultralytics YAML for the bench."""
    from dualvit.yolo.engine import network

    return network(name, options, "detect", 80)


def split(text: str) -> tuple[str, ...]:
    """The words of a comma-separated option."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(name: str, text: str) -> list[int]:
    """The whole numbers of a comma-separated option.

    Raises:
        ValueError: a word is none.
    """
    words = split(text)
    if not words or not all(word.isdigit() for word in words):
        raise ValueError(f"{name} is {text!r}; give whole numbers split by commas, such as 224,640")
    return [int(word) for word in words]


def recomputed(text: str) -> bool | tuple[int, ...]:
    """Whether blocks are recomputed, or in which stages.

    Raises:
        ValueError: a word is no number.
    """
    return text == "all" if text in ("", "all") else tuple(numbers("grad-checkpointing", text))


@app.command()
def models() -> None:
    """List the networks and YOLO files that this package adds."""
    with importing():
        from dualvit.meta import on_meta
        from dualvit.models import create_model, dual_vit, pvt, pyramid, region_vit

    table = Table("name", "parameters", "channels", "depths", "mixer, semantics", box=None, header_style="bold")
    notes = {pyramid: "any", region_vit: "regional", pvt: "reduction"}
    entries = [(family, *entry) for family in (dual_vit, *notes) for entry in family.CONFIGS.items()]
    for family, name, shape in entries:
        with on_meta():
            parameters = sum(p.numel() for p in create_model(name).parameters())
        grid = getattr(shape, "semantic_grid", None)
        semantics = f"dual, {grid[0]}x{grid[1]}" if grid else "dual, 1 per 28x28"
        table.add_row(
            name,
            f"{parameters / 1e6:.1f} M",
            " ".join(map(str, shape.dims)),
            " ".join(map(str, shape.depths)),
            notes.get(family, semantics),
        )
    console.print(table)
    console.print(yolo_table())


def yolo_table() -> Table:
    """The YOLO files and what each is for, which its first line says; Ultralytics need not be installed."""
    import dualvit

    table = Table("YOLO file, n s m l x", "what for", box=None, header_style="bold")
    for file in sorted((Path(dualvit.__file__).parent / "yolo" / "cfg").glob("*.yaml")):
        purpose = file.read_text().splitlines()[0].removeprefix("# YOLOv8 ").split(":")[0]
        table.add_row(file.name.replace("yolov8-", "yolov8n-", 1), purpose)
    return table


def stopped() -> NoReturn:
    """End as Ctrl-C does."""
    console.print("stopped")
    sys.exit(130)


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit status 1, without a traceback."""
    try:
        app(prog_name="dualvit")
    except KeyboardInterrupt:
        stopped()
    except SystemExit as end:
        if end.code == 130:  # what typer makes of Ctrl-C
            stopped()
        raise
    except Exception as error:
        if os.environ.get("DUALVIT_DEBUG"):
            raise
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:  # Python itself makes an error of an interrupt in some places of an import
            stopped()
        line = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ModuleNotFoundError) and error.name == "ultralytics":
            line = "this command needs Ultralytics; install dualvit[yolo]"
        print(f"error: {line}  (DUALVIT_DEBUG=1 shows where)", file=sys.stderr)
        sys.exit(1)
