/* The file back end: objects are files below the bucket directory (spec/juicefs-format.md 4.7), served by two small
 * pools of threads, one that writes and deletes, one that reads.
 *
 * Invariants. An object appears whole or not at all: it is written under ".jfs.NAME.tmp.RANDOM" and renamed. A PUT that
 * was answered with 0 is durable: file, its directory, and every directory made for it have been synced, because the
 * local bytes may be given up on that answer. No key leads out of the root. Failure modes: any error of a call is the
 * request's answer and leaves no temporary file (a crash may leave one; a stock `gc` collects those below chunks/). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "s3/shard.h"
#include "s3/store.h"
#include "util/fault.h"

enum { WRITERS_MAX = 16, READERS = 4, PATH_SIZE = 4096, BASENAME_CUT = 200, OBJECT_MAX = 1 << 30, DURABLE_SLOTS = 1024 };

struct file_call {
	STAILQ_ENTRY(file_call) link;
	struct obj_request req; /* key is ours */
};
STAILQ_HEAD(call_list, file_call);

struct pool {
	struct store_file *st;
	pthread_t threads[WRITERS_MAX];
	unsigned nthreads;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct call_list queue[2]; /* lock; [1]: interactive */
	bool closing;		   /* lock */
};

struct store_file {
	struct backend be;
	char **roots; /* one per shard, prepended to the key as it is */
	unsigned shards;
	struct pool writers, readers;
	/* Directories that this process has seen synced into all their parents, as hashes of their paths, direct-mapped.
	 * Whoever finds a directory must not trust that its maker has synced it already. */
	pthread_mutex_t durable_lock;
	uint64_t durable[DURABLE_SLOTS]; /* durable_lock; 0: free */
};

/* ---- paths ---- */

/* Components must be names: not empty, "." or "..". */
static bool key_valid(const char *key)
{
	if (!*key)
		return false;
	while (*key) {
		size_t n = strcspn(key, "/");

		if (n == 0 || (n == 1 && key[0] == '.') || (n == 2 && key[0] == '.' && key[1] == '.'))
			return false;
		key += n;
		if (*key == '/' && !*++key)
			return false;
	}
	return true;
}

static int path_make(const struct store_file *st, const char *key, char path[PATH_SIZE])
{
	int n;

	if (!key_valid(key))
		return -EINVAL;
	n = snprintf(path, PATH_SIZE, "%s%s", st->roots[shard_pick(key, st->shards)], key);
	return n < 0 || n >= PATH_SIZE ? -ENAMETOOLONG : 0;
}

static int dir_sync(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 ? -errno : 0;

	if (!err && fsync(fd) < 0)
		err = -errno;
	if (fd >= 0)
		close(fd);
	return err;
}

static uint64_t path_hash(const char *s)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 0x100000001b3u;
	return h ? h : 1;
}

static bool dir_is_durable(struct store_file *st, uint64_t hash)
{
	pthread_mutex_lock(&st->durable_lock);
	bool known = st->durable[hash % DURABLE_SLOTS] == hash;
	pthread_mutex_unlock(&st->durable_lock);
	return known;
}

/* Makes the directory `path` and what leads to it, and syncs each of them into its parent. `path` is restored. */
static int dir_make(struct store_file *st, char *path, bool again)
{
	uint64_t hash = path_hash(path);
	char *slash = strrchr(path, '/');
	int err = 0;

	if (!again && dir_is_durable(st, hash))
		return 0;
	if (slash && slash != path) {
		*slash = 0;
		err = dir_make(st, path, again);
		*slash = '/';
	}
	if (!err && mkdir(path, 0777) < 0 && errno != EEXIST)
		err = -errno;
	if (err)
		return err;
	if (slash && slash != path) {
		*slash = 0;
		err = dir_sync(path);
		*slash = '/';
	} else {
		err = dir_sync("/");
	}
	if (!err) {
		pthread_mutex_lock(&st->durable_lock);
		st->durable[hash % DURABLE_SLOTS] = hash;
		pthread_mutex_unlock(&st->durable_lock);
	}
	return err;
}

/* ---- operations ---- */

static int write_all(int fd, const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t did = write(fd, p, n);

		if (did < 0 && errno == EINTR)
			continue;
		if (did < 0)
			return -errno;
		p += did;
		n -= (size_t)did;
	}
	return 0;
}

