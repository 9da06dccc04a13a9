"""From a file to arrays: find, load, sample, render. Knows nothing of networks or of the library."""
