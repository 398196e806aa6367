#!/usr/bin/env python3
"""jfs format, jfs status and the front command against a real redis-server: what they do, and every bad input: one line
that names the thing, the exit code, and nothing changed in Redis or in the bucket."""
import contextlib
import json
import os
import re
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import keyspace  # noqa: E402
from core import command_line  # noqa: E402
from harness import *  # noqa: E402,F403

NEEDS = ("jfs",)
GOLDEN = os.path.join(ROOT, "tests/golden/setting")


def snapshot(redis, db, *folders):
    """Everything that a refused command must leave as it was."""
    with redis.client(db) as c:
        keys = keyspace.dump_db(c)
    files = []
    for folder in folders:
        for where, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(where, name)
                with open(path, "rb") as f:
                    files.append((path, os.stat(path).st_mtime_ns, f.read()))
    return keys, sorted(files)


def setting(redis, db=0):
    with redis.client(db) as c:
        return c("GET", "setting").decode()


def refuse(t, *command, status=1, says=(), env=None):
    """The command fails with exactly one line, which holds every word of `says` and no secret."""
    text = t.run(*command, status=status, env=env)
    t.note(text.rstrip())
    lines = [line for line in text.splitlines() if " level=warn " not in line]
    assert len(lines) == 1, f"{command}: {text!r}"
    for word in (says,) if isinstance(says, str) else says:
        assert word in lines[0], f"{word!r} is not in {lines[0]!r}"
    for secret in ("s3cr3t", "hunter2"):
        assert secret not in text, text
    return lines[0]


@test(needs=NEEDS)
def format_writes_what_stock_writes(t):
    r = RedisServer(t)
    v = Volume(t, r, "myvol", db=2).format()
    s = setting(r, 2)
    with open(os.path.join(GOLDEN, "empty.json"), encoding="utf-8") as f:
        golden = f.read()
    uuid = json.loads(s)["UUID"]
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", uuid)
    golden = golden.replace(json.loads(golden)["UUID"], uuid).replace('"fx-empty"', '"myvol"')
    assert s == golden.replace('"/srv/jfs/"', json.dumps(v.bucket)), s
    with r.client(2) as c:
        assert sorted(c("KEYS", "*")) == [b"i1", b"i9223372032828243968", b"setting"]
        assert c("GET", "i1")[1:3] == b"\x21\xff" and c("GET", "i9223372032828243968")[1:3] == b"\x21\x6d"
        assert len(c("GET", "i1")) == 72
    with open(os.path.join(v.bucket, "myvol/juicefs_uuid"), encoding="utf-8") as f:
        assert f.read() == uuid
    files = [name for _, _, names in os.walk(v.bucket) for name in names]
    assert files == ["juicefs_uuid"], files


@test(needs=NEEDS)
def format_takes_all_options(t):
    r = RedisServer(t, password="hunter2")
    bucket = t.folder("data") + "/b%d"
    t.run(JFS, "format", r.unix_url(1, "route-read=replica"), "vol-1", "--bucket", bucket, "--block-size=100K", "--compress",
          "zstd", "--hash-prefix", "--shards", 3, "--capacity", 5, "--inodes=1000", "--trash-days", 0,
          "--storage-class=STD", "--access-key", "ak", env={"META_PASSWORD": "hunter2", "SECRET_KEY": "s3cr3t"})
    s = json.loads(setting(r, 1))
    want = {"Name": "vol-1", "BlockSize": 64, "Compression": "zstd", "HashPrefix": True, "Shards": 3, "Capacity": 5 << 30,
            "Inodes": 1000, "TrashDays": 0, "StorageClass": "STD", "AccessKey": "ak", "Bucket": bucket + "/",
            "KeyEncrypted": True}
    for key, value in want.items():
        assert s[key] == value, (key, s[key])
    assert s["Tiers"]["0"]["StorageClass"] == "STD" and "s3cr3t" not in str(s)
    with r.client(1) as c:
        assert c("EXISTS", "i9223372032828243968") == 0
    # the shard of vol-1/juicefs_uuid holds it, the others nothing
    found = [n for _, _, names in os.walk(t.path("data")) for n in names]
    assert found == ["juicefs_uuid"], found


