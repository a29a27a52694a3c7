"""Old spellings: a person is told the new one, the file that a run left behind is read as what it meant."""

import pytest

from tfdet import config
from tfdet.config import registration, renamed
from tfdet.errors import ParameterError, UserError

config.register_all()

VALUES = [
    ("TrainInput.profile", "S", "Write TrainInput.profile = 'first_release'."),
    ("TrainInput.profile", "H", "Write TrainInput.profile = 'later_revision'."),
    ("TrainInput.profile", "C", "Write TrainInput.profile = 'continuous'."),
    ("ProposalGenerator.variant", "continuous", "Write TwoStageDetector.convention = 'continuous'."),
]


def call(name, value):
    """Calls a part with one argument."""
    part, parameter = name.split(".")
    (selector,) = registration.matching_selectors(part)
    return registration.entry(selector).wrapped(**{parameter: value})


@pytest.mark.parametrize("old, new", renamed.PARAMETERS.items())
def test_old_parameters_are_refused_with_the_new_one_named(tmp_path, refused, old, new):
    file = tmp_path / "mine.gin"
    file.write_text(f"\n{old} = 'continuous'\n")
    expected = f"{old} is {new} now: set it there, once for all parts."
    assert refused(files=[str(file)]) == f"{file}:2: {expected}"
    assert refused(f"one/{old} = 'continuous'").endswith(expected)
    with pytest.raises(ParameterError) as caught:
        call(old, "continuous")
    assert str(caught.value) == expected


@pytest.mark.parametrize("name, value, expected", VALUES)
def test_old_values_are_refused_with_the_new_ones_named(refused, name, value, expected):
    line = refused(f"{name} = {value!r}")
    assert f"{name} = {value!r}: expected one of " in line and line.endswith(expected)
    assert refused("OLD = " + repr(value), f"{name} = %OLD").endswith(expected)
    with pytest.raises(UserError) as caught:
        call(name, value)
    assert str(caught.value).endswith(expected)


OLD_RUN = """
OLD_PROFILE = 'C'
CONVENTION = 'continuous'

build_detector.detector = @TwoStageDetector
PostProcess.convention = 'continuous'
PostProcess.max_detections = 50
ProposalGenerator.variant = 'continuous'
RoiTargetSampler.convention = %CONVENTION
RpnTargetAssigner.convention = 'continuous'
TrainInput.profile = %OLD_PROFILE
TwoStageDetector.postprocess = @PostProcess()
TwoStageDetector.roi_targets = [@first/RoiTargetSampler(), @RoiTargetSampler()]
first/RoiTargetSampler.convention = 'continuous'
first/RoiTargetSampler.num_rois = 256
"""


def test_a_runs_own_file_is_read_as_what_it_meant(tmp_path, refused):
    (tmp_path / "config.gin").write_text(OLD_RUN)
    configuration = config.parse([str(tmp_path / "config.gin")])
    assert configuration.value("TwoStageDetector.convention") == "continuous"
    assert configuration.value("TrainInput.profile") == "continuous"
    assert configuration.value("PostProcess.max_detections") == 50
    assert configuration.value("ProposalGenerator.variant") == "v1"
    # What is written of it again is in the names of today, and what a person adds must be.
    again = tmp_path / "again.gin"
    again.write_text(configuration.text())
    assert config.parse([str(again)]).text() == configuration.text()
    assert "is TwoStageDetector.convention now" in refused(
        "PostProcess.convention = 'continuous'", files=[str(tmp_path / "config.gin")]
    )


def test_a_run_of_whole_pixels_stays_one(tmp_path):
    names = ("RetinaTargetAssigner", "DensePostProcess")
    (tmp_path / "config.gin").write_text("".join(f"{name}.convention = 'legacy_plus_one'\n" for name in names))
    assert config.parse([str(tmp_path / "config.gin")]).value("RetinaDetector.convention") == "legacy_plus_one"


def test_no_new_name_is_an_old_one():
    for name in {*renamed.PARAMETERS.values(), *(new for new, _ in renamed.VALUES.values())}:
        registration.selector_and_parameter(name)
        assert name not in renamed.PARAMETERS
    assert not {new for new in renamed.VALUES.values()} & set(renamed.VALUES)
