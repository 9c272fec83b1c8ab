"""Look at the images and labels of a data set, before and after augmentation."""

from dl_lib.cli.browse_dataset import main

if __name__ == "__main__":
    main()
