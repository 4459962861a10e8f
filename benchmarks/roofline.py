"""What holds a model back: the time of each kind of operation, and what its multiply-adds take at the machine's rate.

    python benchmarks/roofline.py                                    # dualvit_s at 224, batch 8, fused
    python benchmarks/roofline.py volo_d1_224 --dtype bfloat16 --calls 12

Operations are timed where Python calls them, one after the other, in passes of the whole model, the rate looked at
before each; the quicker half of the passes counts. What is left is Python itself and what is too small for a line.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualvit.allocator import keep_freed_memory
from dualvit.bench.cost import fuse_for_inference
from dualvit.bench.machine import probe
from dualvit.bench.networks import bench_network
from dualvit.bench.precision import prepare
from dualvit.fast import packed, sliced

Key = tuple[str, tuple[int, ...], tuple[int, ...]]  # kind, shape of the input, shape of what it meets
Found = dict[Key, list[tuple[float, int]]]  # seconds and multiply-adds of each call
CPU = torch.device("cpu")


def linear_macs(out: Tensor, tokens: Tensor, *_args: Any, **_options: Any) -> int:
    """Of a Linear: each output is a sum over the channels of the input."""
    return out.numel() * tokens.shape[-1]


def attention_macs(_out: Tensor, q: Tensor, k: Tensor, *_args: Any, **_options: Any) -> int:
    """Of attention: scores, and sums of values."""
    return 2 * q.numel() * k.shape[-2]


def convolution_macs(out: Tensor, _layer: Any, _image: Tensor, weight: Tensor, *_args: Any) -> int:
    """Of a convolution."""
    return out.numel() * weight[0].numel()


def none(*_args: Any, **_options: Any) -> int:
    """Of what is no product."""
    return 0


# Where Python calls it: owner, name, kind, multiply-adds, and which arguments tell its shapes.
CALLS: tuple[tuple[Any, str, str, Callable[..., int], tuple[int, ...]], ...] = (
    (F, "linear", "Linear", linear_macs, (0, 1)),
    (F, "scaled_dot_product_attention", "attention", attention_macs, (0, 1)),
    (F, "layer_norm", "layer norm", none, (0,)),
    (F, "gelu", "GELU", none, (0,)),
    (F, "relu", "ReLU", none, (0,)),
    (nn.Conv2d, "_conv_forward", "convolution", convolution_macs, (1, 2)),
    (sliced, "depthwise", "depthwise + GELU", lambda out, *_: 9 * out.numel(), (0,)),
    (sliced, "product", "Linear", lambda out, _linear, tokens, *_, **__: linear_macs(out, tokens), (1,)),
    (packed, "product", "Linear", lambda out, _linear, tokens, *_, **__: linear_macs(out, tokens), (1,)),
    (torch, "baddbmm", "attention", lambda out, _begun, left, *_, **__: out.numel() * left.shape[-1], (1, 2)),
    (torch, "bmm", "attention", lambda out, left, *_: out.numel() * left.shape[-1], (0, 1)),
    (torch, "softmax", "attention", none, (0,)),
    (torch, "cat", "copies and sums", none, ()),
    (Tensor, "__add__", "copies and sums", none, (0,)),
    (Tensor, "__setitem__", "copies and sums", none, (0,)),
)


def watch(found: Found) -> None:
    """Put a clock around every call, for the rest of the process."""
    for owner, name, kind, macs, arguments in CALLS:
        setattr(owner, name, timed(getattr(owner, name), kind, macs, arguments, found))


def timed(
    call: Callable[..., Any],
    kind: str,
    macs: Callable[..., int],
    arguments: tuple[int, ...],
    found: Found,
) -> Callable[..., Any]:
    """A call that leaves its seconds and multiply-adds behind, under its kind and the shapes of some arguments."""

    def clocked(*args: Any, **options: Any) -> Any:
        before = time.perf_counter()
        out = call(*args, **options)
        seconds = time.perf_counter() - before
        shapes = [tuple(args[index].shape) for index in arguments] + [(), ()]
        found[kind, shapes[0], shapes[1]].append((seconds, macs(out, *args, **options)))
        return out

    return clocked


def main() -> None:
    """Time a model's operations and print where its time goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="dualvit_s", help="as `dualvit bench` takes it")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--passes", type=int, default=8)
    parser.add_argument("--calls", type=int, default=0, help="print as many single calls, those that lose most")
    args = parser.parse_args()
    keep_freed_memory()
    network = bench_network(args.model, args.size, features=False).eval()
    fuse_for_inference(network)
    image = torch.randn(args.batch, 3, args.size, args.size).contiguous(memory_format=torch.channels_last)
    network, image, _ = prepare(network, image, args.dtype)
    look = probe(CPU, args.dtype)
    found: Found = defaultdict(list)
    watch(found)
    passes = []
    with torch.inference_mode():
        for index in range(-2, args.passes):
            rate = look()
            found.clear()
            before = time.perf_counter()
            network(image)
            total = time.perf_counter() - before
            if index >= 0:
                passes.append((total, rate, {key: list(calls) for key, calls in found.items()}))
    quick = sorted(passes, key=lambda one: one[0])[: (args.passes + 1) // 2]
    total = 1e3 * statistics.fmean(one[0] for one in quick)
    rate = statistics.fmean(one[1] for one in quick)
    rows = []
    for key, calls in quick[0][2].items():
        took = 1e3 * statistics.fmean(sum(seconds for seconds, _ in one[2][key]) for one in quick)
        rows.append((key, len(calls), took, 1e3 * sum(macs for _, macs in calls) / rate))
    what = f"{args.model} at {args.size}, batch {args.batch}, {args.dtype}"
    alone = sum(row[3] for row in rows)
    print(f"{what}: {total:.0f} ms; products alone would take {alone:.0f} at the machine's {rate / 1e9:.0f} GMAC/s")
    print(f"{'':18} {'ms':>7} {'of all':>7} {'at rate':>8} {'lost':>7}")
    kinds = {kind: [row for row in rows if row[0][0] == kind] for kind in dict.fromkeys(row[0][0] for row in rows)}
    summed = {kind: (sum(row[2] for row in some), sum(row[3] for row in some)) for kind, some in kinds.items()}
    summed["left"] = (max(total - sum(took for took, _ in summed.values()), 0.0), 0.0)
    for kind, (took, ideal) in sorted(summed.items(), key=lambda item: -item[1][0]):
        print(f"{kind:18} {took:7.1f} {took / total:7.0%} {ideal:8.1f} {took - ideal:7.1f}")
    for (kind, shape, other), many, took, ideal in sorted(rows, key=lambda row: row[3] - row[2])[: args.calls]:
        print(f"{took - ideal:7.1f} lost in {many:g} x {kind} {list(shape)} {list(other) if other else ''}")


if __name__ == "__main__":
    main()
