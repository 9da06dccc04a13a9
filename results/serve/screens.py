"""The pictures of docs/screens: the page with made shapes, at two sizes, light and dark, in headless Chromium.

    crosshape serve parts.lance --head heads/parts --no-browser --port 8765
    python results/serve/screens.py http://127.0.0.1:8765 chair.stl docs/screens [NAME...]

Only made shapes belong in the repository: serve a library of `crosshape demo` or of write_shapes.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
import time
import urllib.request
from pathlib import Path

from PIL import Image
from selenium import webdriver

WIDE, SMALL = (1280, 800), (390, 780)


def main(address: str, upload: str, folder: str, *names: str) -> None:
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)

    def get(path: str):  # type: ignore[no-untyped-def]
        return json.load(urllib.request.urlopen(address + path))

    mug = get("/shapes?q=mug")["shapes"][0]["id"]
    near = get(f"/search?id={mug}&top=3")["hits"]
    pairs = get("/duplicates")["pairs"]
    pair = next(
        (one for one in pairs if one["kind"] in ("moved", "scaled", "mirrored")), (pairs or [None])[0]
    )
    ends = f"{pair['a']['id']}/{pair['b']['id']}" if pair else ""
    views = [
        ("grid-light", "/", WIDE, False),
        ("grid-small-dark", "/", SMALL, True),
        ("shape-dark", f"/shape/{mug}", WIDE, True),
        ("shape-small-light", f"/shape/{mug}", SMALL, False),
        ("map-light", "/atlas", WIDE, False),
        ("map-dark", "/atlas", WIDE, True),
        ("compare-light", f"/compare/{mug}/{near[0]['id']}", WIDE, False),
        ("review-dark", f"/review/{ends}", WIDE, True),
        ("review-small-light", "/review", SMALL, False),
        ("found-light", None, WIDE, False),
        ("tags-light", "/tagging", WIDE, False),
        ("found-small-dark", None, SMALL, True),
    ]
    if get("/library")["parts"]:
        plane = get("/shapes?q=airplane")["shapes"][0]["id"]
        views.append(("parts-light", f"/shape/{plane}?parts=1", WIDE, False))
    for name, path, size, dark in views:
        if names and name not in names:
            continue
        driver = browser(size, dark)
        try:
            driver.get(address + (path or "/"))
            wait(driver, "return document.documentElement.dataset.ready !== undefined")
            if path is None:
                driver.find_element("id", "file").send_keys(str(Path(upload).absolute()))
                wait(
                    driver,
                    "return location.pathname.startsWith('/found/') && !!document.querySelector('a.tile')",
                )
            wait(driver, "return !document.querySelector('main .spin')")
            stages = "return [...document.querySelectorAll('.stage .thumb')].every((t) => t.classList.contains('gone'))"
            wait(driver, stages)
            wait(
                driver, "return !(document.querySelector('.atlas .say')?.textContent || '').includes('still')"
            )
            wait(driver, "return [...document.querySelectorAll('.thumb img[src]')].every((i) => i.complete)")
            time.sleep(3)
            picture = Image.open(io.BytesIO(base64.b64decode(driver.get_screenshot_as_base64())))
            picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
                out / f"{name}.png", optimize=True
            )
            print(name, (out / f"{name}.png").stat().st_size)
        finally:
            driver.quit()


def browser(size: tuple[int, int], dark: bool) -> webdriver.Chrome:
    """A headless Chromium of this size, without motion."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars",
                 "--enable-unsafe-swiftshader", "--use-angle=swiftshader"):  # fmt: skip
        options.add_argument(word)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
    media = [{"name": name, "value": value} for name, value in features.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    return driver


def wait(driver: webdriver.Chrome, script: str) -> None:
    """Until a script says true; at most a minute."""
    end = time.monotonic() + 60
    while not driver.execute_script(script):
        if time.monotonic() > end:
            raise TimeoutError(script)
        time.sleep(0.2)


if __name__ == "__main__":
    main(*sys.argv[1:])
