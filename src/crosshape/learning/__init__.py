"""Joint self-supervised learning: augmentation, losses, the loop, the run folder."""
