"""Network faults for tests: the relays of fault-injection/ as context managers.

    with DelayProxy(redis_port, one_way_us=500) as d: ... d.port
    with TcpFault(redis_port) as t: ... t.port; t("drop-down"); t("pass"); t.stats()["cuts"]

The programs are taken from $JFS_BUILD (default: build/ of this tree)."""
import os
import signal
import socket
import subprocess
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def tool(path):
    """Path of a built program, e.g. tool("fault-injection/delayproxy")."""
    full = os.path.join(os.environ.get("JFS_BUILD") or os.path.join(ROOT, "build"), path)
    if not os.access(full, os.X_OK):
        raise FileNotFoundError(f"{full} is missing: run `make tools` (JFS_BUILD names another folder)")
    return full


class _Relay:
    def __init__(self, argv):
        self.proc = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        word = self.proc.stdout.readline().split()
        if len(word) != 2 or word[0] != "ready":
            self.proc.wait()
            raise RuntimeError(f"{argv[0]} did not start")
        self.port = int(word[1])

    def stop(self):
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            self.proc.wait(10)
        self.proc.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


class DelayProxy(_Relay):
    """Adds one_way_us microseconds to each direction of every connection to 127.0.0.1:dest."""

    def __init__(self, dest, one_way_us, port=0):
        super().__init__([tool("fault-injection/delayproxy"), str(port), str(dest), str(one_way_us)])


class TcpFault(_Relay):
    """A relay to 127.0.0.1:dest; call it with a command of tcpfault.c, which is in force when the call returns."""

    def __init__(self, dest, port=0):
        self.dir = tempfile.TemporaryDirectory(prefix="tcpfault.")
        path = os.path.join(self.dir.name, "control")
        super().__init__([tool("fault-injection/tcpfault"), str(port), str(dest), path])
        self.ctl = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.ctl.connect(path)
        self.answers = self.ctl.makefile("r")

    def __call__(self, command):
        self.ctl.sendall((command + "\n").encode())
        answer = self.answers.readline()
        if not answer.startswith("ok "):
            raise ValueError(answer.strip() or "tcpfault has gone")
        return answer[3:].strip()

    def stats(self):
        return {k: int(v) if v.isdigit() else v for k, v in (w.split("=") for w in self("stats").split())}

    def stop(self):
        self.answers.close()
        self.ctl.close()
        super().stop()
        self.dir.cleanup()
