"""Every measure against scikit-learn or a loop that spells the definition out."""

import math

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    ndcg_score,
)
from sklearn.metrics import confusion_matrix as sklearn_confusion

from crosshape.tasks import metrics


def draws(seed=0, queries=40, gallery=37):
    """Random hits, with a query that has none, one that has all and one with its only one at the end."""
    hits = np.random.default_rng(seed).random((queries, gallery)) < 0.2
    hits[0], hits[1], hits[2] = False, True, False
    hits[2, -1] = True
    return hits


def test_accuracies_are_those_of_scikit_learn():
    generator = np.random.default_rng(1)
    truth, predicted = generator.integers(0, 5, 200), generator.integers(0, 6, 200)
    truth[0] = 7  # a class with one member
    assert metrics.accuracy(truth, predicted) == pytest.approx(accuracy_score(truth, predicted))
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = balanced_accuracy_score(truth, predicted)
    assert metrics.mean_class_accuracy(truth, predicted) == pytest.approx(expected)
    assert np.array_equal(
        metrics.confusion_matrix(truth, predicted, 8), sklearn_confusion(truth, predicted, labels=range(8))
    )


def test_mean_class_accuracy_weighs_every_class_alike():
    assert metrics.mean_class_accuracy([0, 0, 0, 1], [0, 0, 0, 0]) == 0.5
    assert metrics.accuracy([0, 0, 0, 1], [0, 0, 0, 0]) == 0.75


def test_labels_outside_the_range_are_refused():
    for truth, predicted in (([0, 3], [0, 0]), ([0, 0], [0, 3]), ([-1, 0], [0, 0])):
        with pytest.raises(ValueError, match="label lies outside 0 to 2"):
            metrics.confusion_matrix(truth, predicted, 3)
    with pytest.raises(ValueError, match="two equal rows"):
        metrics.accuracy([0, 1], [0])


def test_nothing_to_measure_is_not_a_number():
    assert math.isnan(metrics.accuracy([], []))
    assert math.isnan(metrics.mean_class_accuracy([], []))
    assert math.isnan(metrics.mean([np.nan]))
    assert all(map(math.isnan, metrics.bootstrap([np.nan])))


def test_average_precision_is_that_of_scikit_learn_with_negative_scores():
    generator = np.random.default_rng(2)
    scores = generator.uniform(-1, 0.1, (40, 37))
    relevant = draws()
    order = np.argsort(-scores, axis=1)
    values = metrics.average_precision(np.take_along_axis(relevant, order, axis=1))
    assert math.isnan(values[0])
    assert values[1] == 1
    for row in range(1, 40):
        assert values[row] == pytest.approx(average_precision_score(relevant[row], scores[row]))


def naive(hits):
    """Nearest neighbour, first and second tier and NDCG of one ranked list, spelled out."""
    relevant = sum(hits)
    gain = best = 0.0
    for rank, hit in enumerate(hits, start=1):
        weight = 1 if rank == 1 else 1 / math.log2(rank)
        gain += weight * hit
        best += weight * (rank <= relevant)
    first = sum(hits[:relevant]) / relevant
    second = sum(hits[: 2 * relevant]) / relevant
    return float(hits[0]), first, second, gain / best


def test_tiers_and_gain_against_a_loop():
    hits = draws(3)
    ours = zip(
        metrics.nearest_neighbour(hits),
        metrics.tier(hits, 1),
        metrics.tier(hits, 2),
        metrics.ndcg(hits),
        strict=True,
    )
    for row, values in enumerate(ours):
        if hits[row].any():
            assert values == pytest.approx(naive(hits[row].tolist()))
        else:
            assert all(map(math.isnan, values))


def test_gain_differs_from_scikit_learns_only_by_its_discount():
    """scikit-learn divides by log2(i + 1): behind a leading miss the two forms meet, shifted by a rank."""
    hits = np.array([[False, True, False, True, True]])
    shifted = ndcg_score(hits[:, 1:], -np.arange(4.0)[None])
    discount = 1 / np.log2(np.arange(2, 6))
    assert (discount * hits[0, 1:]).sum() / discount[:3].sum() == pytest.approx(shifted)
    assert metrics.ndcg(hits)[0] == pytest.approx(
        (discount[:4] * hits[0, 1:]).sum() / (1 + discount[:2].sum())
    )


def test_precision_recall_curve_against_a_loop():
    hits, recalls = draws(4), np.linspace(0, 1, 11)
    expected = []
    for row in hits[hits.any(axis=1)]:
        precision = np.cumsum(row) / np.arange(1, len(row) + 1)
        recall = np.cumsum(row) / row.sum()
        expected.append([precision[recall >= r - 1e-12].max() for r in recalls])
    assert metrics.precision_recall(hits, recalls) == pytest.approx(np.mean(expected, axis=0))


def test_the_bootstrap_covers_the_mean_and_draws_shapes_not_scores():
    values = np.random.default_rng(5).random(400) < 0.7
    low, high = metrics.bootstrap(values)
    half = 1.96 * math.sqrt(0.7 * 0.3 / 400)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * half, rel=0.1)
    assert metrics.bootstrap(values) == (low, high)
    # the same scores five times over are not five times the evidence
    assert metrics.bootstrap(np.tile(values, 5), np.tile(np.arange(400), 5)) == pytest.approx((low, high))
    assert np.diff(metrics.bootstrap(np.tile(values, 5)))[0] < 0.6 * (high - low)
