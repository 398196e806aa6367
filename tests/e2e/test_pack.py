#!/usr/bin/env python3
"""Packing (--pack-below): many small files share an object. What Redis and the object store then hold is what stock makes by
copying ranges, so all of stock's tools go on as ever; each count of references is exact at every moment."""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tree  # noqa: E402
from harness import *  # noqa: E402,F403

NEEDS = ("root", "fuse", "jfs")
STOCK = NEEDS + ("juicefs",)
PACK = ("--writeback", "--pack-below", "128K", "--upload-delay", "1h")


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def objects_of(volume):
    return {os.path.join(top, n) for top, _, names in os.walk(volume.bucket) for n in names if "chunks" in top}


def small_files(m, folders, each):
    """{path below the mount: bytes}"""
    want = {}
    for d in range(folders):
        os.mkdir(m.path(f"d{d}"))
        for i in range(each):
            want[f"d{d}/f{i}"] = b"%d/%d " % (d, i) * (1 + (d * each + i) % 200)
    for path, data in want.items():
        write(m.path(path), data)
    return want


def slices_of(volume):
    """{(id, size): records}"""
    out = {}
    for records in volume.keyspace().chunks.values():
        for r in records:
            if r.id:
                out[(r.id, r.size)] = out.get((r.id, r.size), 0) + 1
    return out


@test(timeout=120, needs=NEEDS)
def small_files_share_a_few_objects(t):
    """2,000 files, a handful of objects; a host without a cache fetches each of them about once, whatever order it reads in."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0", "--block-size", "1024")
    m = Mount(t, volume, *PACK)
    want = small_files(m, 20, 100)
    total = sum(map(len, want.values()))
    m.flush()
    volume.check()
    most = total // (1 << 20) + 4  # a flush may find two windows begun, and the last pack of each is not full
    assert len(objects_of(volume)) <= most, (len(objects_of(volume)), most)
    assert max(slices_of(volume).values()) > 100
    m.umount(flush=True)
    fresh = Mount(t, volume, name="fresh")
    paths = list(want)
    t.rng.shuffle(paths)
    assert all(read(fresh.path(p)) == want[p] for p in paths)
    fetched = fresh.stats()["object_request_data_bytes_GET"]
    assert fetched <= 2 * total, f"{fetched} bytes were fetched for {total}"
    fresh.umount()


@test(timeout=120, needs=NEEDS)
def an_object_lives_as_long_as_one_of_its_files(t):
    """Removed one by one, in an order of chance: the count falls with each, and the object goes with the last."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, *PACK)
    want = small_files(m, 1, 8)
    m.flush()
    assert list(slices_of(volume).values()) == [8] and len(objects_of(volume)) == 1, (slices_of(volume), objects_of(volume))
    left = sorted(want)
    t.rng.shuffle(left)
    while left:
        os.unlink(m.path(left.pop()))
        m.flush()
        volume.check()
        assert list(slices_of(volume).values()) == ([len(left)] if left else [])
        assert not left or len(objects_of(volume)) == 1
        assert all(read(m.path(p)) == want[p] for p in left)
    m.umount(flush=True)
    m = Mount(t, volume, "--writeback", "--retention", "1ms", cache=m.cache, name="later")
    write(m.path("big"), b"b" * 200000)  # moves the position on, past the retention
    m.flush()
    wait_until(lambda: len(objects_of(volume)) == 1, 60, "the end of the object")
    m.umount(flush=True)


@test(timeout=60, needs=NEEDS)
def a_flush_makes_one_window_of_what_is_durable_and_what_is_not_yet(t):
    """Otherwise there would be a pack of what happened to be durable when it began, and another one of the rest."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, *PACK, "--sync-interval", "60s")
    for i in range(8):
        with open(m.path(f"f{i}"), "w") as f:
            f.write(f"{i}")
            if i == 3:
                os.fsync(f.fileno())
    m.flush()
    assert list(slices_of(volume).values()) == [8] and len(objects_of(volume)) == 1, (slices_of(volume), objects_of(volume))
    m.umount(flush=True)


@test(timeout=180, needs=NEEDS)
def what_happens_to_a_packed_file_leaves_the_others_alone(t):
    """Overwritten, appended to, cut, punched, copied by reference, linked, renamed over, removed while open: at random, with a
    flush now and then, after each of which Redis and the store hold exactly that."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0", "--block-size", "64")
    m = Mount(t, volume, *PACK)
    want = small_files(m, 2, 30)
    rng = random.Random(t.seed)
    for step in range(300):
        a, b = rng.sample(sorted(want), 2)
        verb = rng.choice(("write", "append", "cut", "copy", "over", "remove", "new"))
        if verb in ("write", "new"):
            path = a if verb == "write" else f"d0/n{step}"
            want[path] = rng.randbytes(rng.randint(0, 40000))
            write(m.path(path), want[path])
        elif verb == "append":
            with open(m.path(a), "ab") as f:
                f.write(b"more")
            want[a] += b"more"
        elif verb == "cut":
            n = rng.randint(0, len(want[a]))
            os.truncate(m.path(a), n)
            want[a] = want[a][:n]
        elif verb == "copy":
            with open(m.path(a), "rb") as src, open(m.path(b), "wb") as dst:
                left = len(want[a])
                while left:
                    left -= os.copy_file_range(src.fileno(), dst.fileno(), left)
            want[b] = want[a]
        elif len(want) <= 10:  # enough must be left to choose from
            continue
        elif verb == "over":
            os.rename(m.path(a), m.path(b))
            want[b] = want.pop(a)
        else:
            os.unlink(m.path(a))
            del want[a]
        if rng.random() < 0.05:
            m.flush()
            volume.check()
    m.umount(flush=True)
    volume.check()
    fresh = Mount(t, volume, name="fresh")
    wrong = [p for p in want if read(fresh.path(p)) != want[p]]
    assert not wrong, wrong
    fresh.umount()



