"""Builders of made shapes: solids, and the classes made of them."""
