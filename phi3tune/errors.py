"""Errors that a user can mend.

Anything raised that is not a `UserError` is a bug and shows its traceback. The edges translate a
`UserError`: the command line to exit code 2, the page to a toast.
"""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's, told in one line: what was given, what is accepted, what to do."""

    exit_code = 2


class ConfigError(UserError):
    """One or more settings are wrong; every problem is reported at once."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


class JobError(UserError):
    """A job ended as failed. The mistake is not in how it was called, so the exit code is 1."""

    exit_code = 1
