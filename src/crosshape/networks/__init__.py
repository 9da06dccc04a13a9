"""The three networks. They know nothing of files: numbers in, tensors out."""
