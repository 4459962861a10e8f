"""The same numbers in less time: a trick is a subclass of a layer, put in place by class; the plain class is its test.

    accelerate(model)   trains and saves as before: no weight changes, and no name
    fuse(model)         for inference alone: folds weights too

Nothing in `dualvit.models` imports this package. If a trick does not apply (autograd, autocast, tracing, a compiler,
another device), its class computes what the plain one does.
"""

from dualvit.fast.fuse import accelerate, fuse, is_fused

__all__ = ["accelerate", "fuse", "is_fused"]
