"""What a wrong request carries with it."""

import pickle

from fastscnn.utils.errors import RequestError


def test_a_wrong_request_reads_as_its_problem_and_its_fix():
    error = RequestError("data.root=/x is no folder.", key="data.root", fix="Set data.root=DIR.")
    assert str(error) == "data.root=/x is no folder. Set data.root=DIR."


def test_a_wrong_request_without_a_fix_reads_as_its_problem():
    assert str(RequestError("There is nothing to compare.")) == "There is nothing to compare."


def test_a_wrong_request_keeps_its_key_and_its_fix_between_processes():
    error = pickle.loads(pickle.dumps(RequestError("No.", key="data.root", fix="Set data.root=DIR.")))
    assert (str(error), error.key, error.fix) == ("No. Set data.root=DIR.", "data.root", "Set data.root=DIR.")
