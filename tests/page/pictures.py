"""Take the pictures of docs/pictures/: the page with the small real model, in the middle of its work.

python -m tests.page.pictures FOLDER
"""

import sys
from pathlib import Path

from . import scenes
from .conftest import running_up, started_browser

_SLOTS = 4  # of the small model


def take(folder, browser, scheme):
    """The picture in one scheme."""
    with running_up("", MODEL_SLOTS=str(_SLOTS)) as up, browser.new_context(device_scale_factor=1.5) as context:
        page = scenes.opened(context.new_page(), up.page)
        page.set_viewport_size({"width": 1280, "height": 1130})
        page.emulate_media(color_scheme=scheme)
        scenes.everywhere(page, _SLOTS, is_second=True)
        page.screenshot(path=folder / f"page-{scheme}.png")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with started_browser() as chromium:
        for one in scenes.SCHEMES:
            take(target, chromium, one)
            print(target / f"page-{one}.png")
