"""What TensorRT and Triton are told of an ONNX file: a line for trtexec, and a config.pbtxt, with the free axes.

Neither was run: they need an NVIDIA GPU.
"""

import shlex
from pathlib import Path
from typing import Any

from dualvit.deploy.metadata import Metadata

MOST = 16  # pictures in a batch
USUAL = 4


def shapes(metadata: Metadata) -> dict[str, tuple[int, int, int, int]]:
    """Return the shapes (B, 3, H, W) that an engine is built for: the least, the usual, the largest.

    Example:
        >>> shapes(Metadata("dualvit_n", "classify"))
        {'min': (1, 3, 32, 32), 'opt': (4, 3, 224, 224), 'max': (16, 3, 448, 448)}
    """
    height, width = (metadata.tile,) * 2 if metadata.tile else metadata.image_size
    if not metadata.dynamic:
        return dict.fromkeys(("min", "opt", "max"), (1, 3, height, width))
    batches = (1, 1, 1) if metadata.head == "torchvision" else (1, USUAL, MOST)
    low = max(32, metadata.stride)
    return {
        "min": (batches[0], 3, low, low),
        "opt": (batches[1], 3, height, width),
        "max": (batches[2], 3, 2 * height, 2 * width),
    }


def script(metadata: Metadata, onnx: str, input_name: str) -> str:
    """Return a shell script that builds an engine beside an ONNX file, in float32.

    TensorRT rounds float32 products to TF32 by itself, which `--noTF32` forbids.
    """
    words = ["trtexec", f"--onnx={onnx}", f"--saveEngine={Path(onnx).stem}.engine", "--noTF32"]
    if metadata.dynamic:
        for name, shape in shapes(metadata).items():
            words.append(f"--{name}Shapes={input_name}:{'x'.join(map(str, shape))}")
    lines = " \\\n  ".join(map(shlex.quote, words))
    return (
        "#!/bin/sh\n"
        f"# Builds a TensorRT engine of {metadata.name}, for batches and sizes from min to max. It was not run here:\n"
        "# it needs an NVIDIA GPU and TensorRT 8.6 or newer, which know LayerNormalization as one node.\n"
        f'set -e\ncd "$(dirname "$0")"\n{lines}\n'
    )


def triton(metadata: Metadata, graph: Any) -> str:
    """Return Triton's config.pbtxt of an engine.

    Args:
        metadata: Of the file.
        graph: Of the ONNX file, which has names, kinds and sizes of inputs and outputs.
    """
    batched = metadata.dynamic and metadata.head != "torchvision"
    lines = [
        "# Not run here. In Triton's model repository this is NAME/config.pbtxt, and the engine NAME/1/model.plan.",
        '# For the ONNX file itself, as NAME/1/model.onnx, write platform: "onnxruntime_onnx".',
        f'name: "{metadata.name}"', 'platform: "tensorrt_plan"', f"max_batch_size: {MOST if batched else 0}",
    ]  # fmt: skip
    for kind, values in (("input", graph.input), ("output", graph.output)):
        entries = []
        for value in values:
            tensor = value.type.tensor_type
            sizes = [size.dim_value or -1 for size in tensor.shape.dim][int(batched) :]
            kinds = {1: "TYPE_FP32", 7: "TYPE_INT64", 10: "TYPE_FP16"}
            dims = f"dims: [ {', '.join(map(str, sizes))} ]"
            entries.append(f'  {{ name: "{value.name}"  data_type: {kinds[tensor.elem_type]}  {dims} }}')
        lines.append(f"{kind} [\n" + ",\n".join(entries) + "\n]")
    if batched:
        lines.append("dynamic_batching { }")
    return "\n".join(lines) + "\n"


def write_beside(metadata: Metadata, onnx_file: Path, folder: Path, stem: str) -> list[Path]:
    """Write NAME.trtexec.sh and NAME.config.pbtxt into a folder, for the ONNX file that will be called NAME.onnx."""
    import onnx

    graph = onnx.load(onnx_file, load_external_data=False).graph
    build, config = folder / f"{stem}.trtexec.sh", folder / f"{stem}.config.pbtxt"
    build.write_text(script(metadata, f"{stem}.onnx", graph.input[0].name))
    build.chmod(0o755)
    config.write_text(triton(metadata, graph))
    return [build, config]