@test(needs=NEEDS)
def format_again_changes_only_what_is_given(t):
    r = RedisServer(t)
    v = Volume(t, r).format()
    before = setting(r)
    text = t.run(JFS, "format", v.url(), "vol")
    assert "updated" in text and setting(r) == before
    assert "nothing changed" in t.run(JFS, "format", v.url(), "vol", "--no-update", "--trash-days", 9)
    assert setting(r) == before
    t.run(JFS, "format", v.url(), "vol", "--trash-days", 7, "--inodes", 50, "--secret-key", "s3cr3t")
    s = json.loads(setting(r))
    assert s.pop("TrashDays") == 7 and s.pop("Inodes") == 50 and s.pop("KeyEncrypted")
    first = s.pop("SecretKey")
    old = json.loads(before)
    assert old.pop("TrashDays") == 1 and s == old
    t.run(JFS, "format", v.url(), "vol", "--session-token", "hunter2")
    s = json.loads(setting(r))
    assert s["KeyEncrypted"] and s["SessionToken"] and "hunter2" not in str(s) and s["SecretKey"] != first


@test(needs=NEEDS)
def format_keeps_fields_of_the_future(t):
    r = RedisServer(t)
    v = Volume(t, r).format()
    with r.client() as c:
        c("SET", "setting", setting(r)[:-2] + ',\n"Later": {\n"a": [\n1,\n"<"\n]\n}\n}')
    t.run(JFS, "format", v.url(), "vol", "--trash-days", 3)
    assert setting(r).endswith('"EnableACL": false,\n"Later": {\n"a": [\n1,\n"\\u003c"\n]\n}\n}'), setting(r)


@test(needs=NEEDS)
def fixed_options_stay(t):
    r = RedisServer(t)
    v = Volume(t, r).format()
    before = snapshot(r, 0)
    for option, word in ((("--block-size", "1M"), "block size"), (("--compress", "lz4"), "compression"),
                         (("--hash-prefix",), "hash prefix"), (("--shards", "2", "--bucket", v.bucket + "%d"), "shards")):
        refuse(t, JFS, "format", v.url(), "vol", *option, says=(word, "cannot be changed"))
    refuse(t, JFS, "format", v.url(), "other", says=("volume vol", "not other"))
    assert snapshot(r, 0) == before
    t.run(JFS, "format", v.url(), "vol", "--block-size", "1M", "--force")
    assert json.loads(setting(r))["BlockSize"] == 1024


@test(needs=NEEDS)
def usage_errors(t):
    r = RedisServer(t)
    data = t.folder("data")
    before = snapshot(r, 0, data)

    def usage(*args, says, **kw):
        refuse(t, JFS, *args, status=2, says=says, **kw)
    usage("format", r.url(), "vol", "--nosuch", says="--nosuch")
    usage("format", r.url(), "vol", "--bucket", says="--bucket needs a value")
    usage("format", r.url(), says="too few arguments")
    usage("format", r.url(), "vol", "more", says='"more"')
    usage("format", r.url(), "vol", "--block-size", "4Q", says="--block-size")
    usage("format", r.url(), "vol", "--trash-days=-1", says="--trash-days")
    usage("format", r.url(), "vol", "--compress", "brotli", says=("--compress", "lz4"))
    usage("format", r.url(), "vol", "--storage", "gs", says=("--storage", "s3"))
    usage("format", r.url(), "vol", "--shards", "257", says="--shards")
    usage("format", r.url(), "vol", "--shards", "2", "--bucket", data, says="%d")
    usage("format", r.url(), "vol", "--secret-key=s3cr3t", "--inodes", "x", says="--inodes")
    for name in ("ab", "Vol", "a_b", "-ab", "ab-", "a/b", "a" * 64, ""):
        usage("format", r.url(), "--", name, says="volume name")
    for url, word in ((r.url() + "x", "number"), ("redis://", "host"), ("rediss://h/1", "TLS"), ("redis://a:1,b:2/1", "Cluster"),
                      ("mysql://u:s3cr3t@h/1", "mysql"), (r.url(query="safe_batch=1&unsafe_batch=1"), "not both"),
                      (r.url(query="nosuch=1"), "nosuch"), ("redis://:s3cr3t/x@h/1", "%2F")):
        usage("format", url, "vol", says=word)
        usage("status", url, says=word)
    usage("nosuch", says="nosuch")
    usage("status", "--nosuch", says="--nosuch")
    assert snapshot(r, 0, data) == before
    assert t.run(JFS, status=2).startswith("usage: ")


