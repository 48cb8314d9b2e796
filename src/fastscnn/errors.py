"""The one error that means the request was wrong, not the program."""


class RequestError(Exception):
    """A request that cannot be carried out as asked: bad setting, missing or broken file.

    Its message is one sentence that names the key or the file and the fix. The entry points print it without a
    traceback and exit with code 2.
    """
