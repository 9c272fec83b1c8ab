"""Measure what loading a training sample costs on this machine: benchmark_data.py --help."""

from dl_lib.cli.benchmark_data import main

if __name__ == "__main__":
    main()
