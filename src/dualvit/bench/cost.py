"""What a model costs: parameters, multiply-adds, time and memory."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dualvit.allocator import give_back
from dualvit.bench.rounds import in_turn
from dualvit.fast import fuse


def parameters(model: nn.Module) -> int:
    """The number of parameters.

    Example:
        >>> parameters(nn.Linear(3, 2))
        8
    """
    return sum(p.numel() for p in model.parameters())


def macs(model: nn.Module, image_size: int, channels: int = 3) -> int:
    """Multiply-adds of one picture: matrix products, convolutions and attention, as torch counts them.

    Args:
        model: (1, channels, image_size, image_size) to anything.
        image_size: Height and width in pixels.
        channels: Of the picture.

    Example:
        >>> macs(nn.Conv2d(3, 8, 3, padding=1), 32) == 32 * 32 * 8 * 3 * 9
        True
    """
    training = model.training
    image = torch.zeros(1, channels, image_size, image_size, device=next(model.parameters()).device)
    # Plain attention: older torch does not count every fused kernel.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model.eval()(image)
    model.train(training)
    return int(counter.get_total_flops()) // 2


def fuse_for_inference(model: nn.Module) -> None:
    """Fuse a model in place before it is timed, as before it is deployed.

    A model's own `fuse()` does it if there is one (Ultralytics', some of timm's), else `dualvit.fuse`; quietly.

    Args:
        model: In evaluation mode.
    """
    own = getattr(model, "fuse", None)
    if own is None:
        fuse(model)
        return
    quietly = {"verbose": False} if "verbose" in inspect.signature(own).parameters else {}
    own(**quietly)


def latencies(
    models: Mapping[str, nn.Module], image_size: int, repeats: int = 50, warmup: int = 5, batch: int = 1,
    seconds: float = 60.0, progress: Callable[[int], None] = lambda done: None,
) -> dict[str, list[float]]:  # fmt: skip
    """Seconds of each forward pass, the models in turn in each round, so that a busy moment meets all of them.

    Args:
        models: On the device on which they are to be timed.
        image_size: Height and width in pixels.
        repeats: Rounds.
        warmup: Rounds before, which do not count.
        batch: Pictures in a pass.
        seconds: No new round begins after this time, unless fewer than five are done.
        progress: Called after each round.
    """
    device = next(next(iter(models.values())).parameters()).device
    image = torch.randn(batch, 3, image_size, image_size, device=device)
    steps = {name: partial(forward, model.eval(), image) for name, model in models.items()}
    wait(device)
    with torch.inference_mode():
        return in_turn([steps], repeats, seconds, warmup, progress).times


def forward(model: nn.Module, image: Tensor) -> None:
    """Run a forward pass, to the end of the device's work."""
    model(image)
    wait(image.device)


def wait(device: torch.device) -> None:
    """Until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def saved_bytes(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Count what autograd saves for the backward pass within the block: each storage once, parameters excepted.

    Yields:
        A function that returns the bytes so far. What was saved is held until the block ends.

    Example:
        >>> layer = nn.Sequential(nn.Linear(8, 8), nn.Sigmoid())  # a Linear needs its input, a sigmoid its output
        >>> with saved_bytes(layer) as saved:
        ...     loss = layer(torch.ones(10, 8)).sum()
        ...     print(saved() == 2 * 10 * 8 * 4)
        True
    """
    own = {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no other one takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield lambda: sum(storage.nbytes() for storage in kept.values())
    kept.clear()


class PeakMemory:
    """The most memory that training took: on a GPU what torch held there, else the growth of the process.

    On the CPU, the growth from `start` on of what the process keeps in memory; a resumed run starts anew.
    """

    def __init__(self, cuda: bool) -> None:
        self.cuda = cuda
        self.before = 0

    def start(self) -> None:
        """Begin; what is in memory now does not count on the CPU."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        give_back()  # freed memory that the allocator kept would be taken again unseen
        with contextlib.suppress(OSError):  # Linux: from here on, the highest is counted anew
            Path("/proc/self/clear_refs").write_text("5")
        self.before = _resident("VmRSS")

    def bytes(self) -> int:
        """The peak so far; 0 where the system does not tell."""
        if self.cuda:
            return int(torch.cuda.max_memory_allocated())
        return max(_resident("VmHWM") - self.before, 0)


def _resident(key: str) -> int:
    """Bytes from /proc/self/status, VmRSS now or VmHWM at its highest; elsewhere the peak, from getrusage."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
        import sys
    except ModuleNotFoundError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
