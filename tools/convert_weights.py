"""Convert weights of the published code: convert_weights.py IN OUT."""

from dl_lib.cli.convert_weights import main

if __name__ == "__main__":
    main()
