"""Errors that reach the user, one class per exit code.

    BnfoldError                 exit 4   our own bug, when raised bare
    ├── GateFailed              exit 1   a check said no; nothing was written
    ├── InputError              exit 2   bad arguments, or an unreadable or invalid model
    └── EnvironmentUnfit        exit 3   this machine cannot do it (runtime too old, provider missing)

A message says what happened, where, and what to do, in that order. A fold that is not possible is no error: it is a
`bnfold.verdict.Refusal`.
"""


class BnfoldError(Exception):
    """Base of every error that bnfold raises on purpose."""

    exit_code = 4


class GateFailed(BnfoldError):
    """A verification or another gate failed, and nothing was written."""

    exit_code = 1


class InputError(BnfoldError):
    """The arguments or the model cannot be used: missing, unreadable, truncated or invalid."""

    exit_code = 2


class EnvironmentUnfit(BnfoldError):
    """The installed runtime cannot do what was asked: an IR version or opset too new, a missing provider."""

    exit_code = 3
