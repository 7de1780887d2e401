"""`python -m tests.pictures`: the pictures in docs/, of the result in reports/ and the demo page.

Needs the sample's result (`make repro`) and Chromium. Writes docs/report.png, explain.png,
sample.png and page.png with two pixels for each of the page's, in true colours. A minute.
"""

import contextlib
import io
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from ferlab import files

SCALE = 2  # pixels of a picture for each of the page
PAGES = {  # picture: (page, what of it, width and height of the window)
    "report": ("reports/report.html", None, (800, 1000)),
    "explain": ("reports/explain/explain.html", None, (800, 900)),
    "sample": ("reports/report.html", "figure:has(.strips)", (1400, 900)),
}


def main():
    if files.read_json("reports/details.json")["dataset"] != "sample":
        sys.exit("error: reports/ holds real faces; make reset, then make repro")
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, (page, part, size) in PAGES.items():
            tab = window(browser, size)
            tab.goto(Path(page).resolve().as_uri())
            shown = tab.locator(part) if part else tab
            shown.screenshot(path=f"docs/{name}.png")
        demo(browser)
        browser.close()


def window(browser, size):
    width, height = size
    view = {"width": width, "height": height}
    return browser.new_page(viewport=view, device_scale_factor=SCALE, color_scheme="light")


def demo(browser):
    """The page that `make demo` serves, with NASA's photo of an astronaut (public domain)."""
    import skimage.data
    from PIL import Image

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    photo = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(photo, "JPEG")
    server = subprocess.Popen([sys.executable, "-m", "ferlab", "demo", "--port", str(port)])
    try:
        tab = window(browser, (1200, 834))
        tab.set_default_timeout(300_000)
        while server.poll() is None and not answers(port):
            time.sleep(0.2)
        tab.goto(f"http://127.0.0.1:{port}/")
        tab.check("#cam")
        content = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photo.getvalue()}
        tab.set_input_files("#file", content)
        tab.wait_for_selector(".one .row")
        tab.wait_for_function(
            "[...document.querySelectorAll('.one img')].every(one => one.complete)"
        )
        tab.screenshot(path="docs/page.png")
    finally:
        server.terminate()
        server.wait()


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


if __name__ == "__main__":
    main()
