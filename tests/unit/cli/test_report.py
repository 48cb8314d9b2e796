"""What a person reads where a command fails: one sentence with its fix, whatever the names in it hold."""

import pytest

from fastscnn.cli.launch import report
from fastscnn.utils.errors import Crash, RequestError
from fastscnn.utils.files import WriteError


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (
            RequestError("data.root=a\nb\r\x1b[2Jc\u2028d is not there.", key="data.root", fix="Set data.root=DIR."),
            "data.root=a\\nb\\r\\x1b[2Jc\\u2028d is not there. Set data.root=DIR.",
            2,
        ),
        (WriteError(28, "No space left", "a\nb"), "failed: a\\nb cannot be written (No space left)", 1),
        (Crash("a\nb ended by SIGSEGV.", "SIGSEGV"), "failed: a\\nb ended by SIGSEGV.", 1),
        (RequestError("data.root=städte/中 is not there."), "data.root=städte/中 is not there.", 2),
    ],
)
def test_newline_in_a_name_cuts_no_sentence(error, line, code, capsys):
    assert report(error) == code
    assert capsys.readouterr().err == line + "\n"
