"""The command dl_test as a script."""

from dl_lib.cli.evaluate import main

if __name__ == "__main__":
    main()
