"""Shared by the tests of the cluster, which need no TensorFlow."""

import pytest


@pytest.fixture(autouse=True)
def clean_tensorflow():
    """Nothing to clean: these tests leave no state in TensorFlow, and cleaning it costs more than most of them."""
