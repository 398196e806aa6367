#include "journal/hot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/cachedir.h"
#include "journal/kv.h"
#include "util/buf.h"
#include "util/fault.h"
#include "util/log.h"

#define META_PAGES 2
/* Pages a put may take besides the record's own: the path to the last leaf copied and split, LMDB's list of free pages. */
#define SLACK_PAGES 24

enum { HEADER_LEN = 32 + 8 + 8 };

static void file_name(const struct hot *h, char out[4096])
{
	snprintf(out, 4096, "%s/data.mdb", h->dir);
}

static int header_read(struct hot *h, struct errmsg *e)
{
	static const uint8_t key0[8];
	const void *v;
	struct MDB_txn *txn;
	size_t n, count;
	int err = kv_begin(h->kv, false, &txn);

	if (err)
		return errmsg_set(e, err, "%s: %s", h->dir, strerror(-err));
	err = kv_count(h->kv, txn, 0, &count);
	if (!err)
		err = kv_get(h->kv, txn, 0, key0, 8, &v, &n);
	h->empty = err == -ENOENT && count == 0;
	if (h->empty) {
		err = 0;
	} else if (err || n != HEADER_LEN || memcmp(v, h->id, 32) != 0) {
		err = errmsg_set(e, -EUCLEAN, "%s: not a hot log of this cache directory", h->dir);
	} else {
		h->g = get_be64((const uint8_t *)v + 32);
		h->first = get_be64((const uint8_t *)v + 40);
	}
	kv_abort(txn);
	return err;
}

/* Remembers the meta pages of an empty log: to empty it again must never need memory of the tmpfs. */
static int pristine_read(struct hot *h, struct errmsg *e)
{
	size_t n = META_PAGES * kv_page_size(h->kv);

	h->pristine = malloc(n);
	if (!h->pristine)
		return errmsg_set(e, -ENOMEM, "%s: out of memory", h->dir);
	if (pread(kv_fd(h->kv), h->pristine, n, 0) != (ssize_t)n)
		return errmsg_set(e, -EIO, "%s: cannot be read", h->dir);
	h->empty = true;
	return 0;
}

/* Makes the file, allocates all of it, and remembers the meta pages. */
static int make(struct hot *h, struct errmsg *e)
{
	int err = kv_open(h->dir, KV_HOT, h->size, NULL, &h->kv, e);

	if (err)
		return err;
	err = FAULT_ERR("hot.allocate");
	if (!err)
		err = -posix_fallocate(kv_fd(h->kv), 0, (off_t)h->size);
	if (err)
		return errmsg_set(e, err, "%s: no room for a hot log of %zu MiB: %s", h->dir, h->size >> 20, strerror(-err));
	return pristine_read(h, e);
}

int hot_open(struct hot *h, const char *dir, size_t size, const char *cache_id, struct errmsg *e)
{
	char path[4096];
	struct stat sb;
	int err;

	*h = (struct hot){.size = size};
	memcpy(h->id, cache_id, sizeof(h->id));
	h->dir = strdup(dir);
	if (!h->dir)
		return errmsg_set(e, -ENOMEM, "%s: out of memory", dir);
	err = mkdir_all(dir);
	if (err)
		return errmsg_set(e, err, "%s: %s", dir, strerror(-err));
	file_name(h, path);
	if (stat(path, &sb))
		return errno == ENOENT ? make(h, e) : errmsg_set(e, -errno, "%s: %s", path, strerror(errno));
	/* Killed while it was made: nothing was ever put into it, or it would have been allocated. */
	if ((uint64_t)sb.st_blocks * 512 < (uint64_t)sb.st_size || sb.st_size < 4 * 4096)
		return hot_remake(h, e);
	err = kv_open(dir, KV_HOT, (size_t)sb.st_size, NULL, &h->kv, e);
	if (!err)
		err = header_read(h, e);
	if (err)
		return err;
	/* Another size was asked for then; what it holds is taken out first. */
	if (h->empty && (uint64_t)sb.st_size != h->size)
		return hot_remake(h, e);
	h->found = true;
	return h->empty ? pristine_read(h, e) : 0;
}

