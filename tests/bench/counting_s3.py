"""An object store in memory that speaks as much of S3's protocol as JuiceFS volumes need, and counts what it is asked for. It checks no
signatures and answers at once: what is measured against it is the number of requests and the way there, not a server's own time."""
import collections
import email.utils
import hashlib
import socketserver
import threading
import time
import urllib.parse
import xml.sax.saxutils

REASONS = {200: "OK", 204: "No Content", 206: "Partial Content", 404: "Not Found", 501: "Not Implemented"}


class Object:
    def __init__(self, data, meta):
        self.data, self.meta = data, meta
        self.headers = {"Last-Modified": email.utils.formatdate(usegmt=True), "ETag": f'"{hashlib.md5(data).hexdigest()}"', **meta}


class CountingS3:
    """A server on a free port of the loopback; ended with the test. `access` and `secret` are what clients are to be given."""
    access = secret = "anything"

    def __init__(self, t):
        self.lock = threading.Lock()
        self.objects, self.counts = {}, collections.Counter()  # under lock; of blocks alone: {METHOD: requests}, of all else "other"
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection, bind_and_activate=False)
        self.server.daemon_threads, self.server.block_on_close, self.server.request_queue_size = True, False, 128
        self.server.store = self
        self.server.server_bind()
        self.server.server_activate()
        self.port = self.server.server_address[1]
        thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        thread.start()
        t.defer(self.server.server_close)
        t.defer(thread.join)
        t.defer(self.server.shutdown)

    def bucket_url(self, bucket):
        return f"http://127.0.0.1:{self.port}/{bucket}"

    def snapshot(self):
        with self.lock:
            return self.counts.copy()

    def since(self, before):
        return self.snapshot() - before

    def blocks(self, bucket):
        with self.lock:
            return sum(key.startswith(f"/{bucket}/") and "/chunks/" in key for key in self.objects)

    def answer(self, method, target, headers, body):
        """(status, headers, body)"""
        path, _, query = target.partition("?")
        path = urllib.parse.unquote(path)
        of_bucket = path.count("/") == 1 or path.endswith("/")
        with self.lock:
            self.counts[method if "/chunks/" in path else "other"] += 1
            if of_bucket:
                return self.of_bucket(method, path.strip("/"), urllib.parse.parse_qs(query))
            if method == "PUT" and "x-amz-copy-source" not in headers:
                self.objects[path] = new = Object(body, {k: v for k, v in headers.items() if k.startswith("x-amz-meta-")})
                return 200, {"ETag": new.headers["ETag"]}, b""
            if method == "DELETE":
                self.objects.pop(path, None)
                return 204, {}, b""
            found = self.objects.get(path)
        if method not in ("GET", "HEAD"):
            return 501, {}, b""
        if found is None:
            return 404, {}, b"<Error><Code>NoSuchKey</Code><Message>no such object</Message></Error>"
        if "range" not in headers:
            return 200, found.headers, found.data
        first, _, last = headers["range"].removeprefix("bytes=").partition("-")
        part = found.data[int(first):int(last) + 1 if last else None]
        return 206, {**found.headers, "Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(found.data)}"}, part

    def of_bucket(self, method, bucket, query):
        if method in ("PUT", "HEAD"):
            return 200, {}, b""
        if method != "GET":
            return 501, {}, b""
        if "location" in query:
            return 200, {}, b"<LocationConstraint>us-east-1</LocationConstraint>"
        top, prefix = f"/{bucket}/", query.get("prefix", [""])[0]
        entries = "".join(f"<Contents><Key>{xml.sax.saxutils.escape(path[len(top):])}</Key><Size>{len(found.data)}</Size>"
                          f"<LastModified>{time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime())}</LastModified></Contents>"
                          for path, found in sorted(self.objects.items()) if path.startswith(top + prefix))
        return 200, {}, f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()


class Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self):
        try:
            while self.one():
                pass
        except ConnectionError:
            pass

    def one(self):
        line = self.rfile.readline()
        if not line:
            return False
        method, target, _ = line.decode("latin-1").split()
        headers = {}
        while (line := self.rfile.readline().decode("latin-1").strip()):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("expect") == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        encoded = "transfer-encoding" in headers or "aws-chunked" in headers.get("content-encoding", "")
        body = b"" if encoded else self.rfile.read(int(headers.get("content-length", 0)))
        status, more, out = (501, {}, b"") if encoded else self.server.store.answer(method, target, headers, body)
        more = {"Date": email.utils.formatdate(usegmt=True), "Content-Length": len(out), **more}
        text = f"HTTP/1.1 {status} {REASONS[status]}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in more.items()) + "\r\n"
        self.wfile.write(text.encode("latin-1") + (b"" if method == "HEAD" or status == 204 else out))
        return not encoded
