"""Measure what a training costs beside its bare steps on this machine: benchmark_train.py --help."""

from dl_lib.cli.benchmark_train import main

if __name__ == "__main__":
    main()