@test(needs=NEEDS)
def help_and_version(t):
    assert t.run(JFS, "--version").startswith("jfs ")
    text = t.run(JFS, "--help")
    for command in ("format", "mount", "umount", "status", "flush"):
        assert command in text
    for command in ("format", "status"):
        assert "usage: jfs " + command in t.run(JFS, command, "--help")


@test(needs=NEEDS)
def redis_out_of_reach(t):
    r = RedisServer(t, password="hunter2")
    data = t.folder("data")
    before = snapshot(r, 0, data)
    args = ("vol", "--bucket", data)
    refuse(t, JFS, "format", r.url(password=False), *args, says=(f"127.0.0.1:{r.port}", "password"))
    refuse(t, JFS, "format", f"redis://:s3cr3t@127.0.0.1:{r.port}/0", *args, says=(str(r.port), "password"))
    refuse(t, JFS, "status", r.url(password=False), says="password")
    refuse(t, JFS, "format", r.url(db=99), *args, says="database 99")
    refuse(t, JFS, "format", f"unix://{t.dir}/none.sock", *args, says="none.sock")
    refuse(t, JFS, "format", "redis://no-such-host.invalid/1", *args, says="no-such-host.invalid")
    refuse(t, JFS, "format", r.url(password=False), *args, env={"META_PASSWORD_FILE": t.path("none")}, says="META_PASSWORD_FILE")
    assert snapshot(r, 0, data) == before
    r.stop()
    for command in (("format", r.url(), *args), ("status", r.url())):
        refuse(t, JFS, *command, says=(f"127.0.0.1:{r.port}", "is it running"))
    assert not os.listdir(data)


@test(needs=NEEDS)
def redis_does_not_answer(t):
    r = RedisServer(t)
    r.pause()
    refuse(t, JFS, "format", r.url(query="read-timeout=200ms"), "vol", "--bucket", t.folder("data"), says="in time")
    r.resume()


@test(needs=NEEDS)
def passwords_from_everywhere(t):
    r = RedisServer(t, password="hunter2")
    Volume(t, r).format()
    with open(t.path("pw"), "w", encoding="utf-8") as f:
        f.write("hunter2\n")
    bare = r.url(password=False)
    for env in ({"META_PASSWORD": "hunter2"}, {"REDIS_PASSWORD": "hunter2", "META_PASSWORD": "no"},
                {"META_PASSWORD_FILE": t.path("pw")}):
        assert "vol" in t.run(JFS, "status", bare, env=env)
    assert "hunter2" not in t.run(JFS, "status", r.url())


@test(needs=NEEDS)
def no_secret_in_ps(t):
    r = RedisServer(t, password="hunter2")
    r.pause()  # so that the command waits
    p = t.spawn(JFS, "format", r.url(), "vol", "--bucket", t.folder("data"), "--access-key=s3cr3t-a", "--secret-key",
                "s3cr3t-b", "--session-token", "s3cr3t-c")

    def scrubbed():
        line = " ".join(command_line(p.pid))
        return "format" in line and "s3cr3t" not in line and "hunter2" not in line
    wait_until(scrubbed, what="a command line without secrets")
    r.resume()
    assert p.wait(30) == 0


@test(needs=NEEDS)
def database_of_somebody_else(t):
    r = RedisServer(t)
    data = t.folder("data")
    args = ("vol", "--bucket", data)

    def foreign(*says, status=1, force=True, **keys):
        with r.client() as c:
            c("FLUSHDB")
            for key, value in keys.items():
                c("SET", key, value)
        before = snapshot(r, 0, data)
        for extra in ((), ("--force",)) if force else ((),):
            refuse(t, JFS, "format", r.url(), *args, *extra, status=status, says=says)
        refuse(t, JFS, "status", r.url(), says=says)
        assert snapshot(r, 0, data) == before
    foreign("holds keys but no volume", "empty database", mykey="x")
    foreign("holds keys but no volume", zjfs="x")
    foreign("not JSON", setting="{")
    foreign("not a JSON object", setting="[1]")
    foreign("Name is missing", setting="{}")
    with r.client() as c:
        c("FLUSHDB")
        c("HSET", "setting", "a", "b")
    refuse(t, JFS, "format", r.url(), *args, says="something else")
    with r.client() as c:
        c("FLUSHDB")
    refuse(t, JFS, "status", r.url(), says=("no volume", "jfs format"))


