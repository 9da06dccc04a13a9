"""Recognition: what is chosen, on what, and what the other protocols do."""

import numpy as np
import pytest
from sklearn.svm import SVC

from crosshape.tasks import svm
from crosshape.tasks.recognition import FALLBACK, FOLDS, GRID, recognise, validation_parts


def sets(seed=0, width=30, classes=4, count=400):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    rows = generator.normal(size=(classes, width))[labels] + 1.5 * generator.normal(size=(count, width))
    half = count // 2
    return rows[:half], labels[:half], rows[half:], labels[half:]


def test_it_recognises_and_counts():
    x, y, test, truth = sets()
    result = recognise(x, y, test, truth)
    assert 0.8 < result.accuracy < 1
    assert result.accuracy == pytest.approx(np.mean(result.predictions == truth))
    assert result.accuracy == result.correct.mean()
    tried = list(result.tried)
    assert tried == list(GRID[: len(tried)])
    best = max(result.tried.values())
    assert len(tried) == len(GRID) or max(result.tried[C] for C in tried[-2:]) < best
    assert result.C in GRID
    assert result.tried[result.C] == max(result.tried.values())


def test_the_choice_never_sees_the_test_rows():
    x, y, test, truth = sets()
    wrong = recognise(x, y, test, (truth + 1) % 4)
    right = recognise(x, y, test, truth)
    assert (wrong.C, wrong.tried) == (right.C, right.tried)
    assert np.array_equal(wrong.predictions, right.predictions)
    nothing = recognise(x, y, test[:1], truth[:1])
    assert nothing.C == right.C


def test_the_optimistic_column_does_and_is_never_below():
    x, y, test, truth = sets(count=60)
    best = recognise(x, y, test, truth, protocol="optimistic")
    assert best.protocol == "optimistic"
    assert best.accuracy == max(best.tried.values()) >= recognise(x, y, test, truth).accuracy


def test_as_in_crosspoint():
    x, y, test, truth = sets()
    result = recognise(x, y, test, truth, protocol="crosspoint")
    assert result.C == 0.01
    assert np.array_equal(result.predictions, SVC(C=0.01, kernel="linear").fit(x, y).predict(test))


def test_the_validation_parts_are_stratified_and_seeded():
    labels = np.array([0] * 50 + [1] * 10 + [2] * 2 + [3])
    parts = validation_parts(labels, 0)
    for part in range(FOLDS):
        assert [int((parts[labels == c] == part).sum()) for c in range(2)] == [10, 2]
    assert len(set(parts[labels == 2])) == 2 and parts[labels == 3] == -1
    assert np.array_equal(parts, validation_parts(labels, 0))
    assert not np.array_equal(parts, validation_parts(labels, 1))


def test_the_choice_is_that_of_a_plain_cross_validation():
    """As scikit-learn would do it, with the same parts."""
    x, y, test, truth = sets(width=10, count=300)
    result = recognise(x, y, test, truth, seed=3)
    parts = validation_parts(y, 3)
    for C, accuracy in result.tried.items():
        right = 0
        for part in range(FOLDS):
            held = parts == part
            machine = svm.fit(x[~held], y[~held], C)
            right += (machine.predict(x[held]) == y[held]).sum()
        assert accuracy == pytest.approx(right / len(y), abs=0.01)


def test_classes_with_one_member_fall_back():
    result = recognise(np.eye(3), [0, 1, 2], np.eye(3), [0, 1, 2])
    assert result.C == FALLBACK
    assert result.tried == {}
    assert result.accuracy == 1


def test_a_class_that_was_never_shown_counts_as_wrong():
    x, y, test, truth = sets()
    strange = truth.copy()
    strange[:50] = 9
    result = recognise(x, y, test, strange)
    assert result.accuracy < 0.8
    assert not result.correct[:50].any()


def test_an_unknown_protocol_is_named():
    with pytest.raises(ValueError, match="not 'best'"):
        recognise(*sets(), protocol="best")
