#!/usr/bin/env python3
"""A store that speaks as much S3 as a mount needs, for tests of what happens when it is slow or away: it checks no
signature, keeps no promise, and starts at once. For everything else there is Swift (tests/e2e/lib/servers.py).

    s3_stub.py PORT"""
import http.server
import re
import sys
import threading
import urllib.parse
from xml.sax.saxutils import escape

objects, lock = {}, threading.Lock()  # path -> (bytes, headers to give back)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", len(body))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def name(self):
        return urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)

    def do_PUT(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with lock:
            objects[self.name()] = body, [(k, v) for k, v in self.headers.items() if k.lower().startswith("x-amz-meta-")]
        self.answer(200, headers=[("ETag", '"0"')])

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        if "list-type" in query:
            return self.list(self.name().rstrip("/") + "/", query.get("prefix", [""])[0])
        with lock:
            body, headers = objects.get(self.name(), (None, None))
        if body is None:
            return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not part:
            return self.answer(200, body, headers)
        first, last = int(part[1]), min(int(part[2] or len(body)), len(body) - 1)
        return self.answer(206, body[first:last + 1],
                           [*headers, ("Content-Range", f"bytes {first}-{last}/{len(body)}")])

    do_HEAD = do_GET

    def do_DELETE(self):
        with lock:
            objects.pop(self.name(), None)
        self.answer(204)

    def list(self, bucket, prefix):
        with lock:
            found = sorted((n[len(bucket):], len(v[0])) for n, v in objects.items() if n.startswith(bucket + prefix))
        keys = "".join(f"<Contents><Key>{escape(n)}</Key><Size>{size}</Size>"
                       "<LastModified>2020-01-01T00:00:00.000Z</LastModified></Contents>" for n, size in found)
        self.answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{keys}</ListBucketResult>".encode())

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Clients may go away in the middle."""


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
