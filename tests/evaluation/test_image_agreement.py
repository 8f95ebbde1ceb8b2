"""Agreement of pictures with their originals, on pictures whose order is known."""

import numpy as np
import pytest

from trimask.estimate import mean, proportion, ratio
from trimask.evaluation.image import agreement, lab_features, ranks


def _flat(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.array(colours, dtype=np.uint8)[:, None, None, :].repeat(64, 1).repeat(64, 2)


def test_lab_of_known_colours() -> None:
    features = lab_features(_flat((255, 255, 255), (0, 0, 0), (255, 0, 0))).reshape(3, -1, 3)[:, 0]
    np.testing.assert_allclose(features[0], [100, 0, 0], atol=0.02)
    np.testing.assert_allclose(features[1], [0, 0, 0], atol=0.02)
    np.testing.assert_allclose(features[2], [53.24, 80.09, 67.20], atol=0.05)


def test_averaging_is_in_linear_light() -> None:
    board = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    board[:, ::2, ::2] = board[:, 1::2, 1::2] = 255
    # Half of the light is L* = 76, not the 53 of half of the sRGB value.
    np.testing.assert_allclose(lab_features(board)[0, 0], 76.07, atol=0.05)


def test_odd_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="60 x 60"):
        lab_features(np.zeros((1, 60, 60, 3), dtype=np.uint8))


def test_ranks_by_hand_and_ties_in_the_middle() -> None:
    gallery = np.array([[0.0], [1.0], [3.0]])
    assert ranks(np.array([[0.1], [0.1], [2.9]]), gallery, [0, 2, 0]).tolist() == [1, 3, 3]
    assert ranks(np.array([[5.0]]), np.zeros((5, 1)), [3]).tolist() == [3.0]


def test_agreement_of_the_originals_is_perfect_and_of_one_grey_picture_is_chance() -> None:
    draw = np.random.default_rng(0)
    pictures = draw.integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    gallery = lab_features(pictures)
    own = agreement(pictures, gallery, range(40))
    assert (own.top1.value, own.top5.value, own.rank_fraction.value) == (1.0, 1.0, 0.0)
    grey = agreement(np.full_like(pictures, 128), gallery, range(40))
    assert grey.top1.value == 1 / 40 and grey.rank_fraction.value == pytest.approx(0.5)
    json = grey.as_json()
    assert json["chance"] == {"top1": 1 / 40, "top5": 5 / 40, "rank_fraction": 0.5}


def test_a_gallery_of_one_is_refused() -> None:
    picture = _flat((1, 2, 3))
    with pytest.raises(ValueError, match="at least 2"):
        agreement(picture, lab_features(picture), [0])


def test_intervals() -> None:
    none, half = proportion([False] * 50), proportion([True, False] * 50)
    assert none.value == none.low == 0 and 0.05 < none.high < 0.1
    assert (half.low, half.high) == pytest.approx((0.398, 0.602), abs=0.001)
    values = np.random.default_rng(0).normal(3, 1, 400)
    estimate = mean(values)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert ratio(values, np.ones(400)).low == pytest.approx(estimate.low, abs=0.02)
    with pytest.raises(ValueError, match="at least one value"):
        mean([])
    with pytest.raises(ValueError, match="at least one example"):
        proportion([])