def remove_most(m, want, kept=()):
    """Removes four of five files, but none of kept."""
    for n, path in enumerate(sorted(want)):
        if n % 5 and path not in kept:
            os.unlink(m.path(path))
            del want[path]


def emptied(volume, m, before):
    """Waits until the objects of before are gone, flushing what that takes."""
    def gone():
        m.flush()
        return not before & objects_of(volume)
    wait_until(gone, 90, "the packs that are hardly live to be emptied")
    m.flush()
    volume.check()


def told(volume):
    """Waits until a round of repacking has put into the journal that all packs of sparse_volume are to be emptied. That is not due."""
    with volume.redis.client(volume.db) as c:
        wait_until(lambda: c("HLEN", "zjfs.packs") == 0, 60, "a round of repacking")


def all_the_same(m, want):
    wrong = [p for p in want if read(m.path(p)) != want[p]]
    assert not wrong, wrong


def sparse_volume(t, *options):
    """A volume whose packs are hardly live, its cache, and what is left: {path: bytes}."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0", "--block-size", "64")
    m = Mount(t, volume, *PACK, *options, name="first")
    want = small_files(m, 4, 100)
    m.flush()
    remove_most(m, want)
    m.umount(flush=True)
    return volume, m.cache, want


@test(timeout=150, needs=NEEDS)
def a_pack_less_than_half_live_is_emptied(t):
    """What is left of several packs comes together in one; copies by reference go on sharing; nothing is written twice."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0", "--block-size", "64")
    m = Mount(t, volume, *PACK, "--retention", "1ms")
    want = small_files(m, 4, 150)
    with open(m.path("d0/f9"), "rb") as src, open(m.path("copy"), "wb") as dst:
        os.copy_file_range(src.fileno(), dst.fileno(), len(want["d0/f9"]))
    m.flush()
    before = objects_of(volume)
    assert len(before) >= 5
    want["copy"] = want["d0/f9"]
    remove_most(m, want, ("copy", "d0/f9"))
    m.flush()
    emptied(volume, m, before)
    live = sum(map(len, want.values())) - len(want["copy"])
    assert slices_of(volume).keys() == {(next(iter(slices_of(volume)))[0], live)}, (slices_of(volume), live)
    all_the_same(m, want)
    m.umount(flush=True)
    fresh = Mount(t, volume, name="fresh")
    all_the_same(fresh, want)
    fresh.umount()


@test(timeout=150, needs=NEEDS)
def a_pack_is_emptied_while_names_come_first(t):
    volume, cache, want = sparse_volume(t, "--publish=eager")
    before = objects_of(volume)
    m = Mount(t, volume, *PACK, "--publish=eager", "--retention", "1ms", cache=cache)
    emptied(volume, m, before)
    all_the_same(m, want)
    m.umount(flush=True)


@test(timeout=240, needs=NEEDS)
def repacking_is_killed_at_any_step(t):
    """One step of chance, another one with each run: nothing is lost, nothing is left over, counts are exact."""
    step = t.rng.choice(("redis.repack.before_durable", "redis.repack.after_durable", "upload.before_put", "redis.replay.before_script",
                         "redis.replay.after_script", "redis.replay.before_applied"))
    print("killed at", step)
    volume, cache, want = sparse_volume(t)
    before = objects_of(volume)
    m = Mount(t, volume, *PACK, "--retention", "1ms", cache=cache, env={"JFS_FAULT": step + ":1:kill"} if "repack" in step else {})
    if "repack" not in step:
        told(volume)
        m.umount()
        m = Mount(t, volume, *PACK, cache=cache, name="killed", env={"JFS_FAULT": step + ":1:kill"})
        t.run(JFS, "flush", m.dir, status=None)
    m.wait_daemon(60)
    t.run("umount", "-l", m.dir)
    m.env, m.options = {}, [*PACK, "--retention", "1ms"]
    m.mount()
    emptied(volume, m, before)
    all_the_same(m, want)
    m.umount(flush=True)
    assert len(objects_of(volume)) == len(slices_of(volume))


