"""`python -m dualvit`, which torchrun and SLURM start."""

from dualvit_cli import main

main()
