#!/usr/bin/env python3
"""Packing (--pack-below): many small files share an object. What Redis and the object store then hold is what stock makes by
copying ranges, so all of stock's tools go on as ever; each count of references is exact at every moment."""
import errno
import functools
import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tree  # noqa: E402
from harness import *  # noqa: E402,F403

NEEDS = ("root", "fuse", "jfs")
STOCK = NEEDS + ("juicefs",)
PAGE = 4096
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


def inode_of(ks, path):
    ino = 1
    for name in path.split("/"):
        ino = ks.entries[ino][name.encode()][1]
    return ino


def slices_of(volume):
    """{(id, size): records}"""
    out = {}
    for records in volume.keyspace().chunks.values():
        for r in records:
            if r.id:
                out[(r.id, r.size)] = out.get((r.id, r.size), 0) + 1
    return out


def write_in_pieces(path, data, pieces):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for i in range(pieces):
        os.write(fd, data[len(data) * i // pieces:len(data) * (i + 1) // pieces])
    os.close(fd)


def uploaded_by(m, work):
    """(requests, bytes) that storing what `work` does takes."""
    before = m.stats()
    work()
    m.flush()
    after = m.stats()
    return [after[k] - before[k] for k in ("object_request_durations_histogram_seconds_PUT_total", "object_request_data_bytes_PUT")]


def change_a_page(t, m, want):
    at, new = t.rng.randrange(len(want) // PAGE) * PAGE, t.rng.randbytes(PAGE)
    want[at:at + PAGE] = new
    with open(m.path("large"), "r+b") as f:
        f.seek(at)
        f.write(new)


@test(timeout=120, needs=NEEDS)
def small_writes_into_a_large_file_do_not_store_it_anew(t):
    """A page here and there in a chunk of 64 MiB is stored as it is until many have come: then they are put together, once."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, *PACK)
    want = bytearray(t.rng.randbytes(64 << 20))
    write(m.path("large"), want)
    m.flush()
    composed = written = 0
    for _ in range(130):
        _, size = uploaded_by(m, lambda: change_a_page(t, m, want))
        written += size
        composed += size > 32 * PAGE
        lists = volume.keyspace().chunks.values()
        assert max(map(len, lists)) <= 101, [len(l) for l in lists]
    assert 1 <= composed <= 2 and written < 140 << 20, (composed, written)
    m.umount(flush=True)
    volume.check()
    fresh = Mount(t, volume, "--writeback", name="fresh")
    assert read(fresh.path("large")) == want


@test(timeout=240, needs=STOCK)
def stock_reads_and_compacts_what_small_writes_left(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, *PACK)
    want = bytearray(t.rng.randbytes(64 << 20))
    write(m.path("large"), want)
    for _ in range(60):
        m.flush()
        change_a_page(t, m, want)
    m.flush()
    chunk = (inode_of(volume.keyspace(), "large"), 0)
    assert len(volume.keyspace().chunks[chunk]) > 50
    reader = StockMount(t, volume.url())
    assert read(reader.path("large")) == want
    reader.umount()
    Stock(t, volume.url()).find_nothing(JFS_GC_SKIPPEDTIME="0")
    stock = StockMount(t, volume.url(), read_only=False, name="writer")
    assert read(stock.path("large")) == want
    wait_until(lambda: len(volume.keyspace().chunks[chunk]) < 50, 60, "a list that stock has compacted")
    for _ in range(3):
        change_a_page(t, m, want)
        m.flush()
    stock.umount()
    m.umount(flush=True)
    volume.check()
    fresh = Mount(t, volume, "--writeback", name="fresh")
    assert read(fresh.path("large")) == want


@test(timeout=120, needs=NEEDS)
def what_is_written_in_many_pieces_is_uploaded_as_if_in_one(t):
    """Files share objects however many writes made them; copies of staged bytes and what is appended later cost no more."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, *PACK)
    uploaded = functools.partial(uploaded_by, m)
    puts, _ = uploaded(lambda: [write_in_pieces(m.path(f"small{i}"), t.rng.randbytes(16 << 10), 12) for i in range(50)])
    assert puts <= 4, puts  # a flush may find two windows begun
    data, more = t.rng.randbytes(2 << 20), t.rng.randbytes(60 << 10)

    def written_and_copied():
        write_in_pieces(m.path("large"), data, 9)
        with open(m.path("large"), "rb") as f:
            for i in range(5):
                with open(m.path(f"copy{i}"), "wb") as g:
                    assert os.copy_file_range(f.fileno(), g.fileno(), len(data), 0, 0) == len(data)
    _, size = uploaded(written_and_copied)
    assert size < len(data) * 3 // 2, size
    _, size = uploaded(lambda: write_in_pieces(m.path("large"), more, 9))
    assert size < 2 * len(more), size
    m.umount(flush=True)
    volume.check()
    fresh = Mount(t, volume, "--writeback", name="fresh")
    assert read(fresh.path("large")) == data + more
    assert all(read(fresh.path(f"copy{i}")) == data for i in range(5))


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


@test(timeout=60, needs=NEEDS)
def many_small_files_fill_one_object(t):
    """More than a script has as a rule: a window grows until its object is full."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, *PACK)
    os.mkdir(m.path("d"))
    for i in range(3000):
        write(m.path("d", f"f{i}"), b"%d" % i * 100)
    m.flush()
    volume.check()
    assert list(slices_of(volume).values()) == [3000] and len(objects_of(volume)) == 1, slices_of(volume)
    m.umount(flush=True)


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


def hardly_live(volume):
    """The objects of which less than half is named."""
    live, sizes = {}, {}
    for records in volume.keyspace().chunks.values():
        for r in records:
            live[r.id], sizes[r.id] = live.get(r.id, 0) + r.len, r.size
    return {o for o in objects_of(volume) if 0 < 2 * live.get(number := int(os.path.basename(o).split("_")[0]), 0) < sizes[number]}


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
    before = hardly_live(volume)  # windows end when it is time: some have few files, most of which were kept
    assert len(before) > 2, before
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


@test(timeout=120, needs=NEEDS)
def history_44_a_short_or_changed_pack(t):
    """What lies in an object that was cut is EIO, never other bytes; where blocks are compressed, so is what was changed. All other
    files are read as ever, and jfs-recover names each of those that are lost."""
    redis = RedisServer(t)
    for db, (compression, changed) in enumerate((("none", False), ("lz4", False), ("zstd", True))):
        volume = Volume(t, redis, name=compression, db=db).format("--trash-days", "0", "--block-size", "64", "--compress", compression)
        m = Mount(t, volume, *PACK, name=compression)
        want = small_files(m, 4, 100)
        m.umount(flush=True)
        ks = volume.keyspace()
        number = t.rng.choice(sorted(n for (n, _), files in slices_of(volume).items() if files > 10))
        path, = (path for path in objects_of(volume) if os.path.basename(path).startswith(f"{number}_"))
        lost = {p for p in want for r in ks.chunks[inode_of(ks, p), 0] if r.id == number}
        assert len(lost) > 10
        if changed:
            data = bytearray(read(path))
            data[len(data) // 2:len(data) // 2 + 64] = bytes(64)
            write(path, data)
        else:
            os.truncate(path, os.path.getsize(path) // 2)
        if compression == "none":  # the size of a compressed block stands nowhere
            report = json.loads(t.run(JFS_RECOVER, "check", "--json", "--cache-dir", m.cache, volume.url(), status=4))
            assert report["objects"]["wrong_size"] == 1, report["objects"]
            assert {b["path"] for b in report["broken"]} == {"/" + p for p in lost}, report["broken"]
        fresh = Mount(t, volume, name=compression + "-fresh")
        wrong = set()
        for p, data in want.items():
            try:
                assert read(fresh.path(p)) == data, p
            except OSError as e:
                assert e.errno == errno.EIO, e
                wrong.add(p)
        assert wrong <= lost and (compression == "none" or wrong == lost), (len(wrong), len(lost))
        assert wrong
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


@test(timeout=120, needs=NEEDS)
def packs_are_emptied_that_the_trash_still_names(t):
    """Most files of a pack are deleted, and most of those removed from the trash: what is left of both moves, and can be had back."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "1", "--block-size", "64")
    m = Mount(t, volume, *PACK, "--retention", "1ms")
    want = small_files(m, 4, 100)
    m.flush()
    before = objects_of(volume)
    assert len(before) > 2
    deleted = {p: want.pop(p) for n, p in enumerate(sorted(want)) if n % 5}
    for path in deleted:
        os.unlink(m.path(path))
    m.flush()
    volume.check()
    assert before == objects_of(volume), "what lies in the trash is kept"

    def trash():
        return {name.partition("-")[2].partition("-")[0]: m.path(".trash", hour, name) for hour in os.listdir(m.path(".trash"))
                for name in os.listdir(m.path(".trash", hour))}
    paths = trash()
    assert len(paths) == len(deleted)
    inodes = {os.stat(path).st_ino: path for path in paths.values()}
    contents = {ino: read(path) for ino, path in inodes.items()}
    assert sorted(contents.values()) == sorted(deleted.values())
    for n, ino in enumerate(sorted(inodes)):
        if n % 5:
            os.unlink(inodes[ino])
            del contents[ino]
    emptied(volume, m, before)
    all_the_same(m, want)
    m.umount(flush=True)
    volume.check()
    fresh = Mount(t, volume, name="fresh")
    all_the_same(fresh, want)
    kept = {os.stat(path).st_ino: path for hour in os.listdir(fresh.path(".trash"))
            for path in [fresh.path(".trash", hour, name) for name in os.listdir(fresh.path(".trash", hour))]}
    assert {ino: read(path) for ino, path in kept.items()} == contents
    for ino, path in kept.items():
        t.run("mv", path, fresh.path(f"back-{ino}"))
        want[f"back-{ino}"] = contents[ino]
    fresh.umount(flush=True)
    volume.check()
    again = Mount(t, volume, name="again")
    all_the_same(again, want)
    again.umount()


@test(timeout=120, needs=STOCK)
def packs_are_emptied_while_stock_changes_their_files(t):
    """It is decided what is to be emptied; then, and before that is carried out, stock removes, copies, overwrites and compacts."""
    volume, cache, want = sparse_volume(t)
    before = objects_of(volume)
    m = Mount(t, volume, *PACK, "--retention", "1ms", cache=cache)
    told(volume)
    last = max(volume.keyspace().inodes)
    stock = StockMount(t, volume.url(), read_only=False)
    left = sorted(want)
    t.rng.shuffle(left)
    removed, written, cloned = left[:10], left[10:20], left[20:30]
    for path in removed:
        os.unlink(stock.path(path))
        del want[path]
    for path in cloned:
        t.run(os.environ["JUICEFS"], "clone", stock.path(path), stock.path(path + "-copy"))
        want[path + "-copy"] = want[path]
    for path in written:
        for i in range(6):  # enough records for stock to compact the list
            with open(stock.path(path), "r+b") as f:
                f.seek(i)
                f.write(b"S")
        want[path] = b"S" * 6 + want[path][6:]
    for path in want:
        read(stock.path(path))
    stock.umount()
    t.run(os.environ["JUICEFS"], "gc", "--compact", volume.url())
    m.flush()
    volume.check()
    cloned = {record.id for (ino, _), records in volume.keyspace().chunks.items() if ino > last for record in records}
    named = {f"/{record.id}_" for records in volume.keyspace().chunks.values() for record in records if record.id not in cloned}
    assert not [path for path in before if any(n in path for n in named)], "only copies that nobody knew of keep a pack"
    m.umount(flush=True)
    volume.check()
    fresh = Mount(t, volume, name="fresh")
    all_the_same(fresh, want)
    fresh.umount()
    Stock(t, volume.url()).find_nothing(JFS_GC_SKIPPEDTIME="0")


BLOCKS_KIB = (64, 1024, 4096, 16384)
COMPRESSIONS = ("none", "lz4", "zstd")


def files_of_all_sizes(t, m, block):
    """{path: bytes} and how many bytes of small files were written. They are empty, of a byte, of about a block and of about what is
    packed at most, and many of chance; half of these are written anew or removed when they have been stored."""
    most = 128 << 10
    sizes = [0, 1, block - 1, block, block + 1, most - 1, most, most + 1] + [t.rng.randint(0, 20000) for _ in range(150)]
    want = {f"f{i}": t.rng.randbytes(n // 2) + b"z" * (n - n // 2) for i, n in enumerate(sizes)}
    for path, data in want.items():
        write(m.path(path), data)
    m.flush()
    small = sorted(want, key=lambda name: int(name[1:]))[8:]
    written = sum(sizes[8:])
    for path in t.rng.sample(small, len(small) // 2):
        if t.rng.random() < 0.5:
            os.unlink(m.path(path))
            del want[path]
        else:
            want[path] = t.rng.randbytes(t.rng.randint(0, 3000))
            written += len(want[path])
            write(m.path(path), want[path])
    return want, written


def stored(t, redis, block_kib, n):
    """A drained volume of packs in such blocks, with the n-th compression, and what is in it."""
    volume = Volume(t, redis, name=COMPRESSIONS[n], db=n)
    volume.format("--trash-days", "0", "--block-size", str(block_kib), "--compress", COMPRESSIONS[n])
    m = Mount(t, volume, *PACK, name=f"{COMPRESSIONS[n]}")
    want, written = files_of_all_sizes(t, m, block_kib << 10)
    m.umount(flush=True)
    volume.check()
    alone = sum(min(128, block_kib) << 10 <= len(data) for data in want.values())
    packs = written // ((block_kib << 10) - 20000) + 4  # none has room left for a file of chance, but the last of a window
    assert len(slices_of(volume)) <= alone + packs, (len(slices_of(volume)), alone, packs)
    return volume, want


def packs_in_blocks(t, block_kib):
    redis = RedisServer(t)
    for n, compression in enumerate(COMPRESSIONS):
        volume, want = stored(t, redis, block_kib, n)
        fresh = Mount(t, volume, name=compression + "-fresh")
        paths = sorted(want)
        t.rng.shuffle(paths)
        wrong = [p for p in paths if read(fresh.path(p)) != want[p]]
        assert not wrong, (compression, wrong)
        fresh.umount()


def stock_reads_packs_in_blocks(t, block_kib):
    redis = RedisServer(t)
    for n, compression in enumerate(COMPRESSIONS):
        volume, want = stored(t, redis, block_kib, n)
        stock = Stock(t, volume.url())
        stock.run("gc", "--delete", env={"JFS_GC_SKIPPEDTIME": "0"})  # what the retention would have kept
        stock.find_nothing(JFS_GC_SKIPPEDTIME="0")
        seen = StockMount(t, volume.url(), name=compression + "-stock")
        wrong = [p for p in want if read(seen.path(p)) != want[p]]
        assert not wrong, (compression, wrong)
        seen.umount()
        fresh = Mount(t, volume, name=compression + "-fresh")
        all_the_same(fresh, want)
        fresh.umount()
        volume.check()


for _kib in BLOCKS_KIB:
    add(f"packs_in_blocks_of_{_kib}k", functools.partial(packs_in_blocks, block_kib=_kib), timeout=120, needs=NEEDS)
    add(f"stock_reads_packs_in_blocks_of_{_kib}k", functools.partial(stock_reads_packs_in_blocks, block_kib=_kib), timeout=120,
        needs=STOCK)


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
