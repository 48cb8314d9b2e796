"""The errors that are no faults of the program: a wrong request, and other software that crashes."""


class RequestError(Exception):
    """A request that cannot be carried out as asked: bad setting, missing or broken file.

    Its message is one sentence that names the key or the file and the fix. The entry points print it without a
    traceback and exit with code 2.
    """


class Crash(Exception):
    """Other software ended its process, such as by a segmentation fault; the request was right.

    Its message is one sentence. The entry points print it without a traceback and exit with code 1.

    Attributes:
        how: The signal's name or the exit code.
    """

    def __init__(self, message: str, how: str) -> None:
        super().__init__(message, how)
        self.how = how

    def __str__(self) -> str:
        return str(self.args[0])
