"""Compare the experiments of playground/Zoo at equal iterations: zoo.py --help."""

from dl_lib.cli.zoo import main

if __name__ == "__main__":
    main()
