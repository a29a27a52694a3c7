"""What was called otherwise: refused with its name of today, and read as that in the `config.gin` of a run.

Training leaves `config.gin` in the folder of a run, so that a run of years ago still evaluates, exports and goes on;
whatever a person writes has one spelling.
"""

from __future__ import annotations

from typing import Any

from tfdet.errors import ParameterError

PARAMETERS = {
    "RpnTargetAssigner.convention": "TwoStageDetector.convention",
    "RoiTargetSampler.convention": "TwoStageDetector.convention",
    "PostProcess.convention": "TwoStageDetector.convention",
    "RetinaTargetAssigner.convention": "RetinaDetector.convention",
    "DensePostProcess.convention": "RetinaDetector.convention",
}
"""Parameters that are set elsewhere now: the detector hands them to its parts."""

VALUES = {
    ("TrainInput.profile", "S"): ("TrainInput.profile", "first_release"),
    ("TrainInput.profile", "H"): ("TrainInput.profile", "later_revision"),
    ("TrainInput.profile", "C"): ("TrainInput.profile", "continuous"),
    ("ProposalGenerator.variant", "continuous"): ("TwoStageDetector.convention", "continuous"),
}
"""Values of a parameter -> what to set now, and to what."""


def refuse(name: str) -> None:
    """`ParameterError` for `Part.parameter` where that is set elsewhere now."""
    if name in PARAMETERS:
        raise ParameterError(f"{name} is {PARAMETERS[name]} now: set it there, once for all parts.")


def current(name: str, value: Any, resolved: Any) -> tuple[str, Any]:
    """What a binding of a run's own file sets today.

    Args:
        name: `Part.parameter`, as the file has it.
        value: as the file has it.
        resolved: the value, macros resolved.

    Returns:
        The name and the value of today.
    """
    old = ".".join(name.split(".")[-2:])
    if isinstance(resolved, str) and (old, resolved) in VALUES:
        return VALUES[old, resolved]
    return PARAMETERS.get(old, name), value


def hint(name: str, value: Any) -> str:
    """` Write Part.parameter = value.` where a value that was refused is called otherwise now, or an empty text."""
    new = VALUES.get((name, value)) if isinstance(value, str) else None
    return f" Write {new[0]} = {new[1]!r}." if new else ""
