"""What the tests of the configuration share."""

import pytest

from tfdet import config
from tfdet.errors import UserError


@pytest.fixture
def refused():
    """`refused(*bindings)` parses them as --gin_param and returns the one line of the error they must cause."""

    def parse(*bindings: str, files=()) -> str:
        with pytest.raises(UserError) as caught:
            config.parse(files, bindings)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return parse


@pytest.fixture(autouse=True)
def clean_tensorflow():
    """Nothing to clean: these tests leave no state in TensorFlow, and cleaning it costs more than most of them."""
