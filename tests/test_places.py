"""Libraries in object storage, in a store that speaks S3 on this machine; and what an address is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from test_library import NAMES, SETTINGS, features_for, fill
from test_main_job import TINY

import crosshape
from crosshape.cli import main
from crosshape.errors import CrosshapeError, UsageError
from crosshape.library.library import create_library, is_library, open_library
from crosshape.library.notes import tags_file
from crosshape.page.catalogue import Catalogue
from crosshape.places import Address, beside, located
from crosshape.settings import PrepareSettings

MADE = PrepareSettings(points=256, views=4, image_size=32)


@pytest.fixture(scope="module")
def endpoint():
    """The address of a store with S3's protocol."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(endpoint: str, request, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty bucket and the environment that leads to it."""
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    for name, value in {**keys, "AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    name = f"bucket-{abs(hash(request.node.name)) % 10**9}"
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")).read()
    return f"s3://{name}"


@pytest.mark.parametrize("text", ["parts.lance", "/a/b.lance", "odd:name", "a/b://c", "s3:/bucket/x"])
def test_what_is_a_path(text):
    assert located(text) == Path(text) and located(Path(text)) == Path(text)


def test_what_is_an_address():
    address = located("s3://bucket/folder/parts.lance/")
    assert address == Address("s3://bucket/folder/parts.lance") == located(address)
    assert (str(address), address.name) == ("s3://bucket/folder/parts.lance", "parts.lance")


@pytest.mark.parametrize(
    "text",
    ["s3://", "s3://bucket", "gs:///x", "s3://bucket/../x", "az://b//x", "http://b/x", "file:///x", "://x"],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError, match="a library lies in a folder|names a bucket and a library"):
        located(text)
    assert main(["info", text]) == 2


def test_what_the_page_keeps_is_beside_a_folder_and_at_home_for_an_address(tmp_path, monkeypatch):
    assert beside(tmp_path / "a.lance", ".tags.json") == tmp_path / "a.lance.tags.json"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    file = tags_file(Address("s3://bucket/x/a.lance"))
    assert file == tmp_path / "share/crosshape/s3/bucket/x/a.lance.tags.json"
    assert file.parent.is_dir() and not file.exists()


def test_a_library_in_a_store_is_what_it_is_in_a_folder(bucket, made_folder, made_library, tmp_path):
    library = crosshape.add(made_folder, f"{bucket}/made.lance", settings=MADE, workers=1)
    assert len(library) == 12 and library.names == made_library.names
    assert np.array_equal(library.points(), made_library.points())
    assert np.array_equal(library.views(), made_library.views())
    assert str(library.path) == f"{bucket}/made.lance" and is_library(library.path)
    again = crosshape.add(made_folder, f"{bucket}/made.lance", workers=1)
    assert (again.report.added, again.report.unchanged) == (0, 12)


def test_features_search_tags_and_removing_in_a_store(bucket, made_folder, embedded_library, capsys):
    place = f"{bucket}/made.lance"
    crosshape.add(made_folder, place, settings=MADE, workers=1)
    assert main(["embed", str(embedded_library.path.parent / "run"), place]) == 0
    capsys.readouterr()
    assert main(["search", place, "chair/chair_0.obj", "--top", "3", "--json"]) == 0
    found = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    here = [hit.name for hit in embedded_library.search("chair/chair_0.obj", top=3)]
    assert found == here
    assert main(["group", place, "--json"]) == 0 and main(["duplicates", place, "--workers", "1"]) == 0
    capsys.readouterr()
    assert main(["info", place, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (
        facts["shapes"] == 12 and list(facts["features"].values()) == [12] and facts["bytes_on_disk"] > 10_000
    )
    assert main(["remove", place, "mug/"]) == 0 and len(open_library(place)) == 9
    capsys.readouterr()
    assert main(["remove", place, "bolt/", "--forget"]) == 1
    assert "object storage has no locks" in capsys.readouterr().err and len(open_library(place)) == 9


def test_learning_from_a_store(bucket, made_folder, tmp_path):
    place = f"{bucket}/made.lance"
    crosshape.add(made_folder, place, settings=MADE, workers=1)
    words = "--epochs 1 --batch-size 4 --points 64 --image-size 32 --set encoding_points=64".split()
    assert main(["train", place, str(tmp_path / "run"), *words, *TINY]) == 0
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert main(["embed", str(tmp_path / "run"), place]) == 0
    assert list(open_library(place).models().values()) == [12]


def test_the_page_follows_a_library_in_a_store(bucket, monkeypatch):
    monkeypatch.setattr("crosshape.page.catalogue.LOOK", 0.0)
    library = create_library(f"{bucket}/a.lance", SETTINGS)
    fill(library, NAMES)
    catalogue = Catalogue(library.path)
    assert len(catalogue.now().library) == 5
    fill(library, ["d/1.obj"])
    assert len(catalogue.now().library) == 6


def test_processes_that_write_to_a_store_at_once(bucket, made_folder):
    place = f"{bucket}/made.lance"
    code = (
        "import sys, crosshape\n"
        "from crosshape.settings import PrepareSettings\n"
        f"crosshape.add({str(made_folder)!r}, {place!r}, settings={MADE!r}, workers=1, part=sys.argv[1])"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, f"{n}/4"], env={**os.environ}) for n in (1, 2, 3, 4)
    ]
    assert [one.wait() for one in running] == [0, 0, 0, 0]
    assert len(open_library(place)) == len(set(open_library(place)._stored_names)) == 12


def test_a_commit_that_meets_another_in_a_store_is_tried_again(bucket):
    create_library(f"{bucket}/a.lance", SETTINGS)
    one, two = (open_library(f"{bucket}/a.lance") for _ in range(2))
    fill(one, NAMES[:3])
    fill(two, NAMES[3:])
    one.refresh()
    two.write_features("m1", two.names, *features_for(len(two)))
    one.write_features("m2", NAMES[:3], *features_for(3, seed=1))
    assert open_library(f"{bucket}/a.lance").models() == {"m2": 3, "m1": len(two) - 3}


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"AWS_ENDPOINT": "http://127.0.0.1:9"}, "the store cannot be reached"),
        ({}, "there is no such bucket"),
    ],
)
def test_a_store_that_refuses_is_said(bucket, monkeypatch, capsys, made_folder, changed, words):
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    for command in (["info"], ["add", str(made_folder)]):
        assert main([*command, "s3://nothing-here/a.lance"]) == 1
        told = capsys.readouterr().err
        assert words in told and "Traceback" not in told and "s3://nothing-here/a.lance" in told


def test_no_library_there(bucket):
    assert not is_library(f"{bucket}/a.lance")
    with pytest.raises(CrosshapeError, match=r"there is no library s3://.*/a.lance. Make one: crosshape add"):
        open_library(f"{bucket}/a.lance")


def test_a_path_that_is_no_utf8_is_refused(tmp_path):
    place = tmp_path / "n\udcff.lance"
    with pytest.raises(CrosshapeError, match="cannot write .*: this path is not valid UTF-8"):
        create_library(place, MADE)
    assert not place.exists()
    (place / "_versions").mkdir(parents=True)
    (place / "_versions" / "1.manifest").touch()
    with pytest.raises(CrosshapeError, match="cannot open .*: this path is not valid UTF-8"):
        open_library(place)
