"""What a test file needs, in one import:

    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
    from harness import *

    @test(timeout=60, needs=("root", "fuse", "jfs"))
    def a_file_survives(t):
        volume = Volume(t, RedisServer(t)).format()
        m = Mount(t, volume, "--writeback")
        ...

    if __name__ == "__main__":
        sys.exit(main())

core.py has the runner, servers.py Redis and Swift, faults.py the network faults (use t.enter(TcpFault(port))),
volume.py volumes and mounts, tree.py, keyspace.py, keycheck.py and keycompare.py what is compared.
"""
import os  # noqa: F401
import sys  # noqa: F401

from core import BUILD, ROOT, CommandError, Skip, Test, Timeout, add, main, test, wait_until  # noqa: F401
from faults import DelayProxy, TcpFault  # noqa: F401
from resp import Resp, RespError  # noqa: F401
from servers import RedisServer, Swift, free_ports  # noqa: F401
from scenario import FIXTURES, fixture_scenario  # noqa: F401
from volume import JFS, JFS_RECOVER, Mount, Stock, StockMount, Volume, parse_stats  # noqa: F401

__all__ = [n for n in dir() if not n.startswith("_")]
