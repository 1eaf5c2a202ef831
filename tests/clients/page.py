"""The client in a browser: a page of our own, served to a real Chromium without a window. The page's origin is the
server here, so what it sends to Rollguard is cross-origin and needs its `cors` settings."""

import functools
import http.server
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading

import build

PROGRAMS = "chromium-headless-shell|chromium|chromium-browser|google-chrome"
# The port that the page comes from is chosen when the server starts, so any of this machine may send.
CORS = {"allowed_origins": ["http://127.0.0.1:*"], "exposed_headers": ["Retry-After"]}


@functools.cache
def version():
    said = subprocess.run([build.tool(PROGRAMS), "--version"], capture_output=True, text=True).stdout
    # Major version only: a distribution moves the rest each week.
    return "Chromium " + next(word for word in said.split() if word[0].isdigit()).split(".")[0]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, jobs):
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs, self.results, self.done = jobs, {}, threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/":
            self.answer("text/html", b'<!doctype html><meta charset="utf-8"><script src="/page.js"></script>')
        elif self.path == "/page.js":
            with open(os.path.join(build.TARGET, "js", "page.js"), "rb") as f:
                self.answer("text/javascript", f.read())
        elif self.path == "/jobs":
            self.answer("application/json", json.dumps(self.server.jobs).encode())
        else:
            self.send_error(404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/results":
            result = json.loads(body)
            self.server.results[result["id"]] = result
        elif self.path == "/done":
            self.server.done.set()
        self.answer("text/plain", b"")

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def launch(jobs, _arrived):
    server = Server(jobs)
    folder = tempfile.mkdtemp(prefix="rollguard-page-")
    # A root user has no sandbox of Chromium's; the page is our own.
    command = [
        build.tool(PROGRAMS), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", f"--user-data-dir={folder}", "--remote-debugging-port=0",
        f"http://127.0.0.1:{server.server_port}/",
    ]
    with open(os.path.join(folder, "log"), "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        if not server.done.wait(90 + max(job["seconds"] for job in jobs)):
            with open(os.path.join(folder, "log")) as log:
                raise RuntimeError(f"the page did not come to its end; Chromium said:\n{log.read()[-2000:]}")
        return server.results
    finally:
        # What is called may be a script that starts the browser: all of its group ends.
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
        server.shutdown()
        server.server_close()
        shutil.rmtree(folder, ignore_errors=True)