@test(needs=NEEDS)
def volumes_that_are_refused(t):
    r = RedisServer(t)
    for name, word in (("refuse-changelog", "ChangeLog"), ("refuse-compression", "brotli"),
                       ("refuse-encrypted", "EncryptKey"), ("refuse-metaversion", "metadata format 2"),
                       ("refuse-minversion", "9.0.0"), ("refuse-storage", "nosuch")):
        with open(os.path.join(GOLDEN, name + ".json"), "rb") as f, r.client() as c:
            c("FLUSHDB")
            c("SET", "setting", f.read())
        before = snapshot(r, 0)
        refuse(t, JFS, "format", r.url(), "fx-" + name, "--trash-days", 5, says=word)
        assert snapshot(r, 0) == before
        t.run(JFS, "status", r.url())  # looking is allowed


@test(needs=NEEDS)
def storage_that_cannot_be_used(t):
    r = RedisServer(t)
    before = snapshot(r, 0)
    with open(t.path("plain"), "w", encoding="utf-8"):
        pass
    refuse(t, JFS, "format", r.url(), "vol", "--bucket", t.path("plain/x"), says="plain/x")
    refuse(t, JFS, "format", r.url(), "vol", "--storage", "s3", says="--bucket")
    refuse(t, JFS, "format", r.url(), "vol", "--storage", "s3", "--bucket", "nonsense", "--access-key=a",
           "--secret-key=s3cr3t", says="nonsense")
    port = free_ports()
    refuse(t, JFS, "format", r.url(), "vol", "--storage", "s3", "--bucket", f"http://127.0.0.1:{port}/b", "--access-key=a",
           "--secret-key=s3cr3t", says=f"127.0.0.1:{port}")
    data = t.folder("data")
    os.mkdir(data + "/vol")
    with open(data + "/vol/chunk", "w", encoding="utf-8") as f:
        f.write("x")
    refuse(t, JFS, "format", r.url(), "vol", "--bucket", data, says=("already holds objects", "vol/chunk"))
    assert snapshot(r, 0) == before and sorted(n for _, _, f in os.walk(data) for n in f) == ["chunk"]
    t.run(JFS, "format", r.url(), "vol", "--bucket", data, env={"JFS_NO_CHECK_OBJECT_STORAGE": "1"})
    assert sorted(n for _, _, f in os.walk(data) for n in f) == ["chunk"]


@test(needs=NEEDS)
def juicefs_uuid_is_taken_back(t):
    """Redis takes reads, but not the volume: out of memory after the storage was tried."""
    r = RedisServer(t, maxmemory="1", maxmemory_policy="noeviction")
    data = t.folder("data")
    refuse(t, JFS, "format", r.url(), "vol", "--bucket", data, says="maxmemory")
    with r.client() as c:
        assert c("DBSIZE") == 0
    assert [n for _, _, f in os.walk(data) for n in f] == []


@test(needs=NEEDS)
def warnings_of_the_server(t):
    r = RedisServer(t, appendonly="no", maxmemory_policy="allkeys-lru")
    text = t.run(JFS, "format", r.url(), "vol", "--bucket", t.folder("data"))
    assert "AOF is off" in text, text
    with r.client() as c:
        assert c("CONFIG", "GET", "maxmemory-policy")[1] == b"noeviction"


@test(needs=NEEDS)
def cluster_and_replica_are_refused(t):
    r = RedisServer(t, cluster_enabled="yes")
    refuse(t, JFS, "format", r.url(), "vol", "--bucket", t.folder("data"), says=("cluster", "not supported"))
    master = RedisServer(t, name="master")
    replica = RedisServer(t, name="replica", replicaof=f"127.0.0.1 {master.port}")

    def linked():
        with replica.client() as c:
            return b"master_link_status:up" in c("INFO", "replication")
    wait_until(linked, what="the replica")
    refuse(t, JFS, "format", replica.url(), "vol", "--bucket", t.folder("data"), says=("replica", "master"))


