"""How far exported networks are from eager PyTorch: all five names, two batches, three sizes, in two runtimes.

    python benchmarks/exports.py --out docs/results/exports.json
    python benchmarks/exports.py dualvit_n dualvit_s --format openvino

Weights are random ones under which each branch counts; see `dualvit.deploy.sources.awaken`. Each file holds the same
network, so the errors are of the format and the runtime, and not of a training. Pairs that the JSON already has are
not measured again.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from dualvit.command import command_line
from dualvit.deploy.export import SUFFIXES, export
from dualvit.deploy.sources import RANDOM, open_source
from dualvit.errors import DualViTError
from dualvit.files import read_json, write_json
from dualvit.provenance import environment

NAMES = ("dualvit_n", "dualvit_t", "dualvit_s", "dualvit_b", "dualvit_l")


def measure(name: str, form: str) -> dict[str, Any]:
    """Return the errors of a network's file, or why there is none."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = export(open_source(name, RANDOM), form, Path(folder) / f"{name}{SUFFIXES[form]}")
        except DualViTError as error:
            return {"name": name, "format": form, "failed": str(error)}
        size = sum(file.stat().st_size for file in result.files)
    rows = [
        {"runtime": one.runtime, "precision": one.precision, "error": one.error, "rows": [asdict(r) for r in one.rows]}
        for one in result.parities
    ]
    return {"name": name, "format": form, "seconds": round(time.monotonic() - started), "bytes": size,
            "nodes": dict(result.nodes), "parities": rows}  # fmt: skip


def placed(one: Mapping[str, Any]) -> tuple[int, int]:
    """Return where a row stands in the JSON: by its format, then by the network's size."""
    return list(SUFFIXES).index(one["format"]), NAMES.index(one["name"])


def main() -> None:
    """Measure the pairs that the JSON lacks, print a line for each, and write JSON after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--format", dest="forms", action="append", choices=SUFFIXES)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)  # before hours of work, and not after
    results = list((read_json(args.out) or {}).get("results", [])) if args.out else []
    known = {(one["name"], one["format"]) for one in results if "failed" not in one}
    results = [one for one in results if "failed" not in one]
    for form, name in product(args.forms or ["onnx"], args.names):
        if (name, form) in known:
            continue
        results.append(measure(name, form))
        one = results[-1]
        said = [f"{p['runtime']} {p['error']:.1e}" for p in one.get("parities", ())]
        print(name, form, ", ".join(said) or one["failed"], flush=True)
        if args.out:
            about = {"command": command_line(), "environment": environment(cuda=False), "limit": 1e-4}
            write_json(args.out, about | {"results": sorted(results, key=placed)})


if __name__ == "__main__":
    main()
