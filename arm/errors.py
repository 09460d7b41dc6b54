"""What can go wrong, as a tree.

    ArmError
    ├── UserError             wrong config or input: printed as one sentence, exit code 1, no traceback
    │   ├── IntegrityError    a stored file is missing, truncated or altered
    │   └── LockedError       another process is writing the same output
    └── ServiceError          a service (store, tracker, judge) did not answer after the retries

A sentence says what is wrong, the value seen, and what to do; of an address in it not who logs in, and by which password.
"""

import re


class ArmError(Exception):
    """Base of every error that this project raises on purpose."""


class UserError(ArmError):
    """The config or the input is wrong, and the message says how to put it right."""


class IntegrityError(UserError):
    """A stored file is missing, truncated or altered."""


class LockedError(UserError):
    """Another process holds the lock of this output."""


class ServiceError(ArmError):
    """A service did not answer after the retries."""


def without_userinfo(text: str) -> str:
    """A text whose addresses name neither user nor password, for a log or a screen.

    "http://me:secret@mlflow.test:5000 is away"  ->  "http://…@mlflow.test:5000 is away"
    """
    return re.sub(r"(?<=://)[^/?#\s]*@", "…@", text)
