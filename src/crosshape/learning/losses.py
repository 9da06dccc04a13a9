"""The losses: pure functions of tensors, each tested against a naive loop."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Mean over (B, D) of max(0, |a - p| - |a - n| + margin), Euclidean (cross-view, recipe `paper`)."""
    near = functional.pairwise_distance(anchor, positive)
    far = functional.pairwise_distance(anchor, negative)
    return functional.relu(near - far + margin).mean()


def same_object(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits (B,) against truth (B,) of 0 and 1 (cross-modality, `paper`)."""
    return functional.binary_cross_entropy_with_logits(logits, truth)


def all_pairs(logits: Tensor) -> Tensor:
    """Logits (B, B) of every picture with every cloud, the true pairs on the diagonal (`dense`).

    Two questions, added: which cloud is this picture's and which picture is this cloud's (cross-entropy over
    rows and columns), and is this pair the same object (binary cross-entropy, true and false pairs of equal
    weight, so that a logit keeps its meaning: above 0 is "same").
    """
    count = len(logits)
    truth = torch.arange(count, device=logits.device)
    which = (functional.cross_entropy(logits, truth) + functional.cross_entropy(logits.T, truth)) / 2
    true = logits.diagonal()
    false = functional.softplus(logits).sum() - functional.softplus(true).sum()
    same = functional.softplus(-true).mean() + false / max(count * (count - 1), 1)
    return which + same / 2


def softmax_agreement(one: Tensor, other: Tensor, temperature: float, alike: Tensor | None = None) -> Tensor:
    """Features (B, D) of two looks at the same B objects: each must find its other half in the batch.

    Cross-entropy over cosine / temperature, both ways, averaged (InfoNCE: van den Oord et al.,
    arXiv 1807.03748; both ways as in CLIP). alike (B, B), symmetric, 0 on the diagonal: how much another object
    is to be found as well, beside 1 for its own.
    """
    cosine = functional.normalize(one, dim=1) @ functional.normalize(other, dim=1).T
    logits = cosine / temperature
    if alike is None:
        truth = torch.arange(len(one), device=one.device)
    else:
        truth = torch.eye(len(one), dtype=logits.dtype, device=one.device) + alike.to(logits.dtype)
        truth = truth / truth.sum(dim=1, keepdim=True)
    return (functional.cross_entropy(logits, truth) + functional.cross_entropy(logits.T, truth)) / 2


def reconstruction(logits: Tensor, occupied: Tensor) -> Tensor:
    """Logits (B, C) of how full each cell is against how full it is (B, C), 0 to 1: mean binary cross-entropy, less the
    entropy of the truth, so that 0 is perfect.
    """
    found = functional.binary_cross_entropy_with_logits(logits.float(), occupied)
    return found - functional.binary_cross_entropy(occupied, occupied)
