"""The errors that tfdet shows to a person as one line, and the exit codes of its commands."""

EXIT_OK = 0
EXIT_CHECK_FAILED = 1  # a verification ran and found a difference (golden check, export check, --strict)
EXIT_USER_ERROR = 2  # a UserError: bad path, bad configuration, bad data
EXIT_DIVERGED = 3  # training met a loss that is not finite; the last good checkpoint is kept
EXIT_WORKER_LOST = 69  # another worker of the run ended or does not answer; the same commands continue (EX_UNAVAILABLE)
EXIT_INTERRUPTED = 75  # SIGTERM or SIGINT: the state was saved, the same command continues (EX_TEMPFAIL)


class UserError(Exception):
    """Something the user can put right. The message is one line that names the file, field or value and what to do.

    Commands print it as `tfdet: error: <message>` without a traceback and exit with `EXIT_USER_ERROR`.
    """


class ParameterError(UserError, ValueError):
    """A part (backbone, head, detector, ...) that cannot be built of the values it was given."""


class DivergedError(UserError):
    """The loss is no longer finite. Commands exit with `EXIT_DIVERGED`."""


class WorkerLostError(UserError):
    """Another worker ended or does not answer. Commands exit with `EXIT_WORKER_LOST`; the same commands continue."""
