"""The library's `dualvit.progress` for commands, which show that libraries are being imported before they are."""

from dualvit_cli.early import before_torch

with before_torch():
    from dualvit.progress import LIBRARIES, importing, working

__all__ = ["LIBRARIES", "importing", "working"]
