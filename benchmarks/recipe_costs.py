"""What the paper's recipes cost: training FLOPs and activation memory counted part by part, GPU-hours worked out.

    python benchmarks/recipe_costs.py                        # all recipes but the laptop ones, where they are installed
    python benchmarks/recipe_costs.py coco-retinanet-s       # one; the others keep their rows

Counted: forward and backward FLOPs of an image, and the bytes that autograd saves for the backward pass. Classifiers
and segmenters run on fake tensors, which have shapes and no values, in bfloat16 autocast; detectors, whose boxes depend
on values, run for real on one image, in float32. Assumed: the GPU's peak and the share of it that training reaches.
Writes docs/results/recipe-costs.json and recipe-costs.md.
"""

import argparse
import contextlib
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from dualvit.bench.cost import saved_bytes
from dualvit.files import read_json, write_json
from dualvit.provenance import environment
from dualvit.recipes.config import Recipe, names
from dualvit.recipes.run import kind, load_recipe

aten = torch.ops.aten
RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
PEAK = 312e12  # FLOP/s of an A100 in bfloat16, by its data sheet
UTILISATION = 0.35  # assumed
GPUS = 8
CLASSES = {"classify": 1000, "detect": 80, "semantic": 150}
IMAGES = {"classify": 1_281_167, "detect": 117_266, "semantic": 20_210}  # to train on; COCO's with boxes
# Of a parameter in mixed precision: weight, gradient and two moments of AdamW, each in float32.
BYTES = 16
GIB = 2**30


def outputs(task: Any, recipe: Any, batch: int) -> Any:
    """The losses of random images; of a classifier the logits, since its targets cost next to nothing."""
    if recipe.task != "detect":
        side = recipe.data.image_size
        images = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
        if recipe.task == "classify":
            return task.network(images)
        return task.loss((list(images), list(torch.zeros(batch, side, side, dtype=torch.long))))
    height, width = recipe.data.short_side, recipe.data.long_side
    return task.loss(([torch.rand(3, height, width) for _ in range(batch)], [target(height, width)] * batch))


def target(height: int, width: int) -> dict[str, Tensor]:
    """Seven objects, COCO's mean, with boxes and masks."""
    corners = torch.rand(7, 2) * 0.6
    boxes = torch.cat([corners, corners + 0.1 + torch.rand(7, 2) * 0.3], 1) * torch.tensor([width, height] * 2)
    masks = torch.zeros(7, height, width, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    return {"boxes": boxes, "labels": torch.arange(1, 8), "masks": masks, "image_id": torch.tensor(0)}


def tensors(value: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        return [value] if value.requires_grad else []
    return [t for item in (value.values() if hasattr(value, "values") else value) for t in tensors(item)]


def count(recipe: Recipe, batch: int) -> tuple[int, int, int]:
    """FLOPs of forward and backward, bytes saved in between, and parameters."""
    task = kind(recipe.task).TaskType(recipe, tuple(map(str, range(CLASSES[recipe.task])))).train()
    fake = FakeTensorMode()
    if recipe.task != "detect":
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # a fake weight cannot be put into a real one
        task._apply(fake.from_tensor)
    with contextlib.nullcontext() if recipe.task == "detect" else fake:
        with FlopCounterMode(display=False) as counter, saved_bytes(task) as saved:
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.task != "detect"):
                found = outputs(task, recipe, batch)
            memory = saved()
            sum(t.float().sum() for t in tensors(found)).backward()
        flops = counter.get_flop_counts()["Global"]
    # torch counts the backward pass of a depthwise convolution as if it were a dense one; it costs two forward ones.
    flops[aten.convolution_backward] = 2 * flops[aten.convolution]
    return sum(flops.values()), memory, sum(p.numel() for p in task.parameters())


@cache
def count_named(name: str, batch: int) -> tuple[int, int, int]:
    """`count` of a recipe by name; schedules of several lengths have one count."""
    torch.manual_seed(0)
    return count(load_recipe(name, ["data.root=none"]), batch)


def cost(name: str) -> dict[str, Any]:
    """One recipe's row."""
    recipe, name = load_recipe(name, ["data.root=none"]), name.removesuffix("-3x")
    batch = 1 if recipe.task == "detect" else 2
    flops, memory, parameters = count_named(name, batch)
    activations = memory / batch
    if batch > 1:  # what does not grow with the batch, copies of weights in bfloat16, counts once
        activations = (count_named(name, 2 * batch)[1] - memory) / batch
    schedule = recipe.schedule
    images = schedule.steps * recipe.data.batch if schedule.steps else 0
    images = images or (schedule.epochs + schedule.cooldown_epochs) * IMAGES[recipe.task]
    speed = PEAK * UTILISATION
    return {
        "precision": "float32" if recipe.task == "detect" else "bfloat16 autocast",
        "parameters": parameters,
        "flops_an_image": flops / batch,
        "activation_bytes_an_image": activations,
        "images": images,
        "batch": recipe.data.batch,
        "train_flops": flops / batch * images,
        "gpu_hours": flops / batch * images / speed / 3600,
        "step_seconds": flops / batch * recipe.data.batch / GPUS / speed,
        "bytes_a_gpu": BYTES * parameters + activations * recipe.data.batch / GPUS,
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The page of results."""
    lines = [
        "# What the paper's recipes cost",
        "",
        f"**Worked out, not measured on a GPU.** Assumed: {PEAK / 1e12:.0f} TFLOP/s in bfloat16 (an A100, by its data "
        f"sheet), of which training reaches {UTILISATION:.0%}; {GPUS} GPUs. If yours reach half of that share, hours "
        "and seconds double.",
        "",
        "Counted, by `python benchmarks/recipe_costs.py`: FLOPs of an image (a multiply-add is two), forward and "
        "backward, and the bytes that autograd saves for the backward pass without checkpointing: in bfloat16 "
        "autocast, of detectors in float32, which is an upper bound for bfloat16. "
        f"Memory adds {BYTES} bytes a parameter (weight, gradient and AdamW's two moments, in float32); the allocator, "
        "cuDNN's workspace and NCCL come on top. Loading and validation take no time here. Rows are **ours**: "
        "[recipe-costs.json](recipe-costs.json).",
        "",
        "| recipe | parameters | TFLOPs an image | activations an image | images seen | GPU-hours | step, "
        f"{GPUS} GPUs | memory a GPU, batch / {GPUS} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        activations, memory = row["activation_bytes_an_image"] / GIB, row["bytes_a_gpu"] / GIB
        lines.append(
            f"| {name} | {row['parameters'] / 1e6:.1f} M | {row['flops_an_image'] / 1e12:.3f} | "
            f"{activations:.2f} GiB | {row['images'] / 1e6:.1f} M | {row['gpu_hours']:.0f} | "
            f"{row['step_seconds']:.2f} s | {memory:.1f} GiB at {row['batch'] / GPUS:g} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Count the recipes, and write the rows beside those that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", help="all but the laptop ones where left out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    rows = dict((read_json(args.out / "recipe-costs.json") or {}).get("rows", {}))
    for name in args.recipes or [name for name in names() if not name.startswith("laptop")]:
        rows[name] = cost(name)
        print(name, rows[name], flush=True)
        rows = dict(sorted(rows.items()))
        assumed = {"peak_flops": PEAK, "utilisation": UTILISATION, "gpus": GPUS, "bytes_a_parameter": BYTES}
        write_json(args.out / "recipe-costs.json", {**environment(False), "seed": 0, "assumed": assumed, "rows": rows})
        (args.out / "recipe-costs.md").write_text(table(rows))


if __name__ == "__main__":
    main()
