import sys
from pathlib import Path

# The scripts are not part of the package: they import each other as modules of their folder.
sys.path.append(str(Path(__file__).parents[2] / "tools" / "benchmarks"))
