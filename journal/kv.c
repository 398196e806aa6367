#include "journal/kv.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/log.h"

struct kv {
	MDB_env *env;
	MDB_dbi dbi[KV_DBI_MAX];
	size_t page_size;
};

static int kv_err(int rc)
{
	switch (rc) {
	case MDB_SUCCESS:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_FULL:
	case MDB_DBS_FULL:
		return -ENOSPC;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_PAGE_FULL:
	case MDB_CURSOR_FULL:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
		return -EUCLEAN;
	case MDB_READERS_FULL:
		return -EAGAIN;
	case MDB_KEYEXIST:
		return -EEXIST;
	}
	return rc > 0 ? -rc : -EIO;
}

/* LMDB answers EIO to a short write, which is how a disk becomes full; errno tells it from a failing device. kv_begin
 * clears errno, no call of ours in between sets EIO. */
static int kv_write_err(int rc)
{
	return rc == EIO && errno != EIO ? -ENOSPC : kv_err(rc);
}

/* Sanitizers and resource limits leave less address space than a bare process has. */
static int env_open_shrinking(const char *dir, unsigned flags, size_t map, MDB_env **out)
{
	for (;; map /= 16) {
		MDB_env *env;
		int rc = mdb_env_create(&env);

		if (rc)
			return rc;
		if ((rc = mdb_env_set_mapsize(env, map)) == 0 && (rc = mdb_env_set_maxdbs(env, KV_DBI_MAX)) == 0 &&
			(rc = mdb_env_set_maxreaders(env, 126)) == 0 && (rc = mdb_env_open(env, dir, flags, 0600)) == 0) {
			*out = env;
			return 0;
		}
		mdb_env_close(env);
		if (rc != ENOMEM || (flags & MDB_WRITEMAP) || map < (size_t)8 << 30)
			return rc;
	}
}

static int dbis_open(struct kv *kv, bool readonly, const char *const *dbis)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(kv->env, NULL, readonly ? MDB_RDONLY : 0, &txn);

	if (rc)
		return rc;
	if (!dbis)
		rc = mdb_dbi_open(txn, NULL, 0, &kv->dbi[0]);
	for (int i = 0; !rc && dbis && dbis[i]; i++)
		rc = mdb_dbi_open(txn, dbis[i], readonly ? 0 : MDB_CREATE, &kv->dbi[i]);
	if (!rc)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

int kv_open(const char *dir, enum kv_mode mode, size_t map, const char *const *dbis, struct kv **out, struct errmsg *e)
{
	static const unsigned flags[] = {[KV_DURABLE] = MDB_NOTLS,
		[KV_READONLY] = MDB_NOTLS | MDB_RDONLY,
		[KV_HOT] = MDB_NOTLS | MDB_NOLOCK | MDB_WRITEMAP | MDB_NOSYNC | MDB_NORDAHEAD,
		[KV_HOT_READ] = MDB_NOTLS | MDB_NOLOCK | MDB_RDONLY};
	struct kv *kv = calloc(1, sizeof(*kv));
	int dead, rc = ENOMEM;
	MDB_stat stat;

	if (!kv)
		goto fail;
	rc = env_open_shrinking(dir, flags[mode], map, &kv->env);
	if (rc)
		goto fail;
	if ((mode == KV_DURABLE || mode == KV_READONLY) && (rc = mdb_reader_check(kv->env, &dead)) != 0)
		goto fail;
	rc = dbis_open(kv, mode == KV_READONLY || mode == KV_HOT_READ, dbis);
	if (rc || (rc = mdb_env_stat(kv->env, &stat)) != 0)
		goto fail;
	kv->page_size = stat.ms_psize;
	*out = kv;
	return 0;
fail:
	if (kv && kv->env)
		mdb_env_close(kv->env);
	free(kv);
	return errmsg_set(e, kv_err(rc), "%s: cannot open the database: %s%s", dir, mdb_strerror(rc),
		rc == MDB_INVALID || rc == MDB_CORRUPTED ? ": run jfs-recover check" : "");
}

void kv_close(struct kv *kv)
{
	if (!kv)
		return;
	mdb_env_close(kv->env);
	free(kv);
}

