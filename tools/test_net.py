"""Wrapper script for `dl_lib evaluate`, such as `torchrun tools/test_net.py`."""

from dl_lib.cli.evaluate import main

if __name__ == "__main__":
    main()
