"""The page in a real browser: headless Chromium, driven by Selenium; nothing is loaded from anywhere else."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY, learn_parts

from crosshape.page.catalogue import shape_id
from crosshape.search.tags import write_tags
from crosshape.settings import PrepareSettings

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="no Chromium with its driver: apt-get install chromium chromium-driver",
    ),
]

HOSTILE = "<img src=x onerror=document.title='owned'>&quot;.stl"


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """An embedded library of eleven made shapes: one with a hostile name, one that is a copy of another."""
    from crosshape.library.adding import add
    from crosshape.library.embedding import embed
    from crosshape.networks.model import untrained_model
    from crosshape.shapes.made import make_shape, write_shape

    folder = tmp_path_factory.mktemp("page")
    for label in ("chair", "mug", "bolt"):
        (folder / "shapes" / label).mkdir(parents=True)
        for number in range(3):
            write_shape(make_shape(label, number), folder / "shapes" / label / f"{label}_{number}.stl")
    shutil.copy(folder / "shapes" / "mug" / "mug_0.stl", folder / "shapes" / "mug copy.stl")
    shutil.copy(folder / "shapes" / "bolt" / "bolt_1.stl", folder / "bolt_1.stl")
    write_shape(make_shape("table", 1), folder / "shapes" / "table.stl")
    (folder / "shapes" / "table.stl").rename(folder / "shapes" / HOSTILE)
    settings = PrepareSettings(points=256, views=6, image_size=48)
    library = add(folder / "shapes", folder / "parts.lance", settings=settings, workers=1)
    clouds, views = library.points(), library.views(size=32)
    untrained_model(TINY, points=128, image_size=32, clouds=clouds, views=views).save(folder / "run")
    embed(folder / "run", library)
    learn_parts(folder / "run", folder)
    write_tags(library, {"mug/mug_1.stl": ["cup"], "mug/mug_2.stl": ["cup"]})
    return library.path


@pytest.fixture(scope="module")
def server(parts: Path):
    """The address of `crosshape serve`, in a process of its own."""
    command = [sys.executable, "-m", "crosshape", "serve", str(parts), "--port", "0", "--no-browser"]
    command += ["--head", str(parts.parent / "head")]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    address = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert address, line
    yield address[0]
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def driver():
    """A browser that is started once."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking",
        "--enable-unsafe-swiftshader", "--use-angle=swiftshader", "--window-size=1200,800",
    ):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield made
    made.quit()