int kv_fd(const struct kv *kv)
{
	mdb_filehandle_t fd;

	return mdb_env_get_fd(kv->env, &fd) ? -1 : fd;
}

uint64_t kv_last_page(const struct kv *kv)
{
	MDB_envinfo info;

	return mdb_env_info(kv->env, &info) ? UINT64_MAX / 2 : info.me_last_pgno;
}

size_t kv_page_size(const struct kv *kv)
{
	return kv->page_size;
}

int kv_begin(struct kv *kv, bool write, struct MDB_txn **txn)
{
	int rc = mdb_txn_begin(kv->env, NULL, write ? 0 : MDB_RDONLY, txn);

	errno = 0;
	return kv_err(rc);
}

int kv_commit(struct MDB_txn *txn)
{
	return kv_write_err(mdb_txn_commit(txn));
}

void kv_abort(struct MDB_txn *txn)
{
	if (txn)
		mdb_txn_abort(txn);
}

void kv_reset(struct MDB_txn *txn)
{
	mdb_txn_reset(txn);
}

int kv_renew(struct MDB_txn *txn)
{
	return kv_err(mdb_txn_renew(txn));
}

static MDB_val val_of(const void *p, size_t n)
{
	return (MDB_val){.mv_size = n, .mv_data = (void *)(uintptr_t)p};
}

int kv_get(struct kv *kv, struct MDB_txn *txn, int dbi, const void *key, size_t klen, const void **val, size_t *vlen)
{
	MDB_val k = val_of(key, klen), v;
	int rc = mdb_get(txn, kv->dbi[dbi], &k, &v);

	if (rc)
		return kv_err(rc);
	*val = v.mv_data;
	*vlen = v.mv_size;
	return 0;
}

static int put(struct kv *kv, struct MDB_txn *txn, int dbi, const void *key, size_t klen, MDB_val *v, unsigned flags)
{
	MDB_val k = val_of(key, klen);

	return kv_write_err(mdb_put(txn, kv->dbi[dbi], &k, v, flags));
}

int kv_put(struct kv *kv, struct MDB_txn *txn, int dbi, const void *key, size_t klen, const void *val, size_t vlen)
{
	MDB_val v = val_of(val, vlen);

	return put(kv, txn, dbi, key, klen, &v, 0);
}

int kv_append(struct kv *kv, struct MDB_txn *txn, int dbi, const void *key, size_t klen, const void *val, size_t vlen)
{
	MDB_val v = val_of(val, vlen);

	return put(kv, txn, dbi, key, klen, &v, MDB_APPEND);
}

int kv_del(struct kv *kv, struct MDB_txn *txn, int dbi, const void *key, size_t klen)
{
	MDB_val k = val_of(key, klen);

	return kv_write_err(mdb_del(txn, kv->dbi[dbi], &k, NULL));
}

int kv_count(struct kv *kv, struct MDB_txn *txn, int dbi, size_t *n)
{
	MDB_stat st;
	int rc = mdb_stat(txn, kv->dbi[dbi], &st);

	*n = rc ? 0 : st.ms_entries;
	return kv_err(rc);
}

size_t kv_bytes(struct kv *kv, struct MDB_txn *txn, int dbi)
{
	MDB_stat st;

	if (mdb_stat(txn, kv->dbi[dbi], &st))
		return 0;
	return (st.ms_branch_pages + st.ms_leaf_pages + st.ms_overflow_pages) * kv->page_size;
}

int kv_cursor_open(struct kv *kv, struct MDB_txn *txn, int dbi, struct MDB_cursor **c)
{
	return kv_err(mdb_cursor_open(txn, kv->dbi[dbi], c));
}

int kv_cursor_renew(struct MDB_txn *txn, struct MDB_cursor *c)
{
	return kv_err(mdb_cursor_renew(txn, c));
}

void kv_cursor_close(struct MDB_cursor *c)
{
	if (c)
		mdb_cursor_close(c);
}