@test(timeout=150, needs=NEEDS)
def p8_redis_forgets_that_packs_were_emptied(t):
    volume, cache, want = sparse_volume(t)
    old = slices_of(volume).keys()
    before = {path for path in objects_of(volume) if any(f"/{n}_" in path for n, _ in old)}
    m = Mount(t, volume, *PACK, "--retention", "1ms", cache=cache)
    told(volume)
    m.umount()
    m = Mount(t, volume, *PACK, cache=cache, name="later")
    with volume.redis.client() as c:
        for key in c("KEYS", "*"):
            c("COPY", key, key, "DB", "9")
        m.flush()
        assert not old & slices_of(volume).keys()
        c("SWAPDB", "0", "9")  # now it is as it was before
    assert before <= objects_of(volume)
    write(m.path("more"), b"more")
    want["more"] = b"more"
    m.flush()
    volume.check()
    assert not old & slices_of(volume).keys()
    all_the_same(m, want)
    m.umount(flush=True)


@test(timeout=150, needs=NEEDS)
def an_object_that_is_lost_stops_nothing(t):
    """What is left of a pack cannot be moved without its object: the files go on naming it, and everything else is replayed."""
    volume, _, want = sparse_volume(t)
    before, live = objects_of(volume), [f"/{n}_0_{size}" for n, size in slices_of(volume)]
    lost = t.rng.choice(sorted(path for path in before if path.endswith(tuple(live))))
    aside = os.path.join(t.folder("aside"), "object")
    os.rename(lost, aside)
    m = Mount(t, volume, *PACK, "--retention", "1ms", name="second")
    want["more"] = b"more"
    write(m.path("more"), want["more"])
    m.flush()
    told(volume)
    m.flush()
    wait_until(lambda: len(objects_of(volume)) == len(before), 60, "what was uploaded in vain to be deleted")
    m.umount(flush=True)
    os.rename(aside, lost)
    volume.check()
    fresh = Mount(t, volume, name="fresh")
    all_the_same(fresh, want)
    fresh.umount()


@test(timeout=240, needs=STOCK)
def packs_are_emptied_while_stock_reads_them(t):
    volume, cache, want = sparse_volume(t)
    stock = StockMount(t, volume.url())
    all_the_same(stock, want)
    before = objects_of(volume)
    m = Mount(t, volume, *PACK, "--retention", "1ms", cache=cache)
    emptied(volume, m, before)
    all_the_same(stock, want)
    stock.umount()
    m.umount(flush=True)
    Stock(t, volume.url()).find_nothing(JFS_GC_SKIPPEDTIME="0")


@test(timeout=240, needs=STOCK)
def conformance_25_26_stock_checks_collects_dumps_and_loads_packs(t):
    redis = RedisServer(t)
    volume = Volume(t, redis).format("--trash-days", "0", "--block-size", "64")
    m = Mount(t, volume, *PACK)
    small_files(m, 4, 50)
    want = tree.scan(m.dir)
    m.umount(flush=True)
    stock = Stock(t, volume.url())
    stock.find_nothing(JFS_GC_SKIPPEDTIME="0")
    loaded = redis.url(5)
    stock.dump_and_load(volume, loaded)
    for name, url in (("stock", volume.url()), ("loaded", loaded)):
        seen = StockMount(t, url, name=name)
        tree.assert_same(want, tree.scan(seen.dir), name)
        seen.umount()


@test(timeout=240, needs=STOCK)
def conformance_27_29_stock_changes_copies_and_deletes_packed_files(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0", "--block-size", "64")
    m = Mount(t, volume, *PACK)
    want = small_files(m, 2, 20)
    m.umount(flush=True)
    stock = StockMount(t, volume.url(), read_only=False)
    for i in range(8):  # enough records for stock to compact the list
        with open(stock.path("d0/f3"), "r+b") as f:
            f.seek(i)
            f.write(b"S")
    want["d0/f3"] = b"S" * 8 + want["d0/f3"][8:] if len(want["d0/f3"]) >= 8 else b"S" * 8
    t.run(os.environ["JUICEFS"], "clone", stock.path("d1"), stock.path("copy"))
    for path in [p for p in want if p.startswith("d1/")]:
        want["copy" + path[2:]] = want[path]
    for i in (1, 5, 7):
        os.unlink(stock.path(f"d0/f{i}"))
        del want[f"d0/f{i}"]
    stock.umount()
    t.run(os.environ["JUICEFS"], "gc", "--compact", "--delete", volume.url())
    volume.settle()
    again = Mount(t, volume, "--writeback", name="again")
    wrong = [p for p in want if read(again.path(p)) != want[p]]
    assert not wrong, wrong
    again.umount(flush=True)
    volume.check()


if __name__ == "__main__":
    sys.exit(main())
