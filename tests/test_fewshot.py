"""Few-shot episodes and the descriptor without learning."""

import numpy as np
import pytest

from crosshape.tasks.descriptors import shape_distribution
from crosshape.tasks.fewshot import few_shot


def labelled(classes=12, each=40, width=16, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    rows = generator.normal(size=(classes, width))[labels] * 1.5 + generator.normal(size=(len(labels), width))
    return rows, labels, generator.random(len(labels)) < 0.4


def test_episodes_keep_to_the_rules():
    x, y, test = labelled()
    result = few_shot(x, y, test, 5, 10)
    assert len(result.episodes) == 10
    for episode in result.episodes:
        support, queries = np.array(episode.support), np.array(episode.queries)
        assert len(episode.classes) == len(set(episode.classes)) == 5
        assert not test[support].any()
        assert test[queries].all()
        assert [int((y[support] == c).sum()) for c in episode.classes] == [10] * 5
        for c in episode.classes:
            assert (y[queries] == c).sum() == min(20, (test & (y == c)).sum())
    assert 0.9 < result.accuracy <= 1
    assert result.accuracy == pytest.approx(np.mean([e.accuracy for e in result.episodes]))
    assert result.std == pytest.approx(np.std([e.accuracy for e in result.episodes], ddof=1))


def test_episodes_repeat_and_differ_by_seed():
    x, y, test = labelled()
    assert few_shot(x, y, test, 5, 10) == few_shot(x, y, test, 5, 10)
    assert (
        few_shot(x, y, test, 5, 10).episodes[0].support
        != few_shot(x, y, test, 5, 10, seed=1).episodes[0].support
    )


def test_random_features_are_guesses():
    x, y, test = labelled()
    noise = np.random.default_rng(5).normal(size=x.shape)
    assert 0.1 < few_shot(noise, y, test, 5, 10).accuracy < 0.3


def test_features_of_test_shapes_do_not_scale_those_that_are_learned_from():
    x, y, test = labelled()
    test[y == 11] = True  # never drawn: nothing to learn from
    far = np.where((y == 11)[:, None], 1e4 * x, x)
    assert few_shot(far, y, test, 5, 10) == few_shot(x, y, test, 5, 10)


def test_too_few_shapes_is_said_with_the_number():
    x, y, test = labelled(classes=4)
    with pytest.raises(
        ValueError, match="5 classes with 10 training shapes and a test shape are needed, not 4"
    ):
        few_shot(x, y, test, 5, 10)
    test[y == 3] = False
    with pytest.raises(ValueError, match="not 3"):
        few_shot(x, y, test, 4, 10)


def test_the_shape_distribution_against_a_loop():
    cloud = np.random.default_rng(6).uniform(-0.5, 0.5, (1, 50, 3)).astype(np.float32)
    row = shape_distribution(cloud, bins=8, heights=4)[0]
    counts, heights = np.zeros(8), np.zeros(4)
    for i in range(50):
        heights[int((cloud[0, i, 2] + 1) * 2)] += 1
        for j in range(i + 1, 50):
            counts[min(int(np.linalg.norm(cloud[0, i] - cloud[0, j]) * 4), 7)] += 1
    assert row[:8] ** 2 == pytest.approx(counts / counts.sum())
    assert row[8:] ** 2 == pytest.approx(heights / 50)


def test_the_shape_distribution_does_not_see_turns_about_the_up_axis():
    cloud = np.random.default_rng(7).uniform(-0.5, 0.5, (200, 3))
    turn = np.array([[np.cos(1), -np.sin(1), 0], [np.sin(1), np.cos(1), 0], [0, 0, 1]])
    both = shape_distribution(np.stack([cloud, cloud @ turn.T]))
    assert both[0] == pytest.approx(both[1], abs=0.02)
    assert (both**2).sum(axis=1) == pytest.approx([2, 2])
    assert shape_distribution(cloud[None], heights=0).shape == (1, 64)
    with pytest.raises(ValueError, match=r"\(N, P, 3\)"):
        shape_distribution(cloud)
