"""The machine against scikit-learn's, which minimises the same function another way."""

import time

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from crosshape.tasks import svm


def blobs(count=300, width=20, classes=5, seed=0, spread=2.0):
    """Overlapping classes whose columns differ in place and scale."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count) * 3 + 2
    centres = generator.normal(size=(classes * 3 + 2, width))
    rows = centres[labels] + spread * generator.normal(size=(count, width))
    return (rows * generator.uniform(0.1, 10, width) + 5).astype(np.float32), labels


@pytest.mark.parametrize("C", [0.001, 0.1, 10.0])
def test_scores_and_labels_are_those_of_linear_svc(C):
    x, y = blobs()
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    theirs = LinearSVC(C=C, tol=1e-8, max_iter=100_000).fit(z, y)
    ours = svm.fit(x, y, C)
    assert ours.converged
    assert np.abs(ours.scores(x) - theirs.decision_function(z)).max() < 5e-3
    assert np.array_equal(ours.predict(x), theirs.predict(z))


def test_ill_conditioned_features_take_few_steps():
    x, y = blobs(width=100)
    x = x @ np.diag(np.geomspace(1, 1e-3, 100)) @ np.random.default_rng(1).normal(size=(100, 100))
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    theirs = LinearSVC(C=0.1, tol=1e-7, max_iter=1_000_000, dual=False).fit(z, y)
    (ours,) = svm.fit_path(x, y, (0.1,), steps=100)
    assert ours.converged
    assert np.abs(ours.scores(x) - theirs.decision_function(z)).max() < 0.03


def test_a_large_C_on_columns_that_follow_from_others_is_fitted():
    """Where rounding outweighs what keeps the second derivative positive in float32."""
    x, y = blobs()
    chance = np.random.default_rng(1)
    x = np.hstack([x, x @ chance.normal(size=(20, 60)) + 1e-4 * chance.normal(size=(300, 60))])
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    theirs = LinearSVC(C=1e4, tol=1e-6, max_iter=1_000_000, dual=False).fit(z, y)
    assert np.abs(svm.fit(x, y, 1e4).scores(x) - theirs.decision_function(z)).max() < 0.03


def test_without_standardising_it_is_linear_svc_on_the_rows_as_they_are():
    x, y = blobs(width=8)
    x = x / 10
    theirs = LinearSVC(C=0.1, tol=1e-8, max_iter=200_000).fit(x, y)
    ours = svm.fit(x, y, 0.1, standardise=False)
    assert np.abs(ours.scores(x) - theirs.decision_function(x)).max() < 5e-3


def test_two_classes_and_a_constant_column():
    x, y = blobs(classes=2)
    x[:, 3] = 7.0
    machine = svm.fit(x, y)
    assert set(machine.predict(x)) == {2, 5}
    assert np.all(machine.weights[3] == 0)
    far = x.copy()
    far[:, 3] = 1e6
    assert np.array_equal(machine.predict(far), machine.predict(x))


def test_a_path_ends_where_single_fits_do():
    x, y = blobs()
    for machine in svm.fit_path(x, y, (0.001, 0.01, 0.1)):
        alone = svm.fit(x, y, machine.C)
        assert np.abs(machine.scores(x) - alone.scores(x)).max() < 5e-3


def test_the_scale_and_place_of_a_column_do_not_matter_when_standardised():
    x, y = blobs()
    moved = x * np.float32(37) - np.float32(11)
    assert np.array_equal(svm.fit(x, y).predict(x), svm.fit(moved, y).predict(moved))


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        (np.zeros((3, 2)), [1, 1, 1], "at least two classes"),
        (np.full((3, 2), np.nan), [1, 2, 1], "finite"),
        (np.zeros((0, 2)), [], "N > 0"),
        (np.zeros((3, 2)), [1, 2], "3 features but 2 labels"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x, y, text):
    with pytest.raises(ValueError, match=text):
        svm.fit(x, y)
    with pytest.raises(ValueError, match="greater than 0"):
        svm.fit(*blobs(), C=0)


@pytest.mark.slow
def test_the_published_size_takes_seconds():
    x, y = blobs(9843, 1024, 40)
    start = time.perf_counter()
    assert svm.fit(x, y, 0.01).converged
    assert time.perf_counter() - start < 60