static int cursor_move(struct MDB_cursor *c, MDB_val *k, struct kv_pair *p, MDB_cursor_op op)
{
	MDB_val v;
	int rc = mdb_cursor_get(c, k, &v, op);

	if (rc)
		return kv_err(rc);
	*p = (struct kv_pair){.key = k->mv_data, .klen = k->mv_size, .val = v.mv_data, .vlen = v.mv_size};
	return 0;
}

int kv_cursor_first(struct MDB_cursor *c, struct kv_pair *p)
{
	MDB_val k;

	return cursor_move(c, &k, p, MDB_FIRST);
}

int kv_cursor_last(struct MDB_cursor *c, struct kv_pair *p)
{
	MDB_val k;

	return cursor_move(c, &k, p, MDB_LAST);
}

int kv_cursor_seek(struct MDB_cursor *c, const void *key, size_t klen, struct kv_pair *p)
{
	MDB_val k = val_of(key, klen);

	return klen ? cursor_move(c, &k, p, MDB_SET_RANGE) : kv_cursor_first(c, p);
}

int kv_cursor_next(struct MDB_cursor *c, struct kv_pair *p)
{
	MDB_val k;

	return cursor_move(c, &k, p, MDB_NEXT);
}

int kv_cursor_del(struct MDB_cursor *c)
{
	return kv_write_err(mdb_cursor_del(c, 0));
}

static int cursor_put(struct MDB_cursor *c, const void *key, size_t klen, MDB_val *v, unsigned flags)
{
	MDB_val k = val_of(key, klen);

	return kv_write_err(mdb_cursor_put(c, &k, v, flags));
}

int kv_cursor_put(struct MDB_cursor *c, const void *key, size_t klen, const void *val, size_t vlen)
{
	MDB_val v = val_of(val, vlen);

	return cursor_put(c, key, klen, &v, 0);
}

int kv_cursor_append(struct MDB_cursor *c, const void *key, size_t klen, const void *val, size_t vlen)
{
	MDB_val v = val_of(val, vlen);

	return cursor_put(c, key, klen, &v, MDB_APPEND);
}

int kv_cursor_reserve(struct MDB_cursor *c, const void *key, size_t klen, size_t vlen, void **room)
{
	MDB_val v = val_of(NULL, vlen);
	int err = cursor_put(c, key, klen, &v, MDB_RESERVE);

	*room = err ? NULL : v.mv_data;
	return err;
}

int kv_cursor_remove(struct MDB_cursor *c, const void *key, size_t klen)
{
	MDB_val k = val_of(key, klen), v;
	int rc = mdb_cursor_get(c, &k, &v, MDB_SET);

	return rc ? kv_err(rc) : kv_cursor_del(c);
}

/* --- SIGBUS --- */

/* One line of /proc/self/maps: does "from-to perms ..." hold the address? */
static bool line_holds(const char *line, uintptr_t addr)
{
	uintptr_t v[2] = {0, 0};
	int field = 0;

	for (; *line && *line != ' '; line++) {
		if (*line == '-')
			field = 1;
		else
			v[field] = v[field] * 16 + (uintptr_t)(*line <= '9' ? *line - '0' : *line - 'a' + 10);
	}
	return addr >= v[0] && addr < v[1];
}

/* Only async-signal-safe calls: it may have come in the middle of malloc. */
static void on_sigbus(int sig, siginfo_t *info, void *ctx)
{
	static const char text[] = "jfs: a mapped file cannot be read or written (SIGBUS), run jfs-recover check: ";
	static char line[4400];
	size_t n = 0;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	char c;

	(void)sig, (void)ctx;
	log_raw(text, sizeof(text) - 1);
	while (fd >= 0 && read(fd, &c, 1) == 1) {
		if (n < sizeof(line) - 2)
			line[n++] = c;
		if (c != '\n')
			continue;
		line[n] = 0;
		if (line_holds(line, (uintptr_t)info->si_addr)) {
			const char *name = memchr(line, '/', n);

			log_raw(name ? name : line, strlen(name ? name : line));
			break;
		}
		n = 0;
	}
	_exit(1);
}

void kv_catch_sigbus(void)
{
	struct sigaction sa = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

	sigemptyset(&sa.sa_mask);
	sigaction(SIGBUS, &sa, NULL);
}