class Page:
    """The browser at a server, with words for what a person does."""

    def __init__(self, driver, address: str) -> None:
        self.driver, self.address = driver, address

    def open(self, path: str = "/") -> None:
        self.driver.get(self.address + path)
        self.wait("return document.documentElement.dataset.ready !== undefined")

    def js(self, script: str, *values):
        return self.driver.execute_script(script, *values)

    def wait(self, script: str, *values, seconds: float = 60):
        end = time.monotonic() + seconds
        while not (result := self.js(script, *values)):
            assert time.monotonic() < end, (
                f"waited in vain at {self.path()} for: {script}\n{self.text()[:500]}"
            )
            time.sleep(0.1)
        return result

    def path(self) -> str:
        return self.js("return location.pathname + location.search")

    def text(self) -> str:
        return self.js("return document.body.innerText")

    def names(self, within: str = "main") -> list[str]:
        return self.js(
            "return [...document.querySelectorAll(arguments[0] + ' a.tile')].map(a => a.title)", within
        )

    def click(self, selector: str) -> None:
        self.wait("return !!document.querySelector(arguments[0])", selector)
        self.js("document.querySelector(arguments[0]).click()", selector)

    def press(self, key: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(key).perform()

    def back(self) -> None:
        self.driver.back()

    def resize(self, width: int, height: int) -> None:
        command = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", command)

    def drop(self, path: Path, name: str | None = None) -> None:
        """Drag a file over the page and let it go."""
        self.js(
            """const data = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
            const carried = new DataTransfer();
            carried.items.add(new File([data], arguments[1]));
            for (const kind of ["dragenter", "dragover", "drop"]) {
              const how = { bubbles: true, cancelable: true, dataTransfer: carried };
              document.body.dispatchEvent(new DragEvent(kind, how));
              if (kind === "dragover") window.seen_overlay = !document.getElementById("drop").hidden;
            }""",
            base64.b64encode(path.read_bytes()).decode(),
            name or path.name,
        )


@pytest.fixture
def page(driver, server: str):
    """The page at its usual size; afterwards: no error in the console, no request to anywhere else."""
    driver.get_log("browser"), driver.get_log("performance")
    made = Page(driver, server)
    made.resize(1200, 800)
    yield made
    errors = [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    assert not errors, errors
    messages = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    asked = [
        one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"
    ]
    assert any("/static/" in url for url in asked)
    assert all(url.startswith((server, "blob:", "data:", "chrome://")) for url in asked), asked


def test_the_library_is_shown_and_a_hostile_name_is_text(page):
    page.open()
    page.wait("return document.querySelectorAll('main a.tile').length === 11")
    assert HOSTILE in page.names() and "chair/chair_0.stl" in page.names()
    page.wait("return [...document.querySelectorAll('.thumb img')].every((i) => i.naturalWidth === 48)")
    assert "11 in parts.lance" in page.text() and HOSTILE in page.text()
    page.js("document.querySelector('main a.tile[title^=\"<img\"]').click()")
    page.wait("return document.querySelector('h1')?.textContent.startsWith('<img')")
    assert page.js("return document.querySelector('main img[src=x]')") is None
    assert "owned" not in (page.driver.title.replace(HOSTILE, "") or "")


def test_a_file_is_dragged_in_a_neighbour_followed_and_back_works(page, parts):
    page.open()
    page.drop(parts.parent / "bolt_1.stl", "my bolt.stl")
    assert page.js("return window.seen_overlay") is True
    page.wait("return location.pathname.startsWith('/found/')")
    page.wait("return document.querySelector('.brought h1')?.textContent === 'my bolt.stl'")
    found = page.path()
    assert page.names()[0] == "bolt/bolt_1.stl"
    page.click("main a.tile")
    page.wait("return document.querySelector('h1')?.textContent === 'bolt_1.stl'")
    page.wait("return document.querySelectorAll('section a.tile').length === 10")
    page.click("section a.tile:nth-child(2)")
    page.wait(
        "return document.querySelector('h1') && document.querySelector('h1').textContent !== 'bolt_1.stl'"
    )
    assert page.path().startswith("/shape/")
    page.back()
    page.wait("return document.querySelector('h1')?.textContent === 'bolt_1.stl'")
    page.back()
    page.wait("return location.pathname + location.search === arguments[0]", found)
    page.wait("return document.querySelector('.brought h1')?.textContent === 'my bolt.stl'")
    page.driver.refresh()
    page.wait("return document.querySelector('.brought h1')?.textContent === 'my bolt.stl'")
    page.back()
    page.wait("return location.pathname === '/' && document.querySelectorAll('main a.tile').length === 11")


def test_of_many_that_are_like_one_each_has_its_place(page):
    """The answer is made longer on its way: the library is small."""
    page.open(f"/shape/{shape_id('mug/mug_0.stl')}")
    page.js("""const plain = window.fetch;
        window.fetch = async (address, options) => {
          const answer = await plain(address, options);
          if (!String(address).includes("top=200")) return answer;
          const body = await answer.json(), some = body.hits;
          body.hits = Array.from({ length: 200 }, (_, i) => ({ ...some[i % some.length], name: `hit ${i + 1}` }));
          return new Response(JSON.stringify(body));
        };""")
    page.js(
        "[...document.querySelectorAll('a.button')].find((a) => a.textContent === 'Similar to this').click()"
    )
    page.wait("return location.search.startsWith('?like=') && !!document.querySelector('main a.tile')")
    assert page.names()[0] == "hit 1"
    down = "scrollTo(0, document.documentElement.scrollHeight);"
    page.wait(down + "return !!document.querySelector('main a.tile[title=\"hit 200\"]')")
    assert "hit 100" not in page.names()


def test_a_picture_is_brought_and_what_cannot_be_read_is_said(page, tmp_path):
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (200, 160), "white")
    ImageDraw.Draw(picture).ellipse((60, 40, 140, 120), fill=(90, 90, 90))
    picture.save(tmp_path / "photo.png")
    page.open()
    page.driver.find_element("id", "file").send_keys(str(tmp_path / "photo.png"))
    page.wait(
        "return location.pathname.startsWith('/found/') && !!document.querySelector('main a.tile')"
        " && document.body.innerText.includes('as the model sees it')"
    )
    (tmp_path / "broken.stl").write_bytes(b"solid x\nendsolid x")
    page.drop(tmp_path / "broken.stl")
    page.wait("return document.querySelector('.note.bad')?.textContent.includes('gives no shape')")
    page.drop(tmp_path / "broken.stl", "virus.exe")
    page.wait("return document.getElementById('notes').textContent.includes('neither a shape nor a picture')")
    for entry in page.driver.get_log("browser"):  # the 422 itself is told in the console
        assert "422" in entry["message"], entry


def test_a_shape_turns_in_3d(page):
    page.open("/?q=mug_1")
    page.click("main a.tile")
    page.wait("return !!document.querySelector('.stage .thumb.gone')")
    before = page.js("return {...document.querySelector('.stage').viewer.camera}")
    canvas = page.driver.find_element("css selector", ".stage canvas")
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page.driver).drag_and_drop_by_offset(canvas, 80, 20).perform()
    after = page.js("return {...document.querySelector('.stage').viewer.camera}")
    assert after["yaw"] > before["yaw"] + 0.3 and after["pitch"] > before["pitch"]
    shown = page.js(
        """const viewer = document.querySelector(".stage").viewer; viewer.paint();
        const gl = viewer.gl, [w, h] = [viewer.canvas.width, viewer.canvas.height], data = new Uint8Array(4 * w * h);
        gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, data);
        let seen = 0; for (let i = 3; i < data.length; i += 4) seen += data[i] > 0;
        return seen / (w * h);"""
    )
    assert 0.05 < shown < 0.6, "the mug takes a part of the stage"


