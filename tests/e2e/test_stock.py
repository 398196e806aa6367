#!/usr/bin/env python3
"""The checks and scenarios themselves, tried on the stock client: what passes there may be demanded of ours.

Every test needs JUICEFS=/path/to/juicefs."""
import functools
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import scenario  # noqa: E402
import tree  # noqa: E402
from harness import *  # noqa: E402,F403

NEEDS = ("root", "fuse", "juicefs")


def stock_reads(t, name):
    volume = Volume(t, RedisServer(t)).load_fixture(name)
    stock = StockMount(t, volume.url())
    tree.assert_same(tree.read(scenario.script(name, "tree.json")), tree.scan(stock.dir), name)
    stock.umount()
    volume.check()


def stock_writes(t, name):
    """The recorded operations again, by the same client: nothing but numbers and times may differ."""
    wanted = fixture_scenario(name)
    volume = Volume(t, RedisServer(t), name="fx-" + name)
    volume.format(*wanted.get("format", []), bucket=scenario.bucket_folder(name, volume), tool=os.environ["JUICEFS"])
    stock = StockMount(t, volume.url(), read_only=False)
    scenario.run_operations(t, name, stock.dir, volume)
    volume.settle()
    stock.umount()
    scenario.assert_same_keyspace(name, volume.check(), exact=True)


@test(needs=NEEDS)
def stock_tools_find_nothing_in_a_stock_volume(t):
    redis = RedisServer(t)
    volume = Volume(t, redis).load_fixture("small")
    stock = Stock(t, volume.url())
    stock.find_nothing(JFS_GC_SKIPPEDTIME="0")
    stock.dump_and_load(volume, redis.url(db=1))


@test(needs=NEEDS)
def stock_tools_report_what_is_wrong(t):
    redis = RedisServer(t)
    volume = Volume(t, redis).load_fixture("layout-none")
    stock = Stock(t, volume.url())
    ks = volume.keyspace()
    top = os.path.join(volume.bucket, volume.name, "chunks/0/0")
    first = sorted(os.listdir(top))[0]
    with open(os.path.join(top, "999_0_1"), "w") as f:
        f.write("x")
    expect_finding(stock, "leaked")
    os.rename(os.path.join(top, first), t.path("kept"))
    os.unlink(os.path.join(top, "999_0_1"))
    expect_finding(stock, "fsck")
    os.rename(t.path("kept"), os.path.join(top, first))
    with redis.client() as c:
        c("HINCRBY", "dirUsedSpace", 1, 4096)
    expect_finding(stock, "fsck")
    assert ks.inodes == volume.keyspace().inodes


def expect_finding(stock, word):
    try:
        stock.find_nothing(JFS_GC_SKIPPEDTIME="0")
    except CommandError as e:
        assert word in str(e), str(e)
    else:
        raise AssertionError(f"nothing was found, expected: {word}")


READ = [n for n in scenario.names() if os.path.exists(scenario.script(n, "tree.json")) and n != "refuse-encrypted"]
WRITE = ["names", "small", "large", "truncate", "rename", "trash", "dirstats", "layout-shards", "compacted", "clone"]
for _name in ("names", "trash", "sustained", "many", "packed-used", "layout-shards"):
    assert _name in READ
    add(f"stock_reads_{_name}", functools.partial(stock_reads, name=_name), needs=NEEDS)
for _name in WRITE:
    add(f"stock_writes_{_name}", functools.partial(stock_writes, name=_name), timeout=120, needs=NEEDS)

if __name__ == "__main__":
    sys.exit(main())
