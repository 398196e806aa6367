/* A history whose every record is a function of its sequence number, so that the state after S records can be worked out
 * for any S: key n % KEYS holds the last n <= S of its kind, the counters are S. Shared by the kill and power-cut tests. */
#ifndef JFS_TESTS_JOURNAL_HISTORY_H
#define JFS_TESTS_JOURNAL_HISTORY_H

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "journal/journal.h"

enum { KEYS = 97, INODES = 13, WRITE_EVERY = 5, DELETE_EVERY = 7, FILL_MAX = 80000 };

/* Bytes of a write: each is `fill`, and so is their number. */
static inline size_t history_fill(uint8_t bytes[FILL_MAX], uint8_t fill)
{
	size_t n = 100 + (size_t)fill * 300;

	memset(bytes, fill, n);
	return n;
}

static inline void history_record(struct journal *j, uint64_t n, const struct staged *s)
{
	bool is_write = n % WRITE_EVERY == 0;
	struct rec *r = journal_begin(j, is_write ? OP_WRITE : OP_SYMLINK);
	uint8_t v[8];
	struct jkey key;

	put_be64(v, n);
	key_symlink(&key, n % KEYS);
	if (n % DELETE_EVERY == 0)
		rec_del(r, &key, 0);
	else
		rec_put(r, &key, v, sizeof(v), 0);
	rec_space(r, 1, -1);
	if (is_write) {
		struct extent_val e = {.kind = EXT_STAGED, .len = s->len, .born = n, .segment = s->segment, .off = s->off,
			.run_off = s->off, .run_len = s->len, .sum = s->sum};

		rec_put_extent(r, n % INODES, (uint32_t)n, &e, IF_NEW);
	}
}

/* Stages bytes and commits the next record. 0 and its number, or -errno. Any number of threads. */
static inline int history_step(struct journal *j, uint64_t *seq)
{
	static _Thread_local uint8_t bytes[FILL_MAX];
	struct staged s = {.len = 0};

	for (;;) {
		uint64_t n = journal_next_seq(j);
		int err = 0;

		if (n % WRITE_EVERY == 0 && !s.len)
			err = staging_append(journal_staging(j), bytes, history_fill(bytes, (uint8_t)(n % 250)), &s);
		if (err)
			return err;
		journal_lock(j);
		n = journal_next_seq(j);
		if (n % WRITE_EVERY == 0 && !s.len) { /* another thread was faster: ours is the write after all */
			journal_unlock(j);
			continue;
		}
		history_record(j, n, &s);
		err = journal_commit(j, seq);
		journal_unlock(j);
		if (err != -EAGAIN)
			return !err && *seq != n ? -EUCLEAN : err;
		err = journal_wait_room(j);
		if (err)
			return err;
	}
}

#define HISTORY_CHECK(cond, ...)                                                                                      \
	do {                                                                                                          \
		if (!(cond)) {                                                                                        \
			fprintf(stderr, "history: " __VA_ARGS__);                                                     \
			fputc('\n', stderr);                                                                          \
			bad++;                                                                                        \
		}                                                                                                     \
	} while (0)

static inline int history_check_key(struct journal *j, uint64_t id, uint64_t upto)
{
	uint64_t n = upto >= id ? upto - (upto - id) % KEYS : 0; /* the last that touched it */
	struct jkey key;
	const void *v;
	size_t len;
	int err, bad = 0;

	key_symlink(&key, id);
	err = view_probe(j, &key, &v, &len);
	if (n == 0)
		HISTORY_CHECK(err == -ENOENT, "key %llu: %d, never written", (unsigned long long)id, err);
	else if (n % DELETE_EVERY == 0)
		HISTORY_CHECK(err == -EKEYREVOKED, "key %llu: %d, deleted", (unsigned long long)id, err);
	else
		HISTORY_CHECK(err == 0 && len == 8 && get_be64(v) == n, "key %llu: not the value of %llu", (unsigned long long)id,
			(unsigned long long)n);
	return bad;
}

static inline int history_check_extent(struct journal *j, uint64_t n)
{
	static uint8_t bytes[FILL_MAX];
	const uint8_t *key, *val;
	struct extent_val e = {0};
	struct view_iter *it;
	struct jkey from;
	size_t klen, vlen;
	int bad = 0, rc;

	key_extent(&from, n % INODES, (uint32_t)n, 0);
	it = view_seek(j, &from, 13);
	rc = it ? view_step(it, &key, &klen, &val, &vlen) : -EIO;
	if (rc == 1)
		rc = extent_val_decode(val, vlen, &e) == 0 && e.born == n && e.len <= FILL_MAX;
	view_end(it);
	HISTORY_CHECK(rc == 1, "write %llu: no extent", (unsigned long long)n);
	if (rc != 1)
		return bad;
	rc = staging_read(journal_staging(j), e.segment, e.off, bytes, e.len);
	HISTORY_CHECK(rc == 0, "write %llu: reading its bytes: %d", (unsigned long long)n, rc);
	for (uint32_t i = 0; !rc && i < e.len; i++) {
		rc = bytes[i] != bytes[0] || e.len != 100 + 300u * bytes[0];
		HISTORY_CHECK(!rc, "write %llu: byte %u is not what was written", (unsigned long long)n, i);
	}
	return bad;
}

static inline int history_log_follows(void *arg, uint64_t seq, const void *rec, size_t len)
{
	uint64_t *next = arg;
	struct rec_header h;
	struct rec_reader it;

	if (rec_open(rec, len, &h, &it) || seq != *next)
		return 1;
	*next = seq + 1;
	return 0;
}

/* Compares all of a just opened journal with what its durable position says; the newest `writes` writes byte for byte.
 * Returns the number of differences, printed. */
static inline int history_check(struct journal *j, uint64_t writes)
{
	uint64_t upto = journal_mark(j, WM_DURABLE), next = 1;
	int64_t space, inodes;
	int bad = 0;

	journal_lock(j);
	for (uint64_t id = 0; id < KEYS; id++)
		bad += history_check_key(j, id, upto);
	for (uint64_t n = upto / WRITE_EVERY * WRITE_EVERY; n > 0 && writes > 0; n -= WRITE_EVERY, writes--)
		bad += history_check_extent(j, n);
	journal_stats(j, &space, &inodes);
	journal_unlock(j);
	HISTORY_CHECK(space == (int64_t)upto && inodes == -(int64_t)upto, "counters %lld %lld, durable %llu", (long long)space,
		(long long)inodes, (unsigned long long)upto);
	HISTORY_CHECK(journal_log_scan(j, 0, UINT64_MAX, history_log_follows, &next) == 0 && next == upto + 1,
		"the log is whole up to %llu, durable %llu", (unsigned long long)next - 1, (unsigned long long)upto);
	return bad;
}

#endif
