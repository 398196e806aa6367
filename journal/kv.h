/* A thin wrapper around LMDB: the only place that knows it. Keys and values are (pointer, length); what a read returns
 * points into the map and is valid until its transaction ends (write: until the next write).
 *
 * Errors everywhere: -ENOENT not found, -ENOSPC (the file system or the map is full), -EUCLEAN (the file is not what
 * LMDB wrote), -ENOMEM, -EIO and what the system says. After -ENOSPC of a put or a commit the transaction is gone (abort
 * it, if it was a put) and the environment as before. */
#ifndef JFS_JOURNAL_KV_H
#define JFS_JOURNAL_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/errmsg.h"

struct kv;
struct MDB_txn;
struct MDB_cursor;

enum kv_mode {
	KV_DURABLE,  /* every commit is synced; several processes may read */
	KV_READONLY, /* the same, seen by a tool */
	KV_HOT,	     /* a writable map that is never synced, no locks: one process, one thread at a time */
	KV_HOT_READ, /* what a dead process left of one, seen by a tool */
};

#define KV_DBI_MAX 4

/* Opens the environment in an existing directory. dbis: names of the tables, NULL-terminated, made when missing; the
 * i-th is `i` below. Without any, table 0 is the unnamed one. map: bytes of address space, the file's limit. */
int kv_open(const char *dir, enum kv_mode mode, size_t map, const char *const *dbis, struct kv **out, struct errmsg *e);
void kv_close(struct kv *kv); /* NULL-safe; all transactions are over */
int kv_fd(const struct kv *kv);
/* Highest page that the last commit uses, and the page size. */
uint64_t kv_last_page(const struct kv *kv);
size_t kv_page_size(const struct kv *kv);

int kv_begin(struct kv *kv, bool write, struct MDB_txn **txn); /* a writer waits for the other writer */
int kv_commit(struct MDB_txn *txn);			       /* the transaction is gone, whatever it returns */
void kv_abort(struct MDB_txn *txn);			       /* NULL-safe */
void kv_reset(struct MDB_txn *txn);			       /* a reader lets go of its snapshot */
int kv_renew(struct MDB_txn *txn);			       /* and takes the newest one */

int kv_get(struct kv *kv, struct MDB_txn *txn, int dbi, const void *key, size_t klen, const void **val, size_t *vlen);
int kv_put(struct kv *kv, struct MDB_txn *txn, int dbi, const void *key, size_t klen, const void *val, size_t vlen);
/* The key is above all others. */
int kv_append(struct kv *kv, struct MDB_txn *txn, int dbi, const void *key, size_t klen, const void *val, size_t vlen);
int kv_del(struct kv *kv, struct MDB_txn *txn, int dbi, const void *key, size_t klen);
/* Number of keys. */
int kv_count(struct kv *kv, struct MDB_txn *txn, int dbi, size_t *n);
size_t kv_bytes(struct kv *kv, struct MDB_txn *txn, int dbi); /* of its pages; 0: unknown */

struct kv_pair {
	const uint8_t *key, *val;
	size_t klen, vlen;
};
int kv_cursor_open(struct kv *kv, struct MDB_txn *txn, int dbi, struct MDB_cursor **c);
int kv_cursor_renew(struct MDB_txn *txn, struct MDB_cursor *c); /* of a renewed reader */
void kv_cursor_close(struct MDB_cursor *c);			/* NULL-safe; before a write transaction ends */
int kv_cursor_first(struct MDB_cursor *c, struct kv_pair *p);
int kv_cursor_last(struct MDB_cursor *c, struct kv_pair *p);
int kv_cursor_seek(struct MDB_cursor *c, const void *key, size_t klen, struct kv_pair *p); /* first key >= the given one */
int kv_cursor_next(struct MDB_cursor *c, struct kv_pair *p);
int kv_cursor_del(struct MDB_cursor *c); /* the one it stands on; next then gives the one after it */
/* The same as kv_put, kv_append and kv_del, and room for a value that is filled at once. Keys that come in order find the page of
 * the one before. */
int kv_cursor_put(struct MDB_cursor *c, const void *key, size_t klen, const void *val, size_t vlen);
int kv_cursor_append(struct MDB_cursor *c, const void *key, size_t klen, const void *val, size_t vlen);
int kv_cursor_reserve(struct MDB_cursor *c, const void *key, size_t klen, size_t vlen, void **room);
int kv_cursor_remove(struct MDB_cursor *c, const void *key, size_t klen);

/* A handler for SIGBUS, which is how a mapped file fails: it names the file and exits with status 1. */
void kv_catch_sigbus(void);

#endif
