"""Training killed anywhere: the run resumes and ends with the same weights, bit for bit, as one that was not."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crosshape.errors import CrosshapeError
from crosshape.learning import run as folder
from crosshape.networks.model import load_model

HERE = Path(__file__).resolve().parent


class Server:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "killed_training.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, run: Path, after: float | None = None, at: int | None = None) -> dict:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"run": str(run), "after": after, "at": at}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, "the run failed instead of going on"
        return answer


@pytest.fixture(scope="module")
def server():
    one = Server()
    yield one
    one.process.stdin.close()
    one.process.wait(60)
    one.process.stdout.close()


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory):
    """The uninterrupted run: its fingerprint, how many calls change a file, and the seconds it takes."""
    folder_ = tmp_path_factory.mktemp("whole")
    server(folder_ / "warm")
    start = time.monotonic()
    answer = server(folder_ / "run")
    return answer["fingerprint"], answer["calls"], time.monotonic() - start


def check_and_finish(server, run: Path, fingerprint: str) -> None:
    if (run / "model.safetensors").exists() and (run / "card.json").exists():
        load_model(run, "cpu")  # what is there is whole
    if (run / folder.STATE).exists():
        assert folder.load_state(run) is not None
    assert server(run)["fingerprint"] == fingerprint
    assert load_model(run, "cpu").fingerprint == fingerprint
    rows = folder.read_metrics(run)
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows}), "a row twice"


def kill_at_moments(server, whole, folder_: Path, kills: int) -> None:
    """Kill runs at seeded moments until that many were killed while they ran, and let each go on to its end."""
    fingerprint, _, seconds = whole
    chance = random.Random(5)
    killed = number = 0
    while killed < kills:
        assert number < 20 * kills, f"{killed} of {number} runs were killed before their end"
        number += 1
        run, moment = folder_ / f"moment-{number}", chance.uniform(0, seconds)
        if server(run, after=moment)["killed"]:
            killed += 1
        else:  # this run was faster than the one that was measured
            seconds = moment
        check_and_finish(server, run, fingerprint)


def test_killed_at_a_few_moments(server, whole, tmp_path):
    kill_at_moments(server, whole, tmp_path, 4)


@pytest.mark.long
def test_killed_at_a_hundred_moments(server, whole, tmp_path):
    kill_at_moments(server, whole, tmp_path, 100)


def kill_at_calls(server, whole, folder_: Path, every: int) -> None:
    fingerprint, calls, _ = whole
    assert calls > 20
    for at in range(every // 2 + 1, calls + 1, every):
        run = folder_ / f"call-{at}"
        assert server(run, at=at)["killed"]
        check_and_finish(server, run, fingerprint)


def test_killed_at_some_writes_and_renames(server, whole, tmp_path):
    kill_at_calls(server, whole, tmp_path, 9)


@pytest.mark.slow
def test_killed_at_every_write_and_rename(server, whole, tmp_path):
    kill_at_calls(server, whole, tmp_path, 1)


FULL = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2); "
    "from crosshape.cli import main; sys.exit(main(sys.argv[1:]))"
)


def test_a_file_that_may_not_grow_is_said_and_the_run_goes_on_to_the_same_weights(made_library, tmp_path):
    sizes = "--epochs 2 --points 128 --image-size 32 --batch-size 4 --threads 1".split()
    for name in ("k=8", "edge_widths=(8, 8, 16)", "point_width=32", "image_width=8"):
        sizes += ["--set", name]

    def train(run: str, limit: int, *more: str) -> subprocess.CompletedProcess[str]:
        words = ["train", str(made_library.path), str(tmp_path / run), *more]
        command = [sys.executable, "-c", FULL, str(limit), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert train("whole", 1 << 30, *sizes).returncode == 0
    stopped = train("stopped", 100_000, *sizes)
    assert stopped.returncode == 1 and "Traceback" not in stopped.stderr
    assert stopped.stderr.splitlines()[-1].endswith(
        "File too large. Raise the limit (ulimit -f) and run it again; nothing was lost."
    )
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    assert train("stopped", 1 << 30, "--resume").returncode == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]


def test_two_processes_do_not_train_into_one_run(tmp_path):
    with folder.alone(tmp_path), pytest.raises(CrosshapeError, match="another process is training into"):
        folder.alone(tmp_path).__enter__()
    with folder.alone(tmp_path):
        pass
