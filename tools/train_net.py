"""The command dl_train as a script."""

from dl_lib.cli.train import main

if __name__ == "__main__":
    main()