static int temporary_write(const char *tmp, const void *data, size_t len)
{
	int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	int err = fd < 0 ? -errno : 0;

	if (err)
		return err;
	err = write_all(fd, data, len);
	if (!err)
		err = FAULT_ERR("s3.file.write");
	if (!err && fsync(fd) < 0)
		err = -errno;
	if (close(fd) < 0 && !err)
		err = -errno;
	if (err)
		unlink(tmp);
	return err;
}

static int file_put(struct store_file *st, char *path, const void *data, size_t len)
{
	char *slash = strrchr(path, '/'), *tmp;
	uint32_t r;
	int err;

	if (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r))
		return -EIO;
	*slash = 0;
	if (asprintf(&tmp, "%s/.jfs.%.*s.tmp.%u", path, BASENAME_CUT, slash + 1, r) < 0) {
		*slash = '/';
		return -ENOMEM;
	}
	err = dir_make(st, path, false);
	if (!err)
		err = temporary_write(tmp, data, len);
	if (err == -ENOENT) { /* somebody removed a directory that we knew */
		err = dir_make(st, path, true);
		if (!err)
			err = temporary_write(tmp, data, len);
	}
	*slash = '/';
	if (!err && rename(tmp, path) < 0) {
		err = -errno;
		unlink(tmp);
	}
	if (!err) {
		*slash = 0;
		err = dir_sync(path);
		*slash = '/';
	}
	free(tmp);
	return err;
}

static int read_all(int fd, uint8_t *p, size_t n, uint64_t off, size_t *got)
{
	*got = 0;
	while (*got < n) {
		ssize_t did = pread(fd, p + *got, n - *got, (off_t)(off + *got));

		if (did < 0 && errno == EINTR)
			continue;
		if (did < 0)
			return -errno;
		if (did == 0)
			return 0;
		*got += (size_t)did;
	}
	return 0;
}

/* ENOTDIR: a file lies where the key has a directory, so there is no such object either. */
static int missing(int err)
{
	return err == -ENOTDIR ? -ENOENT : err;
}

static int file_open(const char *path, int *fd, struct stat *s)
{
	*fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return missing(-errno);
	if (fstat(*fd, s) < 0)
		return -errno;
	return S_ISREG(s->st_mode) ? 0 : -ENOENT;
}

static int file_get(const char *path, const struct obj_request *req, uint8_t **data, size_t *len)
{
	uint64_t off = req->range_len ? req->range_off : 0, want;
	struct stat s;
	int fd = -1, err;

	err = file_open(path, &fd, &s);
	if (err)
		goto out;
	want = (uint64_t)s.st_size > off ? (uint64_t)s.st_size - off : 0;
	if (req->range_len && want > req->range_len)
		want = req->range_len;
	if (want > OBJECT_MAX) {
		err = -EFBIG;
		goto out;
	}
	*data = malloc(want ? want : 1);
	err = *data ? read_all(fd, *data, want, off, len) : -ENOMEM;
	if (!err && *len != want)
		err = -EBADMSG; /* objects do not change */
out:
	if (fd >= 0)
		close(fd);
	return err;
}

static void call_run(struct store_file *st, struct file_call *c)
{
	static const char *const names[] = {"PUT", "GET", "HEAD", "DELETE"};
	struct obj_result res = {.detail = ""};
	char path[PATH_SIZE] = "", detail[PATH_SIZE + 200];
	uint8_t *data = NULL;
	struct stat s;

	res.err = path_make(st, c->req.key, path);
	if (!res.err) {
		switch (c->req.op) {
		case OBJ_PUT:
			res.err = file_put(st, path, c->req.data, c->req.len);
			break;
		case OBJ_GET:
			res.err = file_get(path, &c->req, &data, &res.len);
			res.data = data;
			break;
		case OBJ_HEAD:
			res.err = stat(path, &s) < 0 ? missing(-errno) : S_ISREG(s.st_mode) ? 0 : -ENOENT;
			res.size = res.err ? 0 : (uint64_t)s.st_size;
			res.mtime = res.err ? 0 : s.st_mtime;
			break;
		case OBJ_DELETE:
			res.err = FAULT_ERR("s3.file.delete");
			if (!res.err && unlink(path) < 0)
				res.err = missing(-errno);
			res.err = res.err == -ENOENT ? 0 : res.err;
			break;
		}
	}
	if (res.err) {
		snprintf(detail, sizeof(detail), "%s %s: %s", names[c->req.op], *path ? path : c->req.key,
			*path ? strerror(-res.err) : "the key is no path below the bucket");
		res.detail = detail;
	}
	c->req.done(c->req.arg, &res);
	free(data);
}