@test(needs=NEEDS)
def through_sentinel(t):
    r = RedisServer(t, password="hunter2")
    folder, port = t.folder("sentinel"), free_ports()
    with open(os.path.join(folder, "s.conf"), "w", encoding="utf-8") as f:
        f.write(f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor mymaster 127.0.0.1 {r.port} 1\n"
                "sentinel auth-pass mymaster hunter2\n")
    t.spawn("redis-server", os.path.join(folder, "s.conf"), "--sentinel", name="sentinel")

    def up():
        with contextlib.suppress(OSError), Resp(f"redis://127.0.0.1:{port}/0") as c:
            return c("PING") == b"PONG"
    wait_until(up, what="Sentinel")
    url = f"redis://:hunter2@mymaster,127.0.0.1:1,127.0.0.1:{port}/3"  # the first Sentinel is not there
    t.run(JFS, "format", url, "vol", "--bucket", t.folder("data"))
    with r.client(3) as c:
        assert c("EXISTS", "setting") == 1
    assert "vol" in t.run(JFS, "status", url)
    refuse(t, JFS, "status", f"redis://:hunter2@other,127.0.0.1:{port}/3", says=("Sentinel", "other"))


@test(needs=NEEDS)
def status_of_a_volume(t):
    r = RedisServer(t)
    v = Volume(t, r)
    t.run(JFS, "format", v.url(), "vol", "--bucket", v.bucket, "--access-key=ak", "--secret-key=s3cr3t")
    with r.client() as c:
        c("SET", "usedSpace", 8192)
        c("SET", "totalInodes", 2)
        c("ZADD", "allSessions", 1795367472, 1)
        c("ZADD", "allSessions", 1795367473, 2)
        c("HSET", "sessionInfos", 1, '{"Version":"1.4.1+unknown","HostName":"host","IPAddrs":["192.0.2.1"],"MountPoint":'
          '"/mnt/jfs","MountTime":"2026-11-22T17:10:12.474762649Z","ProcessID":2494}')
        c("HSET", "zjfs", "epoch", 3, "holder", "m/c/p", "host", "builder", "dir", "/cache", "seen", 1700000000, "released", 0,
          "backlog", 12, "journal", "j", "seq", 5, "chain", "0" * 32)
    before = snapshot(r, 0)
    s = json.loads(t.run(JFS, "status", "--json", v.url()))
    assert snapshot(r, 0) == before
    assert s["Setting"]["Name"] == "vol" and s["Setting"]["SecretKey"] == "removed"
    assert s["Statistic"]["usedSpace"] == 8192 and s["Statistic"]["totalInodes"] == 2
    assert [x["Sid"] for x in s["Sessions"]] == [1, 2] and s["Sessions"][0]["HostName"] == "host"
    assert s["Sessions"][0]["Expire"] == "2026-11-22T17:11:12Z" and s["Sessions"][1]["HostName"] == ""
    assert s["Lease"]["Epoch"] == 3 and s["Lease"]["Host"] == "builder" and s["Lease"]["Backlog"] == 12
    assert not s["Lease"]["Released"] and s["Lease"]["Stale"]
    text = t.run(JFS, "status", v.url())
    for word in ("vol", "host", "/mnt/jfs", "builder", "backlog 12", "(stale)"):
        assert word in text, text
    assert "s3cr3t" not in text
    with r.client() as c:
        c("SET", "usedSpace", "x")
    refuse(t, JFS, "status", v.url(), says=("usedSpace", "not a number"))


@test(needs=NEEDS)
def status_of_a_mount_point(t):
    m = t.folder("m")
    refuse(t, JFS, "status", m, says=(m, "not a mount point"))
    refuse(t, JFS, "status", t.path("none"), says="not a mount point")
    with open(m + "/.config", "w", encoding="utf-8") as f:
        json.dump({"Format": {"Name": "vol", "UUID": "u"}}, f)
    with open(m + "/.stats", "w", encoding="utf-8") as f:
        f.write("juicefs_staging_blocks 3\njuicefs_uptime 4.5\ndurable_lag 0.05\n")
    text = t.run(JFS, "status", m)
    assert "vol" in text and re.search(r"staging_blocks +3\n", text) and "0.05" in text
    s = json.loads(t.run(JFS, "status", "--json", m))
    assert s["Stats"]["juicefs_uptime"] == 4.5 and s["Config"]["Format"]["Name"] == "vol"
    with open(m + "/.config", "w", encoding="utf-8") as f:
        f.write("{")
    refuse(t, JFS, "status", m, says="not JSON")
    os.chmod(m, stat.S_IRWXU)


