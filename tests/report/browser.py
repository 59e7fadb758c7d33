"""Pages in a headless Chromium: how wide their parts are, and pictures of them."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
DARK = "--blink-settings=preferredColorScheme=0"

# The page lies in a frame of its own width, since a window cannot be as narrow as a phone; its policy allows no script, so
# the frame's parent measures.
FRAME = """<!DOCTYPE html><body style="margin: 0"><iframe src="index.html" style="width: {width}px; height: {height}px; border: 0"></iframe>
<pre></pre><script>
window.onload = () => {{
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  page.querySelectorAll("details").forEach((fold) => {{ fold.open = true; }});
  const parts = [...page.querySelectorAll("table, th, td, img, svg, pre, p, li")].map((part) => ({{
    name: part.tagName.toLowerCase(), text: part.textContent.trim().slice(0, 60) || (part.alt || "").slice(0, 60),
    hidden: part.scrollWidth - part.clientWidth, right: part.getBoundingClientRect().right, shown: part.currentSrc ? part.width : 0,
    broad: part.getBoundingClientRect().width,
    letters: parseFloat(page.defaultView.getComputedStyle(part).fontSize),
  }}));
  const facts = {{ wide: root.scrollWidth, room: root.clientWidth, high: root.scrollHeight, parts: parts }};
  document.querySelector("pre").textContent = JSON.stringify(facts);
}};
</script>"""


def measured(page: Path, width: int) -> dict[str, Any]:
    """wide, room and high (pixels of the whole page), and of its parts name, text, hidden, right and broad (pixels), letters."""
    with served(page, width, 800) as address:
        dumped = chromium("--dump-dom", address)
    return json.loads(html.unescape(re.search(r"<pre>(.*?)</pre>", dumped, re.DOTALL)[1]))


def picture(page: Path, width: int, height: int, out: Path, *options: str) -> None:
    """A screenshot of the page's upper `height` pixels."""
    with served(page, width, height) as address:
        chromium(f"--window-size={max(width, 500)},{height}", f"--screenshot={out}", *options, address)


def chromium(*arguments: str) -> str:
    quiet = ("--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=12000", "--hide-scrollbars")
    done = subprocess.run([CHROMIUM, *quiet, *arguments], capture_output=True, text=True, check=True, timeout=300)
    return done.stdout


@contextmanager
def served(page: Path, width: int, height: int) -> Iterator[str]:
    """The address of a frame of this size around the page; only what has one origin may measure the other."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/frame":
                super().do_GET()
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(FRAME.format(width=width, height=height).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(page.parent))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/frame"
        finally:
            server.shutdown()
