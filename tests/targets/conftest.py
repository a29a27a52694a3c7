"""Access to the stored outputs of SimpleDet's operators."""

from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "golden" / "ops"


@pytest.fixture
def golden():
    def load(name):
        with np.load(FOLDER / f"{name}.npz") as arrays:
            return dict(arrays)

    return load
