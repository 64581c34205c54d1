"""The figures in the README, reproducible with `make bench`."""