def test_two_shapes_stand_side_by_side_and_turn_together(page):
    page.open("/?q=mug_1")
    page.click("main a.tile")
    page.wait("return document.querySelector('h1')?.textContent === 'mug_1.stl'")
    page.press("c")
    page.wait("return document.getElementById('notes').textContent.includes('is held')")
    page.click("section a.tile")
    page.click("a.button[href^='/compare/']")
    page.wait("return document.querySelectorAll('.stage .thumb.gone').length === 2")
    turn = "return [...document.querySelectorAll('.stage')].map((s) => s.viewer.camera.yaw)"
    page.js("document.querySelectorAll('.stage canvas')[1].focus()")
    page.press("\ue014")  # arrow right
    one, other = page.js(turn)
    assert one == other
    page.js(
        "[...document.querySelectorAll('.button')].find((b) => b.textContent === 'Turn together').click()"
    )
    page.js("document.querySelectorAll('.stage canvas')[1].focus()")
    page.press("\ue014")
    one, other = page.js(turn)
    assert other == pytest.approx(one + 0.15)


def test_keys_filters_and_addresses(page):
    page.open()
    page.wait("return document.querySelectorAll('main a.tile').length === 11")
    page.press("/")
    page.press("chair")
    page.wait(
        "return location.search === '?q=chair' && document.querySelectorAll('main a.tile').length === 3"
    )
    page.press("\ue015")  # arrow down: to the first shape
    page.wait("return document.activeElement?.title === 'chair/chair_0.stl'")
    page.press("\ue014")
    page.wait("return document.activeElement?.title === 'chair/chair_1.stl'")
    page.press("\ue007")  # enter
    page.wait("return document.querySelector('h1')?.textContent === 'chair_1.stl'")
    page.press("\ue00c")  # escape
    page.wait(
        "return location.search === '?q=chair' && document.querySelectorAll('main a.tile').length === 3"
    )
    page.open("/?folder=mug&sort=-faces")
    page.wait("return document.querySelectorAll('main a.tile').length === 3")
    assert page.js("return document.querySelector('select[aria-label=Folder]').value") == "mug"
    page.press("?")
    assert page.js("return document.getElementById('keys').open")
    page.press("\ue00c")
    page.open("/?q=nothing+has+this+name")
    assert "Nothing passes these filters" in page.text()
    page.open("/shape/00000000000000000000")
    assert "There is no shape of this id" in page.text()
    page.driver.get_log("browser")  # the 404 itself is told in the console


