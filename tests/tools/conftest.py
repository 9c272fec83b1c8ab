import sys
from pathlib import Path

# The scripts are not part of the package: they import each other as modules of their folder.
TOOLS = Path(__file__).parents[2] / "tools"
sys.path += [str(TOOLS), str(TOOLS / "benchmarks")]
