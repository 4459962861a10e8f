"""What costs accuracy in a data set, found before the hours are spent: `dualvit doctor`."""
