"""Scores and costs of several runs side by side: compare_runs.py RUN..."""

from dl_lib.cli.compare_runs import main

if __name__ == "__main__":
    main()
