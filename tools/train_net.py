"""Wrapper script for `dl_lib train`, such as `torchrun tools/train_net.py`."""

from dl_lib.cli.train import main

if __name__ == "__main__":
    main()
