"""Find a learning rate for an experiment by a range test: find_lr.py --config-file PATH."""

from dl_lib.cli.find_lr import main

if __name__ == "__main__":
    main()