def test_a_duplicate_is_reviewed(page, parts):
    page.open("/review")
    page.click("#look")
    page.wait("return document.querySelectorAll('a.twin').length > 0", seconds=150)
    rows = page.js("return [...document.querySelectorAll('a.twin')].map((a) => a.innerText)")
    assert any("mug copy.stl" in row and "identical" in row for row in rows)
    page.js(
        "[...document.querySelectorAll('a.twin')].find((a) => a.innerText.includes('mug copy.stl')).click()"
    )
    page.wait("return document.querySelectorAll('.pair .stage').length === 2")
    page.wait("return !!document.querySelector('#mark-same')")
    page.press("s")
    marks = parts.with_name("parts.lance.marks.json")
    page.wait("return location.pathname.startsWith('/review')")
    end = time.monotonic() + 10
    while not marks.exists() and time.monotonic() < end:
        time.sleep(0.1)
    kept = json.loads(marks.read_bytes())["pairs"]
    assert {kept[0]["a"], kept[0]["b"]} == {"mug copy.stl", "mug/mug_0.stl"} and kept[0]["mark"] == "same"
    page.open("/review")
    page.wait("return [...document.querySelectorAll('.chip.same')].length === 1")
    assert (parts.parent / "shapes" / "mug copy.stl").exists()


def test_tags_are_given_and_accepted(page, parts):
    page.open()
    page.wait("return document.querySelectorAll('main a.tile').length === 11")
    for name in (
        "bolt/bolt_0.stl",
        "bolt/bolt_1.stl",
        "bolt/bolt_2.stl",
        *(f"chair/chair_{i}.stl" for i in range(3)),
    ):
        page.open(f"/shape/{shape_id(name)}")
        page.wait("return !!document.querySelector('.tagged input')")
        field = page.driver.find_element("css selector", ".tagged input")
        field.clear()
        field.send_keys(name.split("/")[0] + "\ue007")
        page.wait("return document.getElementById('notes').textContent.includes('Tagged')")
    kept = json.loads(parts.with_name("parts.lance.tags.json").read_bytes())["labels"]
    assert kept["bolt/bolt_2.stl"] == "bolt" and len(kept) == 6
    page.open("/tagging")
    page.wait("return !document.querySelector('main .spin') && document.body.innerText.includes('proposed')")
    assert "bolt 3 · chair 3 given" in page.text()
    if page.js("return !!document.querySelector('.proposal button')"):
        before = len(page.js("return [...document.querySelectorAll('.proposal')]"))
        page.js("document.querySelector('.proposal button').click()")
        page.wait("return document.querySelectorAll('.proposal').length === arguments[0]", before - 1)
        assert len(json.loads(parts.with_name("parts.lance.tags.json").read_bytes())["labels"]) == 7