int hot_open_read(struct hot *h, const char *dir, const char *cache_id, struct errmsg *e)
{
	char path[4096];
	struct stat sb;
	int err;

	*h = (struct hot){.empty = true};
	memcpy(h->id, cache_id, sizeof(h->id));
	h->dir = strdup(dir);
	if (!h->dir)
		return errmsg_set(e, -ENOMEM, "%s: out of memory", dir);
	file_name(h, path);
	if (stat(path, &sb))
		return errmsg_set(e, -errno, "%s: %s", path, strerror(errno));
	if ((uint64_t)sb.st_blocks * 512 < (uint64_t)sb.st_size || sb.st_size < 4 * 4096)
		return 0; /* killed while it was made: see hot_open */
	err = kv_open(dir, KV_HOT_READ, (size_t)sb.st_size, NULL, &h->kv, e);
	return err ? err : header_read(h, e);
}

void hot_close(struct hot *h)
{
	kv_close(h->kv);
	free(h->dir);
	free(h->pristine);
	*h = (struct hot){0};
}

void hot_remove(struct hot *h)
{
	char path[4096];

	file_name(h, path);
	if (unlink(path) || rmdir(h->dir))
		log_warn("hot: cannot remove dir=%s err=\"%s\"", h->dir, strerror(errno));
	hot_close(h);
}

int hot_remake(struct hot *h, struct errmsg *e)
{
	char path[4096];

	kv_close(h->kv);
	h->kv = NULL;
	free(h->pristine);
	h->pristine = NULL;
	h->found = false;
	file_name(h, path);
	if (unlink(path) && errno != ENOENT)
		return errmsg_set(e, -errno, "%s: %s", path, strerror(errno));
	return make(h, e);
}

int hot_reset(struct hot *h)
{
	size_t n;

	FAULT_POINT("hot.reset.before");
	if (!h->pristine)
		return hot_remake(h, NULL);
	n = META_PAGES * kv_page_size(h->kv);
	/* Between the two pages, LMDB still opens the old state from the other one, and base knows it as flushed. */
	if (pwrite(kv_fd(h->kv), h->pristine, n, 0) != (ssize_t)n)
		return -EIO;
	kv_close(h->kv);
	h->kv = NULL;
	h->empty = true;
	FAULT_POINT("hot.reset.after");
	return kv_open(h->dir, KV_HOT, h->size, NULL, &h->kv, NULL);
}

bool hot_fits(const struct hot *h, size_t len)
{
	size_t page = kv_page_size(h->kv);

	return kv_last_page(h->kv) + 1 + (len + 64 + page - 1) / page + SLACK_PAGES <= h->size / page;
}

uint64_t hot_used(const struct hot *h)
{
	return (kv_last_page(h->kv) + 1) * kv_page_size(h->kv);
}

int hot_put(struct hot *h, uint64_t g, uint64_t seq, const void *rec, size_t len)
{
	struct MDB_txn *txn;
	uint8_t key[8];
	int err = kv_begin(h->kv, true, &txn);

	if (err)
		return err;
	err = FAULT_ERR("hot.put");
	if (!err && h->empty) {
		uint8_t header[HEADER_LEN];

		memcpy(header, h->id, 32);
		put_be64(header + 32, g);
		put_be64(header + 40, seq);
		put_be64(key, 0);
		err = kv_append(h->kv, txn, 0, key, 8, header, sizeof(header));
	}
	put_be64(key, seq);
	if (!err)
		err = kv_append(h->kv, txn, 0, key, 8, rec, len);
	if (err) {
		kv_abort(txn);
		return err;
	}
	err = kv_commit(txn);
	if (!err && h->empty) {
		h->empty = false;
		h->g = g;
		h->first = seq;
	}
	return err;
}

int hot_scan(struct hot *h, uint64_t from, uint64_t upto, int (*fn)(void *arg, uint64_t seq, const void *rec, size_t len), void *arg)
{
	struct MDB_cursor *c = NULL;
	struct MDB_txn *txn;
	struct kv_pair p;
	uint8_t key[8];
	int err = kv_begin(h->kv, false, &txn);

	if (err)
		return err;
	err = kv_cursor_open(h->kv, txn, 0, &c);
	put_be64(key, from);
	if (!err)
		err = kv_cursor_seek(c, key, sizeof(key), &p);
	for (; !err; err = err ? err : kv_cursor_next(c, &p)) {
		if (p.klen != 8)
			err = -EUCLEAN;
		else if (get_be64(p.key) > upto)
			break;
		else
			err = fn(arg, get_be64(p.key), p.val, p.vlen);
	}
	kv_cursor_close(c);
	kv_abort(txn);
	return err == -ENOENT ? 0 : err;
}
