"""Each part of crosshape beside its plain counterpart: the textbook form that users know."""
