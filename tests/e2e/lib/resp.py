"""A small Redis client: one connection, RESP2, plain commands and pipelines. Standard library only.

    r = Resp("redis://:secret@127.0.0.1:6379/3")      or "unix:///path/to/socket?db=3"
    r("SET", "a", 1)                                  -> b"OK"; an error reply raises RespError
    r.pipeline([("GET", "a"), ("GET", "b")])          -> [b"1", None]

Replies: simple strings and bulk strings are bytes, integers int, nil None, arrays lists. Errors inside an array are
returned as RespError objects.
"""
import socket
import urllib.parse


class RespError(Exception):
    """The server answered with an error."""


class Resp:
    def __init__(self, url, timeout=30):
        parts = urllib.parse.urlsplit(url if "://" in url else "redis://" + url)
        if parts.scheme == "unix":
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            self.sock.connect(parts.path)
            db = urllib.parse.parse_qs(parts.query).get("db", ["0"])[0]
        else:
            self.sock = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            db = parts.path.strip("/") or "0"
        self.input = self.sock.makefile("rb")
        if parts.password:
            self("AUTH", urllib.parse.unquote(parts.password))
        if db != "0":
            self("SELECT", db)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.input.close()
        self.sock.close()

    def __call__(self, *words):
        return self.pipeline([words])[0]

    def pipeline(self, commands, batch=1000):
        """Sends the commands without waiting in between; returns all replies, raises the first error afterwards."""
        commands, replies = list(commands), []
        for start in range(0, len(commands), batch):
            part = commands[start:start + batch]
            self.sock.sendall(b"".join(map(encode, part)))
            replies.extend(self.read_reply() for _ in part)
        for reply in replies:
            if isinstance(reply, RespError):
                raise reply
        return replies

    def read_reply(self):
        head = self.input.readline()
        if not head.endswith(b"\r\n"):
            raise ConnectionError("Redis closed the connection")
        kind, text = head[:1], head[1:-2]
        if kind == b"+":
            return text
        if kind == b"-":
            return RespError(text.decode("utf-8", "replace"))
        if kind == b":":
            return int(text)
        count = int(text)
        if count < 0:
            return None
        if kind == b"*":
            return [self.read_reply() for _ in range(count)]
        body = self.input.read(count + 2)
        if len(body) != count + 2:
            raise ConnectionError("Redis closed the connection inside a reply")
        return body[:-2]


def encode(words):
    out = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else str(word).encode()
        out.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
    return b"".join(out)