/* ---- pools ---- */

static void call_free(struct file_call *c)
{
	free((char *)c->req.key);
	free(c);
}

static struct file_call *pool_take(struct pool *p, bool *closing)
{
	struct file_call *c = NULL;

	pthread_mutex_lock(&p->lock);
	while (!(c = STAILQ_FIRST(&p->queue[1])) && !(c = STAILQ_FIRST(&p->queue[0])) && !p->closing)
		pthread_cond_wait(&p->cond, &p->lock);
	if (c)
		STAILQ_REMOVE_HEAD(&p->queue[c->req.interactive], link);
	*closing = p->closing;
	pthread_mutex_unlock(&p->lock);
	return c;
}

static void *pool_run(void *arg)
{
	static const struct obj_result canceled = {
		.err = -ECANCELED, .detail = "canceled: the store is being closed"};
	struct pool *p = arg;
	struct file_call *c;
	bool closing;

	pthread_setname_np(pthread_self(), "jfs-store");
	while ((c = pool_take(p, &closing))) {
		if (closing)
			c->req.done(c->req.arg, &canceled);
		else
			call_run(p->st, c);
		call_free(c);
	}
	return NULL;
}

static int pool_start(struct pool *p, struct store_file *st, unsigned n)
{
	int err = 0;

	p->st = st;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->cond, NULL);
	STAILQ_INIT(&p->queue[0]);
	STAILQ_INIT(&p->queue[1]);
	while (!err && p->nthreads < n) {
		err = -pthread_create(&p->threads[p->nthreads], NULL, pool_run, p);
		p->nthreads += !err;
	}
	return err;
}

static void pool_stop(struct pool *p)
{
	if (!p->st)
		return;
	pthread_mutex_lock(&p->lock);
	p->closing = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->nthreads; i++)
		pthread_join(p->threads[i], NULL);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->lock);
}

/* ---- the back end ---- */

static int file_submit(struct backend *be, const struct obj_request *req, unsigned retries)
{
	struct store_file *st = (struct store_file *)be;
	struct pool *p = req->op == OBJ_PUT || req->op == OBJ_DELETE ? &st->writers : &st->readers;
	struct file_call *c = calloc(1, sizeof(*c));

	(void)retries; /* a local error does not pass */
	if (!c)
		return -ENOMEM;
	c->req = *req;
	c->req.key = strdup(req->key);
	if (!c->req.key) {
		free(c);
		return -ENOMEM;
	}
	pthread_mutex_lock(&p->lock);
	STAILQ_INSERT_TAIL(&p->queue[req->interactive], c, link);
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

struct walk {
	const char *prefix;
	size_t root_len;
	int (*fn)(void *arg, const char *key, uint64_t size, int64_t mtime);
	void *arg;
	struct errmsg *e;
};

/* Whether what lies at or below `key` can begin with the prefix. */
static bool walk_wants(const struct walk *w, const char *key, bool dir)
{
	size_t n = strlen(key), m = strlen(w->prefix);

	return strncmp(key, w->prefix, dir && n < m ? n : m) == 0;
}

static int walk_dir(const struct walk *w, char path[PATH_SIZE]);

/* `path` holds an entry of a directory. What vanishes meanwhile is not listed. */
static int walk_entry(const struct walk *w, char path[PATH_SIZE])
{
	const char *key = path + w->root_len;
	struct stat s;

	if (lstat(path, &s) < 0)
		return errno == ENOENT ? 0 : errmsg_set(w->e, -errno, "LIST %s: %s", path, strerror(errno));
	if (S_ISDIR(s.st_mode))
		return walk_wants(w, key, true) ? walk_dir(w, path) : 0;
	if (!S_ISREG(s.st_mode) || !walk_wants(w, key, false))
		return 0;
	return w->fn(w->arg, key, (uint64_t)s.st_size, s.st_mtime);
}

static int walk_dir(const struct walk *w, char path[PATH_SIZE])
{
	size_t n = strlen(path);
	DIR *d = opendir(path);
	struct dirent *de;
	int err = 0;

	if (!d)
		return errno == ENOENT ? 0 : errmsg_set(w->e, -errno, "LIST %s: %s", path, strerror(errno));
	while (!err && (errno = 0, de = readdir(d))) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if ((size_t)snprintf(path + n, PATH_SIZE - n, "%s%s", path[n - 1] == '/' ? "" : "/", de->d_name) >=
			PATH_SIZE - n)
			err = errmsg_set(w->e, -ENAMETOOLONG, "LIST %.200s...: the path is too long", path);
		else
			err = walk_entry(w, path);
		path[n] = 0;
	}
	if (!err && errno)
		err = errmsg_set(w->e, -errno, "LIST %s: %s", path, strerror(errno));
	closedir(d);
	return err;
}

