"""Stages that overlap, with few items under way."""

import pytest

from fastscnn.predict import pipeline
from fastscnn.predict.pipeline import Busy, overlapped, prefetched


def test_stages_overlap_in_order_with_few_items_under_way():
    under_way, most = set(), []

    def read(item):
        under_way.add(item)
        most.append(len(under_way))
        return item * 10

    def write(item, value):
        assert value == item * 10 + 1
        under_way.discard(item)
        if item == 7:
            raise OSError("seven")

    done = list(overlapped(range(200), read, lambda item, value: value + 1, write))
    assert [item for item, _ in done] == list(range(200))
    assert [(item, str(error)) for item, error in done if error] == [(7, "seven")]
    assert max(most) <= 16


def test_items_made_ahead_keep_their_order_and_their_error():
    def items():
        yield from range(50)
        raise OSError("cut")

    seen = []
    with pytest.raises(OSError, match="cut"):
        seen.extend(prefetched(items(), 3))
    made = []
    endless = prefetched((made.append(n) or n for n in range(10**9)), 3)
    assert [next(endless) for _ in range(5)] == [0, 1, 2, 3, 4]
    endless.close()
    assert len(made) < 50


def test_shares_are_of_the_time_that_all_threads_of_a_stage_have(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(pipeline.time, "perf_counter", lambda: clock[0])
    busy = Busy()

    def working(seconds, error=None):
        clock[0] += seconds
        if error:
            raise error

    for stage, seconds in (("reading", 3), ("network", 4), ("network", 1), ("writing", 2)):
        busy.timed(stage, working)(seconds)
    with pytest.raises(OSError, match="broken"):
        busy.timed("reading", working)(1, OSError("broken"))
    assert busy.summary(20, 10.0) == "4.0 images/s by the network alone; busy: reading 20%, network 50%, writing 10%"
