"""What the tests of the pages share: a photo, and a browser with a camera."""

import os
import shutil
import sys

import cv2
import numpy as np
import pytest
import skimage.data

from tests.builders import image


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def photo(astronaut):
    return image(astronaut, "JPEG", "RGB")


@pytest.fixture(scope="module")
def browser(astronaut, tmp_path_factory):
    """Chromium, whose camera shows the astronaut, then the same out of focus, then a wall, over
    and over.
    """
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        assert os.environ.get("CI") != "true" or sys.platform != "linux", (
            "CI must have Chromium: apt-get install chromium"
        )
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    bright = np.full((480, 640, 3), 120, np.uint8)
    bright[:, 64:576] = astronaut[:480]
    film = tmp_path_factory.mktemp("camera") / "film.mjpeg"
    film.write_bytes(
        b"".join(
            25 * image(picture, "JPEG", "RGB")
            for picture in (
                bright,
                cv2.GaussianBlur(bright, (0, 0), 3),
                np.full_like(bright, 120),
            )
        )
    )
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-video-capture={film}",
            ],
        )
        yield started
        started.close()
