"""The examples of the docstrings, as a person would type them."""

from __future__ import annotations

import doctest

import pytest

import tfdet
from tfdet.exported_model import DetectingModel


@pytest.fixture
def names(here, trained, exported):
    """What the examples speak of."""
    found = trained.predict("pictures/street.jpg", score_threshold=0.01)[0]
    return {"tfdet": tfdet, "model": trained, "exported": exported, "found": found}


@pytest.mark.parametrize(
    "part",
    [tfdet.list_models, tfdet.build, tfdet.load, tfdet.train, tfdet.browse]
    + [tfdet.Found, tfdet.Model, DetectingModel, tfdet.ExportedModel],
    ids=lambda part: part.__name__,
)
def test_examples_do_what_they_show(part, names):
    examples = [test for test in doctest.DocTestFinder().find(part, part.__name__, globs=names) if test.examples]
    assert examples
    runner, shown = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE), []
    for test in examples:
        runner.run(test, out=shown.append)
    assert runner.failures == 0, "".join(shown)


def test_whatever_is_public_has_an_example():
    functions = [tfdet.build, tfdet.load, tfdet.list_models, tfdet.train, tfdet.convert_data, tfdet.browse, tfdet.Found]
    functions += [getattr(tfdet.Found, name) for name in ("above", "of_class", "draw", "to_coco")]
    functions += [getattr(tfdet.Model, name) for name in ("predict", "evaluate", "export", "save")]
    assert [part.__qualname__ for part in functions if ">>>" not in part.__doc__] == []
