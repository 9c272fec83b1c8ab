"""Draw the metrics of runs as curves: plot_metrics.py RUN..."""

from dl_lib.cli.plot_metrics import main

if __name__ == "__main__":
    main()
