"""Measure the default network on this machine: benchmark.py --help."""

from dl_lib.cli.benchmark import main

if __name__ == "__main__":
    main()
