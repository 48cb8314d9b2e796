"""The order of frames, over epochs and ranks."""

import pytest

from fastscnn.data.datamodules.sampler import EpochSampler


def indices(sampler: EpochSampler) -> list[int]:
    assert len(sampler) == len(list(sampler))
    return [index for _, index in sampler]


def epoch_order(seed: int, epoch: int, num_frames: int = 50) -> list[int]:
    sampler = EpochSampler(num_frames, seed)
    sampler.set_epoch(epoch)
    assert {key[0] for key in sampler} == {epoch}
    return indices(sampler)


def test_an_epoch_is_a_shuffle_of_all_frames():
    order = epoch_order(0, 0)
    assert sorted(order) == list(range(50))
    assert order != sorted(order)


def test_the_order_depends_on_seed_and_epoch_and_repeats():
    orders = [tuple(epoch_order(seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9
    assert orders == [tuple(epoch_order(seed, epoch)) for seed in range(3) for epoch in range(3)]


def test_an_epoch_does_not_depend_on_the_epochs_before_it():
    sampler = EpochSampler(50, 7)
    for epoch in range(4):
        sampler.set_epoch(epoch)
        last = indices(sampler)
    assert last == epoch_order(7, 3)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_see_together_the_batches_of_one_device(world_size):
    batch = 12
    one = indices(EpochSampler(50, 3, batch_size=batch))
    ranks = [indices(EpochSampler(50, 3, True, rank, world_size, batch)) for rank in range(world_size)]
    share = batch // world_size
    assert len(one) == 48
    for step in range(4):
        together = [index for order in ranks for index in order[step * share : (step + 1) * share]]
        assert sorted(together) == sorted(one[step * batch : (step + 1) * batch])


def test_the_tail_left_out_differs_between_epochs():
    left_out = set()
    for epoch in range(5):
        sampler = EpochSampler(13, 0, batch_size=12)
        sampler.set_epoch(epoch)
        left_out |= set(range(13)) - set(indices(sampler))
    assert len(left_out) > 1


@pytest.mark.parametrize(("num_frames", "world_size"), [(13, 1), (13, 4), (3, 2), (4, 4)])
def test_training_ranks_get_equally_many_frames_and_none_twice(num_frames, world_size):
    ranks = [indices(EpochSampler(num_frames, 0, True, rank, world_size)) for rank in range(world_size)]
    assert {len(order) for order in ranks} == {num_frames // world_size}
    assert len({index for order in ranks for index in order}) == num_frames // world_size * world_size


@pytest.mark.parametrize(("num_frames", "world_size"), [(13, 1), (13, 4), (3, 4)])
def test_validation_gives_every_frame_exactly_once_over_all_ranks(num_frames, world_size):
    ranks = [indices(EpochSampler(num_frames, 0, False, rank, world_size)) for rank in range(world_size)]
    assert sorted(index for order in ranks for index in order) == list(range(num_frames))
    assert all(order == sorted(order) for order in ranks)


def test_fewer_frames_than_a_batch_are_all_given():
    assert sorted(indices(EpochSampler(5, 0, batch_size=12))) == [0, 1, 2, 3, 4]


def test_frames_that_were_seen_are_left_out_of_their_epoch_alone():
    whole, resumed = EpochSampler(13, 5, batch_size=4), EpochSampler(13, 5, batch_size=4)
    resumed.skip(2, 8)
    for epoch in (2, 3):
        for sampler in (whole, resumed):
            sampler.set_epoch(epoch)
        assert list(resumed) == list(whole)[8 if epoch == 2 else 0 :]
        assert len(resumed) == len(whole) == 12
