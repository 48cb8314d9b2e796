"""Calibration: the error of the probabilities, the temperature, and where it is kept."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import optimize

from fastscnn.inference.loader import load_trained
from fastscnn.training.calibrate import keep_temperature
from fastscnn.training.calibration import BINS, TEMPERATURES, Calibration, TemperatureFit
from helpers import write_checkpoint


def test_error_is_that_of_a_plain_loop_over_the_bins():
    generator = np.random.default_rng(0)
    confidence = generator.random((2, 30, 40)).astype(np.float32)
    predictions, labels = generator.integers(0, 3, (2, 2, 30, 40))
    labels[0, :5] = 255
    metric = Calibration()
    for frame in range(2):
        metric.update(*(torch.from_numpy(values[frame : frame + 1]) for values in (predictions, confidence, labels)))
    sure, right = confidence[labels != 255], (predictions == labels)[labels != 255]
    expected = 0.0
    for number in range(BINS):
        inside = (sure > number / BINS) & (sure <= (number + 1) / BINS)
        if inside.any():
            expected += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    found = metric.compute()
    assert found["ece"] == pytest.approx(expected, abs=1e-6)
    assert sum(one["pixels"] for one in found["bins"]) == (labels != 255).sum()


def test_error_of_what_is_right_as_often_as_it_says_is_none_and_of_nothing_is_undefined():
    metric = Calibration()
    metric.update(*(torch.full((1, 1, 4), value) for value in (0, 0.5, 255)))
    assert np.isnan(metric.compute()["ece"])
    labels = torch.zeros(1, 1, 4, dtype=torch.int64)
    metric.update(torch.tensor([[[0, 0, 0, 1]]]), torch.full((1, 1, 4), 0.75), labels)
    assert metric.compute()["ece"] == 0


@pytest.mark.parametrize("true", [0.6, 1.7, 3.0])
def test_fitted_temperature_is_the_one_that_the_labels_were_drawn_with(true):
    generator = torch.manual_seed(0)
    logits = torch.randn(2, 5, 16, 16, generator=generator) * 4
    full = F.interpolate(logits, (128, 128), mode="bilinear", align_corners=False) / true
    chosen = torch.distributions.Categorical(logits=full.permute(0, 2, 3, 1)).sample()
    fit = TemperatureFit()
    for frame in range(2):
        fit.update(logits[frame : frame + 1], chosen[frame : frame + 1].to(torch.uint8))
    assert fit.temperature() == pytest.approx(true, rel=0.05)


def test_frames_count_by_their_labelled_pixels():
    """One frame with a few labels that were drawn at 0.5, one with many that were drawn at 3."""
    generator = torch.manual_seed(1)
    logits = torch.randn(2, 5, 16, 16, generator=generator) * 4
    full = F.interpolate(logits, (128, 128), mode="bilinear", align_corners=False).double()
    labels = torch.stack(
        [
            torch.distributions.Categorical(logits=frame.permute(1, 2, 0) / true).sample()
            for frame, true in zip(full, (0.5, 3.0), strict=True)
        ]
    )
    labels[0, 12:] = 255
    fit = TemperatureFit()
    for frame in range(2):
        fit.update(logits[frame : frame + 1], labels[frame : frame + 1].to(torch.uint8))

    def entropy(log_temperature):
        return F.cross_entropy(full / float(np.exp(log_temperature)), labels, ignore_index=255).item()

    best = optimize.minimize_scalar(entropy, bounds=(np.log(0.25), np.log(8)), method="bounded").x
    assert fit.temperature() == pytest.approx(np.exp(best), rel=0.02)


def test_temperature_stays_within_what_is_tried():
    fit = TemperatureFit()
    fit.losses[:] = -np.arange(len(TEMPERATURES))
    assert fit.temperature() == TEMPERATURES[-1]


def test_temperature_is_kept_in_the_file_and_its_weights_stay(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "best.ckpt")
    before = load_trained(checkpoint)
    assert before.temperature == 1
    assert keep_temperature(checkpoint, {"temperature": 1.5, "split": "val"}) == checkpoint
    after = load_trained(checkpoint)
    assert after.temperature == 1.5
    assert after.config == {**before.config, "calibration": {"temperature": 1.5, "split": "val"}}
    for name, tensor in before.network.state_dict().items():
        assert torch.equal(tensor, after.network.state_dict()[name])
