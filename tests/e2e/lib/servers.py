"""Servers for tests: a real redis-server, and Swift with its S3 interface. Loopback only, stopped with the test."""
import contextlib
import os
import secrets
import signal
import socket

from core import ROOT, wait_until
from resp import Resp, RespError


def free_ports(count=1):
    """The first of `count` consecutive TCP ports that are free on the loopback right now. Below the range from which the
    kernel takes the ports of outgoing connections, so that a server which restarts finds its port free."""
    while True:
        port = secrets.choice(range(15000, 32000))
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for n in range(port, port + count):
                held.enter_context(socket.create_server(("127.0.0.1", n)))
            return port


class RedisServer:
    """A redis-server of this test, appendonly, on a free port and on a unix socket; started by the constructor.

    stop() ends it cleanly, kill() does not; start() brings it back with what its append-only file holds. pause() and
    resume() stop and continue the process, so that it accepts connections but does not answer."""

    def __init__(self, t, password=None, name="redis", **config):
        self.t, self.name, self.password = t, name, password
        self.dir = t.folder(name)
        self.socket = os.path.join(self.dir, "redis.sock")
        self.port = free_ports()
        self.process = None
        options = {"bind": "127.0.0.1", "port": self.port, "unixsocket": self.socket, "dir": self.dir, "save": '""',
                   "appendonly": "yes", "appendfsync": "everysec", "daemonize": "no"}
        options.update({k.replace("_", "-"): v for k, v in config.items()})
        if password:
            options["requirepass"] = password
        self.config = os.path.join(self.dir, "redis.conf")
        with open(self.config, "w", encoding="utf-8") as f:
            f.writelines(f"{key} {value}\n" for key, value in options.items())
        self.start()

    def url(self, db=0, query="", port=None, password=True):
        secret = f":{self.password}@" if self.password and password else ""
        return f"redis://{secret}127.0.0.1:{port or self.port}/{db}" + (f"?{query}" if query else "")

    def unix_url(self, db=0, query=""):
        return f"unix://{self.socket}?db={db}" + (f"&{query}" if query else "")

    def client(self, db=0):
        return Resp(self.url(db))

    def start(self):
        assert self.process is None, "Redis runs already"
        self.process = self.t.spawn("redis-server", self.config, name=self.name)

        def answers():
            assert self.process.poll() is None, "redis-server has ended, see its log"
            try:
                with self.client() as c:
                    return c("PING") == b"PONG"
            except RespError:  # loading its file
                return False
        wait_until(answers, what="an answer of redis-server")

    def stop(self):
        self.end(signal.SIGTERM)

    def kill(self):
        self.end(signal.SIGKILL)

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(30)
        self.process = None

    def restart(self):
        self.stop()
        self.start()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)


class Swift:
    """OpenStack Swift with s3api, which verifies signatures; swift.sh does the work. Uses five ports from .port on."""

    SCRIPT = os.path.join(ROOT, "tests/e2e/lib/swift.sh")

    def __init__(self, t, name="swift"):
        self.t, self.dir = t, t.folder(name)
        self.access, self.secret = "test" + secrets.token_hex(4), secrets.token_hex(16)
        self.port = free_ports(5)
        self.running = False
        t.defer(self.stop)
        self.start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def bucket_url(self, bucket):
        return f"{self.endpoint}/{bucket}"

    def start(self):
        self.t.run("sh", self.SCRIPT, "start", self.dir, self.port, self.access, self.secret, timeout=600)
        self.running = True

    def stop(self):
        if self.running:
            self.running = False
            self.t.run("sh", self.SCRIPT, "stop", self.dir)