static int file_list(struct backend *be, const char *prefix,
	int (*fn)(void *arg, const char *key, uint64_t size, int64_t mtime), void *arg, struct errmsg *e)
{
	struct store_file *st = (struct store_file *)be;
	int err = 0;

	for (unsigned i = 0; i < st->shards && !err; i++) {
		struct walk w = {prefix, strlen(st->roots[i]), fn, arg, e};
		char path[PATH_SIZE];

		snprintf(path, sizeof(path), "%s", st->roots[i]);
		err = walk_dir(&w, path);
	}
	return err;
}

static int file_create(struct backend *be, struct errmsg *e)
{
	struct store_file *st = (struct store_file *)be;

	for (unsigned i = 0; i < st->shards; i++) {
		char path[PATH_SIZE];
		int err;

		snprintf(path, sizeof(path), "%s", st->roots[i]);
		while (strlen(path) > 1 && path[strlen(path) - 1] == '/')
			path[strlen(path) - 1] = 0;
		err = dir_make(st, path, false);
		if (err)
			return errmsg_set(e, err, "cannot make the bucket directory %s: %s", path, strerror(-err));
	}
	return 0;
}

static void file_close(struct backend *be)
{
	struct store_file *st = (struct store_file *)be;

	pool_stop(&st->writers);
	pool_stop(&st->readers);
	pthread_mutex_destroy(&st->durable_lock);
	for (unsigned i = 0; st->roots && i < st->shards; i++)
		free(st->roots[i]);
	free(st->roots);
	free(st);
}

static const struct backend_ops file_ops = {file_submit, file_list, file_create, NULL, file_close};

static int roots_make(struct store_file *st, const struct obj_config *cfg, struct errmsg *e)
{
	if (!cfg->bucket || cfg->bucket[0] != '/')
		return errmsg_set(e, -EINVAL, "bucket \"%s\" of storage file must be an absolute path",
			cfg->bucket ? cfg->bucket : "");
	for (unsigned i = 0; i < st->shards; i++) {
		char root[PATH_SIZE / 2];
		int err = shard_bucket(cfg->bucket, st->shards, i, root, sizeof(root), e);

		if (err)
			return err;
		/* format ends every Bucket with '/'; one without would make files beside the directory */
		if (asprintf(&st->roots[i], "%s%s", root, root[strlen(root) - 1] == '/' ? "" : "/") < 0) {
			st->roots[i] = NULL;
			return errmsg_set(e, -ENOMEM, "out of memory");
		}
	}
	return 0;
}

int store_file_open(const struct obj_config *cfg, struct backend **out, struct errmsg *e)
{
	struct store_file *st = calloc(1, sizeof(*st));
	unsigned writers = cfg->max_parallel < 1 ? 1 : cfg->max_parallel > WRITERS_MAX ? WRITERS_MAX : cfg->max_parallel;
	int err;

	if (!st)
		return errmsg_set(e, -ENOMEM, "out of memory");
	st->be.ops = &file_ops;
	pthread_mutex_init(&st->durable_lock, NULL);
	st->shards = cfg->shards > 1 ? cfg->shards : 1;
	st->roots = calloc(st->shards, sizeof(*st->roots));
	err = st->roots ? roots_make(st, cfg, e) : errmsg_set(e, -ENOMEM, "out of memory");
	if (!err) {
		err = pool_start(&st->writers, st, writers);
		if (!err)
			err = pool_start(&st->readers, st, READERS);
		if (err)
			errmsg_set(e, err, "cannot start the threads of the object store: %s", strerror(-err));
	}
	if (err) {
		file_close(&st->be);
		return err;
	}
	*out = &st->be;
	return 0;
}
