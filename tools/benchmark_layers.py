"""Measure conditional convolutions beside plain ones on this machine: benchmark_layers.py --help."""

from dl_lib.cli.benchmark_layers import main

if __name__ == "__main__":
    main()
