"""Retrieval: rankings, ties, the query itself, and the cross-modal form."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from crosshape.tasks import retrieval
from crosshape.tasks.retrieval import retrieve, retrieve_across


def vectors(count=60, width=8, classes=4, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    return generator.normal(size=(classes, width))[labels] + generator.normal(size=(count, width)), labels


def test_average_precision_is_that_of_scikit_learn_with_the_query_left_out():
    x, labels = vectors()
    result = retrieve(x, labels)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = unit @ unit.T
    assert (cosines < 0).any()
    for row in range(len(x)):
        others = np.arange(len(x)) != row
        expected = average_precision_score(labels[others] == labels[row], cosines[row, others])
        assert result.average_precision[row] == pytest.approx(expected)
        assert row not in result.ranking[row]
    assert result.mean_average_precision == pytest.approx(result.average_precision.mean())


def test_blocks_do_not_change_a_thing(monkeypatch):
    x, labels = vectors()
    whole = retrieve(x, labels)
    monkeypatch.setattr(retrieval, "BLOCK", 7)
    parts = retrieve(x, labels)
    assert np.array_equal(whole.ranking, parts.ranking)
    assert np.array_equal(whole.average_precision, parts.average_precision)
    assert np.array_equal(whole.gain, parts.gain)
    assert whole.precision_recall == pytest.approx(parts.precision_recall)


def test_ties_are_broken_by_name_in_any_order_of_rows():
    x, labels = vectors()
    x = np.repeat(x[:20], 3, axis=0)  # every vector three times
    labels = np.random.default_rng(1).integers(0, 3, 60)
    names = np.array([f"{i:03d}" for i in range(60)])
    shuffled = np.random.default_rng(2).permutation(60)
    one = retrieve(x, labels, names)
    other = retrieve(x[shuffled], labels[shuffled], names[shuffled])
    assert other.average_precision == pytest.approx(one.average_precision[shuffled])
    for row, source in enumerate(shuffled):
        assert list(names[shuffled][other.ranking[row]]) == list(names[one.ranking[source]])
    assert list(one.ranking[3][:2]) == [4, 5]


def test_a_query_with_nothing_to_find_is_counted_and_left_out():
    x, labels = vectors()
    labels[:] = labels % 2
    labels[7] = 9
    result = retrieve(x, labels)
    assert result.without_relevant == 1
    assert np.isnan(result.average_precision[7])
    assert result.mean_average_precision == pytest.approx(np.delete(result.average_precision, 7).mean())


def test_perfect_and_hopeless():
    labels = np.repeat(np.arange(3), 4)
    good = retrieve(np.eye(3)[labels] + 0.01, labels)
    assert good.mean_average_precision == good.nearest_neighbour == good.first_tier == good.ndcg == 1
    assert good.second_tier == 1
    assert good.precision_recall.min() == 1
    bad = retrieve(np.eye(4)[np.tile(np.arange(4), 3)], labels)  # like is always of another class
    assert bad.nearest_neighbour == 0
    assert bad.first_tier < 0.5


def test_small_galleries():
    alone = retrieve([[1.0, 0.0]], [0])
    assert alone.without_relevant == 1
    assert alone.ranking.shape == (1, 0)
    pair = retrieve([[1.0, 0.0], [0.0, 0.0]], [0, 0])
    assert pair.nearest_neighbour == 1
    assert len(retrieve(np.zeros((0, 4)), []).average_precision) == 0


def test_not_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        retrieve([[np.nan, 1.0], [1.0, 1.0]], [0, 0])
    with pytest.raises(ValueError, match="2 names but 3 labels"):
        retrieve(np.eye(3), [0, 0, 1], ["a", "b"])


def test_across_modalities_ranks_the_own_shape_but_does_not_count_it():
    x, labels = vectors()
    same = retrieve_across(x[:, None], x, labels)
    assert (same.own_rank == 1).all()
    inside = retrieve(x, labels)
    assert np.array_equal(same.average_precision, inside.average_precision)
    y = x + 0.5 * np.random.default_rng(3).normal(size=x.shape)
    cosines = retrieval.cosine(x, y)
    for ask, scores in (("picture", cosines), ("shape", cosines.T)):
        result = retrieve_across(x[:, None], y, labels, ask=ask)
        expected = (scores > np.diag(scores)[:, None]).sum(axis=1) + 1
        assert np.array_equal(result.own_rank, expected)
        assert (result.own_rank > 1).any()


def test_several_pictures_are_asked_by_their_mean_score():
    x, labels = vectors()
    y = np.random.default_rng(4).normal(size=x.shape)
    result = retrieve_across(np.stack([x, y], axis=1), x, labels, ask="shape")
    scores = ((retrieval.cosine(x, x) + retrieval.cosine(y, x)) / 2).T
    np.fill_diagonal(scores, -9)
    assert np.array_equal(result.ranking[:, 0], scores.argmax(axis=1))


def test_the_judge_of_pairs_may_rank_instead():
    x, labels = vectors()
    turned = np.random.default_rng(4).permutation(x.shape[1])

    def judge(pictures, clouds):
        return -np.abs(pictures[:, None] - clouds[:, turned.argsort()]).sum(axis=2)

    for ask in ("picture", "shape"):
        result = retrieve_across(x[:, None], x[:, turned], labels, ask=ask, judge=judge)
        assert (result.own_rank == 1).all()
    with pytest.raises(ValueError, match="shape"):
        retrieve_across(x[:, None], x, labels, judge=lambda a, b: np.zeros((len(a), 3)))


def test_own_rank_of_equal_scores_follows_names():
    flat = retrieve_across(np.ones((4, 1, 2)), np.ones((4, 2)), [0, 0, 1, 1], ["d", "c", "b", "a"])
    assert list(flat.own_rank) == [4, 3, 2, 1]