@test(timeout=240, needs=("jfs", "root"))
def format_on_s3(t):
    r = RedisServer(t)
    s3 = Swift(t)
    before = snapshot(r, 0)
    where = ("vol", "--storage", "s3", "--bucket", s3.bucket_url("bucket1"))
    refuse(t, JFS, "format", r.url(), *where, "--access-key", s3.access, "--secret-key", "s3cr3t-wrong", says=("bucket1", "secret"))
    refuse(t, JFS, "format", r.url(), *where, "--access-key", "nobody", "--secret-key", s3.secret, says=("bucket1", "secret"))
    refuse(t, JFS, "format", r.url(), "vol", "--storage", "s3", "--bucket", s3.bucket_url("B_/x"), "--access-key", s3.access,
           "--secret-key", s3.secret, says=("B_", "bucket name"))
    assert snapshot(r, 0) == before
    t.run(JFS, "format", r.url(), *where, env={"ACCESS_KEY": s3.access, "SECRET_KEY": s3.secret})
    s = json.loads(setting(r))
    assert s["AccessKey"] == s3.access and s["KeyEncrypted"] and s3.secret not in str(s)
    t.run(JFS, "format", r.url(), "vol", "--trash-days", 2)  # the stored key serves
    refuse(t, JFS, "format", r.url(1), *where, "--access-key", s3.access, "--secret-key", s3.secret, says="already holds objects")


@test(timeout=120, needs=("jfs", "juicefs"))
def stock_and_ours_format_alike(t):
    """The same options leave the same bytes, but for the UUID and what is encrypted under a random nonce."""
    r = RedisServer(t)
    for n, options in enumerate(([], ["--block-size", "3M", "--compress", "lz4", "--trash-days", "0", "--hash-prefix"],
                                 ["--capacity", "2", "--inodes", "77", "--storage-class", "A&<B>", "--access-key", "a\"b"])):
        texts = []
        for db, tool in ((2 * n, JFS), (2 * n + 1, os.environ["JUICEFS"])):
            v = Volume(t, r, "vol", db=db).format(*options, tool=tool)
            text = setting(r, db)
            texts.append(text.replace(json.loads(text)["UUID"], "UUID").replace(json.dumps(v.bucket), '"BUCKET"'))
            with r.client(db) as c:
                texts[-1] += str(sorted(c("KEYS", "*")))
                texts[-1] += str([len(c("GET", k)) for k in sorted(c("KEYS", "i*"))])
        assert texts[0] == texts[1], texts


@test(timeout=120, needs=("jfs", "juicefs"))
def stock_and_ours_change_each_others_volumes(t):
    r = RedisServer(t)
    ours, theirs = Volume(t, r, "ours", db=0), Volume(t, r, "theirs", db=1)
    t.run(JFS, "format", ours.url(), "ours", "--bucket", ours.bucket, "--access-key", "a", "--secret-key", "s3cr3t")
    theirs.format("--secret-key", "s3cr3t", "--access-key", "a", tool=os.environ["JUICEFS"])
    stock = Stock(t, ours.url())
    assert '"Name": "ours"' in stock.run("status")
    stock.run("fsck")
    stock.run("config", "--trash-days", "5", "--yes")
    s = json.loads(t.run(JFS, "status", "--json", ours.url()))
    assert s["Setting"]["TrashDays"] == 5
    t.run(JFS, "format", ours.url(), "ours", "--trash-days", 6)
    assert '"TrashDays": 6' in stock.run("status")
    t.run(JFS, "format", theirs.url(), "theirs", "--session-token", "hunter2")  # their secret decrypts here
    assert '"Name": "theirs"' in Stock(t, theirs.url()).run("status")
    Stock(t, theirs.url()).run("config", "--trash-days", "4", "--yes")  # and ours there
    t.run(JFS, "format", theirs.url(), "theirs", "--inodes", 9)


if __name__ == "__main__":
    sys.exit(main())
