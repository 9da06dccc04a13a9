"""The command line: find the command, run it, turn errors into words. Nothing heavy is imported here.

A command is a module of `crosshape.commands` with `arguments(parser)` and `run(options) -> exit status`.
Results go to standard output, progress and words to standard error. Exit status: 0 all good, 1 could not do
it or did only a part of it, 2 wrong usage, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys

COMMANDS = {
    "demo": "make shapes, learn for a few minutes, show what was learned; needs no data",
    "check": "what loads, what does not, and why",
    "add": "read, render and sample shapes into a library; skips what is there already",
    "remove": "take shapes out of a library, with all that was made of them",
    "train": "learn features from a library, with no labels",
    "embed": "write features beside the shapes of a library",
    "search": "find shapes like a shape file, a picture, or a shape of the library",
    "duplicates": "shapes that are there twice: identical, moved, scaled, mirrored, re-meshed",
    "group": "like shapes together, a typical one for each group, and a map",
    "tag": "tags from a few labelled shapes, proposed for the rest",
    "evaluate": "judge features by recognition, retrieval, few-shot and parts, on labelled data",
    "datasets": "the known data sets, what a folder holds, and fetching what may be fetched",
    "segment": "parts on shapes, from a few labelled ones",
    "serve": "the library as a web page and an HTTP API, on this machine",
    "export": "a model for other programs: ONNX and safetensors, with a page about it",
    "convert": "turn a PyTorch checkpoint of somebody else into safetensors",
    "benchmark": "how fast is this machine, each part beside its plain counterpart",
    "info": "what is this run, library or file?",
}


def overview() -> str:
    """The text of `crosshape --help`."""
    width = max(map(len, COMMANDS)) + 2
    lines = [
        "crosshape learns features of 3D shapes with no labels, and puts them to work.",
        "",
        "usage: crosshape COMMAND [options]        crosshape COMMAND --help tells more",
        "",
        *(f"  {name:<{width}}{line}" for name, line in COMMANDS.items()),
        "",
        "  --version   the version of this program",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status. Every error a user can mend becomes one line."""
    from crosshape.errors import CrosshapeError, UsageError

    prepare_streams()
    status = 1
    try:
        done = choose(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        status = done
    except UsageError as error:
        tell(str(error))
        status = 2
    except CrosshapeError as error:
        tell(str(error))
    except BrokenPipeError:
        pass  # who read our output has enough
    except KeyboardInterrupt:
        tell("stopped.")
        status = 130
    except (OSError, MemoryError) as error:
        tell(describe(error))
    drop_unwritten()
    return status


def choose(words: list[str]) -> int:
    """Do what the words ask for: an overview, the version or a command; returns the exit status."""
    if words[:1] == ["help"] and len(words) > 1:
        words = [words[1], "--help"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if words else 2
    if words[0] == "--version":
        from crosshape import __version__

        print(__version__)
        return 0
    if words[0] not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        print(f"crosshape: there is no command '{words[0]}'{hint} See crosshape --help.", file=sys.stderr)
        return 2
    return run_command(words[0], words[1:])


def run_command(name: str, words: list[str]) -> int:
    """Parse the words of one command and run it; returns the exit status."""
    import argparse

    # torch's idle threads sleep instead of spinning: the cores are for the kernels meanwhile (docs/speed.md)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    module = importlib.import_module(f"crosshape.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(
        prog=f"crosshape {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.arguments(parser)
    try:
        options = parser.parse_intermixed_args(words)  # options may stand between the shapes
    except SystemExit as stop:
        return int(stop.code or 0)
    return int(module.run(options))


def prepare_streams() -> None:
    """Make standard output and error take every text: what they cannot encode is escaped, closed ones drop all."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def drop_unwritten() -> None:
    """Give up what standard output and error did not take, so that Python does not try again when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def tell(text: str) -> None:
    """Say what went wrong, where somebody listens."""
    with contextlib.suppress(OSError):
        print(f"crosshape: {text}", file=sys.stderr)


def describe(error: OSError | MemoryError) -> str:
    """One line for what the operating system refused: which file, why, and what to do."""
    import errno

    if isinstance(error, MemoryError):
        return "out of memory; use a smaller batch, image size or number of workers."
    where = f"{error.filename}: " if error.filename else ""
    advice = {
        errno.ENOSPC: " Free some space and run the same command again; nothing was lost.",
        errno.EFBIG: " Raise the limit (ulimit -f) and run it again; nothing was lost.",
        errno.EACCES: " Check who may read and write there.",
        errno.EROFS: " Choose a folder that can be written.",
    }.get(error.errno or 0, "")
    return f"{where}{error.strerror or error}.{advice}"


if __name__ == "__main__":
    sys.exit(main())