def test_tags_of_the_library_narrow_the_grid_and_are_accepted_or_refused(page, parts):
    parts.with_name("parts.lance.tags.json").unlink(missing_ok=True)  # what was said of mugs until now
    page.open("/tagging?tag=cup")
    page.wait("return document.querySelectorAll('.proposal').length === 2")
    assert "In the library" in page.text() and "2 · a accepts" in page.text()
    page.open("/?tag=cup")
    page.wait("return document.querySelectorAll('main a.tile').length === 2")
    assert page.js("return document.querySelector('select[aria-label=Tag]').value") == "cup"
    page.click("main a.tile[title='mug/mug_1.stl']")
    page.click("button[aria-label='cup: no']")
    page.wait("return !document.querySelector('.written')")
    page.open("/?tag=cup")
    page.wait("return document.querySelectorAll('main a.tile').length === 1")
    page.click("main a.tile[title='mug/mug_2.stl']")
    page.click("button[aria-label='cup: yes']")
    page.wait("return document.querySelector('input[aria-label=Tag]').value === 'cup'")
    kept = json.loads(parts.with_name("parts.lance.tags.json").read_bytes())
    assert kept["labels"]["mug/mug_2.stl"] == "cup" and kept["refused"] == [["mug/mug_1.stl", "cup"]]


COLOURED = """const viewer = document.querySelector(".stage").viewer; viewer.paint();
    const gl = viewer.gl, [w, h] = [viewer.canvas.width, viewer.canvas.height], data = new Uint8Array(4 * w * h);
    gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, data);
    let seen = 0, bright = 0;
    for (let i = 0; i < data.length; i += 4) {
      if (!data[i + 3]) continue;
      seen++;
      bright += Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]) > 60;
    }
    return bright / seen;"""


def test_the_parts_of_a_shape_are_coloured_and_back_takes_them_away(page):
    page.open("/?q=chair_1")
    page.click("main a.tile")
    page.wait("return !!document.querySelector('.stage .thumb.gone')")
    assert page.js(COLOURED) < 0.05, "without colours a shape is grey"
    page.js("window.first = document.querySelector('.stage').viewer; first.move({ yaw: 0.5 })")
    page.click("#parts")
    legend = "return [...document.querySelectorAll('.keyed li')].map((one) => one.textContent)"
    page.wait("return location.search === '?parts=1' && document.querySelectorAll('.keyed li').length > 0")
    told = page.js(legend)
    assert all(re.fullmatch(r"[a-z]+ (\d+|under 1) %", line) for line in told)
    assert page.js(COLOURED) > 0.5
    same = "return document.querySelector('.stage').viewer === window.first && window.first.camera.yaw"
    assert page.js(same) == 0.5, "the camera stays where it was"
    choose = "const box = document.querySelector('.parts select'); box.value = 'mug';"
    page.js(choose + "box.dispatchEvent(new Event('change'))")
    page.wait("return location.search === '?parts=1&class=mug'")
    page.wait(
        "return [...document.querySelectorAll('.keyed li')].some((one) => /body|handle/.test(one.textContent))"
    )
    page.driver.refresh()
    page.wait("return document.querySelectorAll('.keyed li').length > 0")
    assert page.js("return document.querySelector('#parts').getAttribute('aria-pressed')") == "true"
    page.back()
    page.wait("return location.search === '?parts=1'")
    page.wait(
        f"{legend.replace('return ', 'return JSON.stringify(')}) === JSON.stringify(arguments[0])", told
    )
    page.back()
    page.wait("return location.search === '' && document.querySelector('section.parts').hidden")
    page.wait(COLOURED.replace("return bright / seen", "return bright / seen < 0.05"))
    page.js("document.activeElement.blur()")
    page.press("p")
    page.wait("return location.search === '?parts=1'")


