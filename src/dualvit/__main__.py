"""`python -m dualvit`, which torchrun and SLURM start."""

from dualvit.cli import main

main()
