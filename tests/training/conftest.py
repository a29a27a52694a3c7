"""Lets the tests of this folder import `fakes`, as the programs they start do."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
