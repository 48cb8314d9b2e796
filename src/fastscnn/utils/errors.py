"""Errors that are not faults of the program: wrong requests, and crashes of other software."""

import re


class RequestError(Exception):
    """A request that cannot be carried out as asked: bad setting, missing or broken file.

    The entry points print it as one sentence or two, the problem and then the fix, without a traceback, and exit with
    code 2.

    Args:
        problem: What was asked and what was found; names the key or the file, and ends with its own punctuation.
        key: The configuration key whose value is wrong, such as `data.root`; empty if there is none.
        fix: What to do instead, as a user would type it.
    """

    def __init__(self, problem: str, *, key: str = "", fix: str = "") -> None:
        super().__init__(problem)
        self.key = key
        self.fix = fix

    def __str__(self) -> str:
        return " ".join(filter(None, (str(self.args[0]), self.fix)))


class Crash(Exception):
    """Other software crashed, such as by a segmentation fault; the request was right.

    Its message is one sentence. The entry points print it without a traceback and exit with code 1.

    Attributes:
        how: The signal's name or the exit code.
    """

    def __init__(self, message: str, how: str) -> None:
        super().__init__(message, how)
        self.how = how

    def __str__(self) -> str:
        return str(self.args[0])


def renamed(error: RequestError, key: str) -> RequestError:
    """An error about `checkpoint`, as one about the setting that named the checkpoint."""
    problem, fix = (re.sub(r"(?<![\w.])checkpoint=", f"{key}=", text) for text in (str(error.args[0]), error.fix))
    return RequestError(problem, key=key if error.key == "checkpoint" else error.key, fix=fix)
