"""In the place of `python -c CODE`, as pytest-xdist starts its workers: CODE runs in a child of the warm process.

Called with the address of that process before Python's own arguments. It ends as the child does; and the child ends
with it.
"""

import json
import os
import socket
import sys


def main(address, *arguments):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        request = {"code": arguments[-1], "cwd": os.getcwd(), "env": dict(os.environ)}
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        for descriptor in (0, 1):  # the child alone holds the pipes, so that their other end learns of its end
            os.close(descriptor)
        lines = connection.makefile().readlines()
    code = int(lines[1]) if len(lines) == 2 else 1
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main(*sys.argv[1:])
