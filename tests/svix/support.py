"""What both Python scripts of the suite need: steps, waiting, and a receiver on loopback."""

import http.server
import sys
import threading
import time
import traceback

# For what the server does in the background; a debug build on a busy machine takes seconds.
WITHIN_SECONDS = 60


class Steps:
    """Functions run in their order. All of them run, so that one look shows all that differs."""

    def __init__(self):
        self.steps = []

    def __call__(self, function):
        self.steps.append(function)
        return function

    def run(self, *arguments):
        failed = []
        for function in self.steps:
            name = function.__doc__
            try:
                function(*arguments)
                print(f"ok      {name}", flush=True)
            except Exception as error:
                failed.append(name)
                print(f"FAILED  {name}: {error!r}", flush=True)
                traceback.print_exc(file=sys.stdout)
        print(f"{len(self.steps) - len(failed)} of {len(self.steps)} steps", flush=True)
        if failed or not self.steps:
            sys.exit(1)


def same(found, wanted, what="value"):
    if found != wanted:
        raise AssertionError(f"{what}: {found!r}, not {wanted!r}")


def raised(kind, call):
    """The exception of this kind that the call must raise."""
    try:
        answer = call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}, but {answer!r}")


def until(what, look):
    """Looks again until `look` finds something; at most for WITHIN_SECONDS."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"in vain for {what}; the last look gave {found!r}")
        time.sleep(0.02)


class Received:
    def __init__(self, path, headers, body):
        self.path = path
        self.headers = headers
        self.body = body


class Receiver:
    """The customer's server behind an endpoint: answers 200, or what `answers` has for a path."""

    def __init__(self):
        receiver = self
        self.answers = {}
        self.received = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                receiver.received.append(Received(self.path, dict(self.headers.items()), body))
                answer = f"seen {self.path}".encode()
                self.send_response(receiver.answers.get(self.path, 200))
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def at(self, path, count=1):
        """The requests to a path, once there are that many."""

        def look():
            found = [one for one in self.received if one.path == path]
            return found if len(found) >= count else None

        return until(f"{count} requests to {path}", look)
