"""Put PASCAL VOC 2012 and SBD where the data sets expect them: prepare_voc.py --help."""

from dl_lib.cli.prepare_voc import main

if __name__ == "__main__":
    main()
