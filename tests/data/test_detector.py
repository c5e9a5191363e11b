"""The model of detector error: its level, its course over time, and that it is reproducible."""

import math
from typing import Any

import numpy as np
import pytest

from bench.data.skeleton import JOINT_NAMES
from bench.data.synthetic.detector import DetectorNoise

STILL = np.zeros((60_000, 17, 2))
JITTER = DetectorNoise(miss_rate=0.0)


def test_the_mean_error_is_the_level_of_the_paper() -> None:
    error = np.linalg.norm(DetectorNoise().detect(STILL, np.random.default_rng(1)), axis=-1)
    # H2OT paper, Table 2, all frames: 6.61 pixels.
    assert error.mean() == pytest.approx(6.61, rel=0.02)
    by_joint = dict(zip(JOINT_NAMES, error.mean(axis=0), strict=True))
    assert by_joint["LWrist"] > by_joint["LElbow"] > by_joint["LShoulder"] > by_joint["Thorax"]
    assert by_joint["RFoot"] > by_joint["RKnee"] > by_joint["RHip"]


def test_jitter_is_rayleigh_with_the_stated_deviation_from_the_first_frame_on() -> None:
    rng = np.random.default_rng(2)
    error = np.linalg.norm(JITTER.detect(STILL, rng), axis=-1).mean(axis=0)
    np.testing.assert_allclose(error, math.sqrt(math.pi / 2) * np.array(JITTER.sigma_px), rtol=0.03)
    first = np.stack([JITTER.detect(STILL[:1], rng)[0] for _ in range(4000)])
    np.testing.assert_allclose(first.std(axis=(0, 2)), JITTER.sigma_px, rtol=0.05)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8, 0.99])
def test_jitter_is_autoregressive(correlation: float) -> None:
    noise = DetectorNoise(miss_rate=0.0, correlation=correlation)
    error = noise.detect(STILL[:20_000], np.random.default_rng(3)).reshape(20_000, -1)
    error = error / error.std(axis=0)
    for lag in (1, 2, 5):
        measured = (error[lag:] * error[:-lag]).mean()
        assert measured == pytest.approx(correlation**lag, abs=0.02)


def test_jitter_is_the_textbook_recursion() -> None:
    noise = DetectorNoise(miss_rate=0.0, sigma_px=(1.0,) * 17)
    shocks = np.random.default_rng(4).standard_normal((300, 17, 2))
    expected = [shocks[0]]
    for shock in shocks[1:]:
        expected.append(0.8 * expected[-1] + 0.6 * shock)
    got = noise.detect(STILL[:300], np.random.default_rng(4))
    np.testing.assert_allclose(got, np.stack(expected), atol=1e-9)


def test_misses_are_rare_short_and_far() -> None:
    noise = DetectorNoise(sigma_px=(0.0,) * 17)
    jump = np.linalg.norm(noise.detect(STILL, np.random.default_rng(5)), axis=-1)
    away = jump > 1e-9
    assert away.mean() == pytest.approx(0.001 * 4.5, rel=0.1)
    begins = away[1:] & ~away[:-1]
    assert begins.sum() / (17 * len(STILL)) == pytest.approx(0.001, rel=0.1)
    starts = jump[1:][begins]
    # A Pareto law from 30 px with exponent 3: mean 45, one in eight beyond 60.
    assert starts.mean() == pytest.approx(45, rel=0.1)
    assert (starts > 60).mean() == pytest.approx(1 / 8, rel=0.3)


def test_the_error_does_not_depend_on_the_pixels() -> None:
    pixels = np.random.default_rng(6).uniform(0, 1000, (200, 17, 2)).astype(np.float32)
    moving = DetectorNoise().detect(pixels, np.random.default_rng(7)) - pixels
    still = DetectorNoise().detect(STILL[:200], np.random.default_rng(7))
    np.testing.assert_allclose(moving, still, atol=1e-9)
    other = DetectorNoise().detect(STILL[:200], np.random.default_rng(8))
    assert not np.array_equal(still, other)


def test_no_frames_is_no_error() -> None:
    assert DetectorNoise().detect(STILL[:0], np.random.default_rng(0)).shape == (0, 17, 2)


def test_the_model_says_what_it_is() -> None:
    line = DetectorNoise().describe()
    assert "\n" not in line
    assert "correlation 0.8" in line
    assert "independent of the motion" in line
    tags = {
        noise.tag
        for noise in (
            DetectorNoise(),
            JITTER,
            DetectorNoise(correlation=0.7),
            DetectorNoise(miss_tail=2.5),
        )
    }
    assert len(tags) == 4
    assert DetectorNoise().tag == DetectorNoise().tag
    assert all(len(tag) < 30 and " " not in tag for tag in tags)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sigma_px": (1.0,) * 16}, "sigma_px has 16 values"),
        ({"sigma_px": (-1.0,) * 17}, "smallest -1.0"),
        ({"correlation": 1.0}, "correlation is 1.0"),
        ({"miss_rate": 1.5}, "miss_rate is 1.5"),
        ({"miss_frames": 0}, "miss_frames 0"),
        ({"miss_px": -1.0}, "miss_px is -1.0"),
        ({"miss_tail": 1.0}, "miss_tail 1.0"),
    ],
)
def test_senseless_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DetectorNoise(**parameters)


def test_pixels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(17, 2\)"):
        DetectorNoise().detect(STILL[0], np.random.default_rng(0))
