#!/usr/bin/env python3
"""sqlite_load.py DATABASE delete|wal full|off SEED COUNT ACKED: random transactions on an account table, until COUNT are done
or a call fails.

Each transaction inserts, updates and deletes rows and adds 1 to the number of transactions, which is kept in the database.
After a commit has returned, that number is appended to the file ACKED. Exit status 0: all done; 3: the database could not be
used any more, as when the file system's server dies."""
import os
import random
import sqlite3
import sys


def setup(db, mode, sync):
    db.execute("PRAGMA journal_mode=" + mode)
    db.execute("PRAGMA synchronous=" + sync)
    db.execute("PRAGMA cache_size=64")  # pages spill while a transaction is on its way
    db.execute("PRAGMA wal_autocheckpoint=50")
    db.execute("CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, owner TEXT, body BLOB, balance INTEGER)")
    db.execute("CREATE INDEX IF NOT EXISTS owners ON account (owner)")
    db.execute("CREATE TABLE IF NOT EXISTS done (n INTEGER)")
    if not db.execute("SELECT n FROM done").fetchone():
        db.execute("INSERT INTO done VALUES (0)")
    db.commit()


def transaction(db, rng):
    db.execute("BEGIN IMMEDIATE")
    for _ in range(rng.randrange(1, 12)):
        key = rng.randrange(2000)
        what = rng.choice(("put", "put", "put", "change", "remove"))
        if what == "put":
            db.execute("INSERT OR REPLACE INTO account VALUES (?, ?, ?, 0)",
                       (key, f"owner{rng.randrange(50)}", rng.randbytes(rng.randrange(3000))))
        elif what == "change":
            db.execute("UPDATE account SET balance = balance + 1 WHERE owner = ?", (f"owner{rng.randrange(50)}",))
        else:
            db.execute("DELETE FROM account WHERE id = ?", (key,))
    db.execute("UPDATE done SET n = n + 1")
    number = db.execute("SELECT n FROM done").fetchone()[0]
    db.execute("COMMIT")
    return number


def main(path, mode, sync, seed, count, acked):
    rng = random.Random(seed)
    with open(acked, "ab", buffering=0) as log:
        try:
            db = sqlite3.connect(path, isolation_level=None, timeout=60)
            setup(db, mode, sync)
            for _ in range(int(count)):
                log.write(b"%d\n" % transaction(db, rng))
        except sqlite3.Error as e:
            print(e)
            sys.stdout.flush()
            os._exit(3)  # closing the database would only fail again
    db.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
