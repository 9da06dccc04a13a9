"""One file a command: `HELP` is its page, `arguments` its options, `run` its work and exit status."""