def test_two_shapes_and_a_file_are_searched_by_together(page, parts):
    page.open("/?q=mug_0")
    page.click("main a.tile")
    page.wait("return document.querySelectorAll('section a.tile').length === 10")
    page.click("section a.tile .act span[title='Search by this one as well']")
    page.wait("return document.querySelector('h1')?.textContent === 'Like these 2 together'")
    assert page.js("return [...new URLSearchParams(location.search).keys()].join()") == "id,id"
    two, names = page.path(), page.names()
    assert len(names) == 9 and "mug/mug_0.stl" not in names, "neither of the two is among its own hits"
    page.driver.find_element("id", "more").send_keys(str(parts.parent / "bolt_1.stl"))
    page.wait("return document.querySelector('h1')?.textContent === 'Like these 3 together'")
    assert page.js("return [...new URLSearchParams(location.search).keys()].join()") == "id,id,token"
    page.js("[...document.querySelectorAll('.asked button')][1].click()")
    page.wait("return document.querySelector('h1')?.textContent === 'Like these 2 together'")
    assert page.js("return [...new URLSearchParams(location.search).keys()].join()") == "id,token"
    page.back()
    page.wait("return document.querySelector('h1')?.textContent === 'Like these 3 together'")
    page.back()
    page.wait("return location.pathname + location.search === arguments[0]", two)
    page.wait("return document.querySelectorAll('main a.tile').length === 9")
    assert page.names() == names


def test_the_map_leads_to_a_shape(page):
    page.open("/atlas")
    page.wait(
        "return document.querySelector('.say')?.textContent === '11 shapes, like ones together'", seconds=100
    )
    time.sleep(1.6)  # the shapes wander to their places
    page.js("document.querySelector('.atlas canvas').focus()")
    page.press("+")
    page.wait("return location.search.includes('zoom=1.4')")
    page.press("0")
    spot = page.js(
        """const map = await (await fetch("/map")).json();
        const box = document.querySelector(".atlas canvas").getBoundingClientRect();
        const [w, h] = [box.width, box.height];
        return [map.ids[0], box.left + (map.x[0] / 1e4 - 0.5) * Math.min(w, 1.8 * h) * 0.88 + w / 2,
                box.top + (map.y[0] / 1e4 - 0.5) * Math.min(h, 1.8 * w) * 0.88 + h / 2];"""
    )
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        event = {"type": kind, "x": spot[1], "y": spot[2], "button": "left", "clickCount": 1}
        page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
    page.wait("return location.pathname === '/shape/' + arguments[0]", spot[0])


def test_light_and_dark(page):
    page.open()
    ground = "return getComputedStyle(document.body).backgroundColor"
    for scheme in ("dark", "light"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        colour = [int(part) for part in re.findall(r"\d+", page.js(ground))[:3]]
        assert (sum(colour) < 200) == (scheme == "dark")
    page.press("t")
    assert sum(int(part) for part in re.findall(r"\d+", page.js(ground))[:3]) < 200
    page.driver.refresh()
    page.wait("return document.documentElement.dataset.ready !== undefined")
    assert page.js("return document.documentElement.dataset.theme") == "dark", "what was chosen is kept"
    page.js("localStorage.clear()")


@pytest.mark.parametrize("size", [(360, 640), (768, 1024), (1600, 900)])
def test_nothing_stands_out_of_the_window(page, size):
    page.resize(*size)
    page.open()
    one, other = page.js(
        "return [...(await (await fetch('/shapes?limit=2')).json()).shapes].map((shape) => shape.id)"
    )
    for path in (
        "/",
        f"/shape/{one}",
        f"/compare/{one}/{other}",
        "/atlas",
        "/review",
        "/tagging",
        f"/?like={one}",
        f"/shape/{one}?parts=1",
        f"/found?id={one}&id={other}",
    ):
        page.open(path)
        wide = page.js("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1], (path, wide)
        small = page.js(
            """const parts = document.querySelectorAll(".bar a, .bar button, .bar input, .bar .button");
            return [...parts].map((one) => one.getBoundingClientRect())
              .filter((box) => box.width > 1 && (box.right > innerWidth + 1 || box.left < -1)).length"""
        )
        assert small == 0, f"the bar fits at {path}"


def test_when_the_server_stops_the_page_says_so(parts, driver):
    command = [sys.executable, "-m", "crosshape", "serve", str(parts), "--port", "0", "--no-browser"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        page = Page(driver, re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())[0])  # type: ignore[index]
        page.open()
    finally:
        process.terminate()
        assert process.wait(30) in (0, -15)
    page.press("m")
    page.wait("return document.body.innerText.includes('The server does not answer')")
    with contextlib.suppress(Exception):
        driver.get_log("browser")
