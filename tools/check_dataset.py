"""Check whether a data set is fit to train on."""

from dl_lib.cli.check_dataset import main

if __name__ == "__main__":
    main()
