/* One hot log: an LMDB environment on a tmpfs that is never synced. It survives the process, not the host.
 *
 * Key 0 holds the header {cache id 32, be64 generation, be64 first sequence number}, written together with the first
 * record; every other key is a be64 sequence number. Its pages are preallocated, and a put is only tried when its worst
 * case fits behind the last used page, because a failed put would poison its transaction. */
#ifndef JFS_JOURNAL_HOT_H
#define JFS_JOURNAL_HOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/errmsg.h"

struct kv;

struct hot {
	char *dir;
	size_t size; /* bytes of the map */
	char id[33];
	struct kv *kv;
	bool empty;
	uint64_t g, first; /* of the header, when not empty */
	bool found;	   /* by hot_open: another process made it */
	uint8_t *pristine; /* LMDB's meta pages as they are in an empty log; NULL: it was not empty when it was found */
};

/* Opens the log in `dir`, making it when missing (size bytes, preallocated). -EUCLEAN: damaged or of another cache. */
int hot_open(struct hot *h, const char *dir, size_t size, const char *cache_id, struct errmsg *e);
/* The same for a tool: nothing is made or changed. -ENOENT: there is none. Only hot_scan and hot_close may follow. */
int hot_open_read(struct hot *h, const char *dir, const char *cache_id, struct errmsg *e);
void hot_close(struct hot *h);
/* Puts one record in its own transaction. The caller has asked hot_fits. A failure is terminal. */
int hot_put(struct hot *h, uint64_t g, uint64_t seq, const void *rec, size_t len);
bool hot_fits(const struct hot *h, size_t len);
uint64_t hot_used(const struct hot *h); /* bytes up to the last used page */
/* Calls fn for every record from `from` (at least 1) up to `upto` in order; stops at its first non-zero answer, which is returned. */
int hot_scan(struct hot *h, uint64_t from, uint64_t upto, int (*fn)(void *arg, uint64_t seq, const void *rec, size_t len), void *arg);
/* Empties it: LMDB's first state is put back, the pages stay allocated. 0 or -errno (terminal). */
int hot_reset(struct hot *h);
/* Closes it and deletes its file and directory: after a clean close it need not hold memory. */
void hot_remove(struct hot *h);
/* Deletes the file, whatever it holds, and makes a new one. */
int hot_remake(struct hot *h, struct errmsg *e);

#endif
