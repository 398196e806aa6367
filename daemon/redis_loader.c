#include "daemon/redis_loader.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "journal/evict.h"
#include "redis/keys.h"
#include "redis/load.h"
#include "util/clock.h"
#include "util/log.h"

#define RETRY_MS 200 /* between two tries while Redis is away or behind */

/* Small files that were made together are often read together, in whatever order: the second list that is asked for within a group
 * of inodes brings those of the whole group. */
#define GROUP 128   /* inodes */
#define GROUPS 1024 /* that are remembered */

struct flight {
	struct flight *next;
	enum fs_need_kind kind;
	uint64_t ino;
	uint32_t chunk;
	bool reload;
	const char *name;	/* NEED_ENTRY */
	struct rds_loaded *out; /* not NULL: the answer goes there, not into the view */
	size_t n_beside;	/* NEED_CHUNK: whose lists are loaded as well */
	uint64_t beside[GROUP];
	unsigned waiting;
	bool done;
	int rc;
};

struct idle {
	struct idle *next;
	struct rds_conn *conn;
};

struct redis_loader {
	struct rds_url url;
	struct fs *fs;
	redis_loader_ids_fn *ids;
	redis_loader_acl_fn *acl;
	void *ctx;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* CLOCK_MONOTONIC */
	pthread_rwlock_t view; /* read: an answer is being inserted; write: the view is being emptied */
	uint64_t emptied;      /* how often; under view */
	atomic_bool late;      /* an answer from before the last time was inserted */
	atomic_bool given_up;  /* what Redis is behind it stays behind */
	/* under lock: */
	struct flight *flights;
	struct idle *idle;
	uint64_t groups[GROUPS]; /* number + 1 of the one of which a list was loaded last */
	bool cancelled;
	long long last_log;
};

int redis_loader_new(const struct rds_url *url, struct fs *fs, redis_loader_ids_fn *ids, redis_loader_acl_fn *acl, void *ctx,
	struct redis_loader **out)
{
	struct redis_loader *l = calloc(1, sizeof(*l));
	pthread_condattr_t attr;

	if (!l)
		return -ENOMEM;
	l->url = *url;
	l->fs = fs;
	l->ids = ids;
	l->acl = acl;
	l->ctx = ctx;
	pthread_mutex_init(&l->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_rwlockattr_t rw;

	pthread_rwlockattr_init(&rw);
	pthread_rwlockattr_setkind_np(&rw, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&l->view, &rw);
	pthread_rwlockattr_destroy(&rw);
	*out = l;
	return 0;
}

void redis_loader_free(struct redis_loader *l)
{
	if (!l)
		return;
	while (l->idle) {
		struct idle *i = l->idle;

		l->idle = i->next;
		rds_conn_free(i->conn);
		free(i);
	}
	pthread_rwlock_destroy(&l->view);
	pthread_cond_destroy(&l->changed);
	pthread_mutex_destroy(&l->lock);
	explicit_bzero(&l->url, sizeof(l->url));
	free(l);
}

static void loader_cancel(void *ctx)
{
	struct redis_loader *l = ctx;

	pthread_mutex_lock(&l->lock);
	l->cancelled = true;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
}

void redis_loader_give_up(struct redis_loader *l)
{
	atomic_store(&l->given_up, true);
}

static bool is_cancelled(struct redis_loader *l)
{
	pthread_mutex_lock(&l->lock);
	bool c = l->cancelled;
	pthread_mutex_unlock(&l->lock);
	return c;
}

/* Waits before the next try; ends early when cancelled. */
static void pause_before_retry(struct redis_loader *l)
{
	struct timespec until = clock_mono_after_ms(RETRY_MS);

	pthread_mutex_lock(&l->lock);
	while (!l->cancelled && pthread_cond_timedwait(&l->changed, &l->lock, &until) == 0)
		;
	pthread_mutex_unlock(&l->lock);
}

static struct rds_conn *conn_take(struct redis_loader *l, int *rc, struct errmsg *e)
{
	struct rds_conn *c = NULL;

	pthread_mutex_lock(&l->lock);
	struct idle *i = l->idle;
	if (i)
		l->idle = i->next;
	pthread_mutex_unlock(&l->lock);
	if (i) {
		c = i->conn;
		free(i);
		*rc = rds_conn_ok(c) ? 0 : rds_reconnect(c, e);
	} else {
		*rc = rds_conn_new(&l->url, &c, e);
	}
	if (*rc) {
		rds_conn_free(c);
		return NULL;
	}
	return c;
}

static void conn_give(struct redis_loader *l, struct rds_conn *c)
{
	struct idle *i = rds_conn_ok(c) && rds_conn_pending(c) == 0 ? malloc(sizeof(*i)) : NULL;

	if (!i) {
		rds_conn_free(c);
		return;
	}
	i->conn = c;
	pthread_mutex_lock(&l->lock);
	i->next = l->idle;
	l->idle = i;
	pthread_mutex_unlock(&l->lock);
}

/* Asks Redis for one thing. */
static int ask(struct rds_conn *c, const struct flight *f, struct rds_loaded *a, struct errmsg *e)
{
	switch (f->kind) {
	case NEED_DIR:
		return rds_load_dir(c, f->ino, a, e);
	case NEED_ENTRY:
		return rds_load_entry(c, f->ino, f->name, strlen(f->name), a, e);
	case NEED_INODE:
		return rds_load_inode(c, f->ino, a, e);
	case NEED_CHUNK:
		return rds_load_chunk(c, f->ino, f->chunk, f->beside, f->n_beside, a, e);
	case NEED_XATTR:
		return rds_load_xattrs(c, f->ino, a, e);
	case NEED_SYMLINK:
		return rds_load_symlink(c, f->ino, a, e);
	case NEED_PARENTS:
		return rds_load_parents(c, f->ino, a, e);
	default:
		return errmsg_set(e, -EINVAL, "nothing that Redis could answer");
	}
}

static int insert_dir(struct redis_loader *l, const struct flight *f, const struct rds_loaded *a)
{
	struct fs_loaded_entry *v = calloc(a->n + 1, sizeof(*v));
	int rc = 0;

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < a->n; i++)
		v[i] = (struct fs_loaded_entry){.name = a->entries[i].name.p, .name_len = a->entries[i].name.n,
			.type = a->entries[i].type, .ino = a->entries[i].ino, .record = a->entries[i].record.p,
			.record_len = a->entries[i].record.n};
	if (a->value.p)
		rc = fs_insert_inode(l->fs, a->pos.seq, f->ino, a->value.p, a->value.n);
	if (!rc)
		rc = fs_insert_dir(l->fs, a->pos.seq, f->ino, v, a->n);
	free(v);
	return rc;
}

static int insert_xattrs(struct redis_loader *l, const struct flight *f, const struct rds_loaded *a)
{
	struct fs_loaded_xattr *v = calloc(a->n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < a->n; i++)
		v[i] = (struct fs_loaded_xattr){.name = a->pairs[i].name.p, .val = a->pairs[i].val.p, .name_len = a->pairs[i].name.n,
			.val_len = a->pairs[i].val.n};
	int rc = fs_insert_xattrs(l->fs, a->pos.seq, f->ino, v, a->n);
	free(v);
	return rc;
}

static int insert_parents(struct redis_loader *l, const struct flight *f, const struct rds_loaded *a)
{
	struct fs_loaded_parent *p = calloc(a->n + 1, sizeof(*p));
	int64_t names;
	int rc = 0;

	if (!p)
		return -ENOMEM;
	for (size_t i = 0; i < a->n && !rc; i++) {
		rc = rds_parse_u64((const char *)a->pairs[i].name.p, a->pairs[i].name.n, &p[i].parent);
		if (!rc)
			rc = rds_parse_i64((const char *)a->pairs[i].val.p, a->pairs[i].val.n, &names);
		if (!rc && names > 0 && names <= UINT32_MAX) /* a count that fell to 0 is left there */
			p[i].names = (uint32_t)names;
	}
	rc = rc ? -EUCLEAN : fs_insert_parents(l->fs, a->pos.seq, f->ino, p, a->n);
	free(p);
	return rc;
}

/* What lies beside it is inserted as far as that goes: nobody waits for it, and who wants it asks again. */
static int insert_chunk(struct redis_loader *l, const struct flight *f, const struct rds_loaded *a)
{
	int rc = (f->reload ? fs_reload_chunk : fs_insert_chunk)(l->fs, a->pos.seq, f->ino, f->chunk, a->value.p, a->n);

	for (size_t i = 0; !rc && i < f->n_beside; i++) {
		const struct rds_entry *b = &a->entries[i];
		int err = b->record.p ? fs_insert_chunk(l->fs, a->pos.seq, b->ino, 0, b->record.p, b->record.n / JFS_SLICE_LEN) : 0;

		if (err && err != -ENOENT && err != -EUCLEAN) /* those two concern one file */
			break;
	}
	return rc;
}

/* Puts the answer into the view. -ENOENT: the thing does not exist. */
static int insert(struct redis_loader *l, const struct flight *f, const struct rds_loaded *a)
{
	switch (f->kind) {
	case NEED_DIR:
		return insert_dir(l, f, a);
	case NEED_INODE:
		return fs_insert_inode(l->fs, a->pos.seq, f->ino, a->value.p, a->value.n);
	case NEED_CHUNK:
		return insert_chunk(l, f, a);
	case NEED_XATTR:
		return insert_xattrs(l, f, a);
	case NEED_PARENTS:
		return insert_parents(l, f, a);
	case NEED_SYMLINK:
		return fs_insert_symlink(l->fs, a->pos.seq, f->ino, a->value.p, a->value.n);
	default:
		return -EINVAL;
	}
}

static int insert_with_room(struct redis_loader *l, const struct flight *f, const struct rds_loaded *a)
{
	int rc;

	while ((rc = insert(l, f, a)) == FS_ROOM) {
		rc = journal_wait_room(fs_journal(l->fs));
		if (rc)
			return rc;
	}
	return rc;
}

static uint64_t times_emptied(struct redis_loader *l)
{
	pthread_rwlock_rdlock(&l->view);
	uint64_t n = l->emptied;
	pthread_rwlock_unlock(&l->view);
	return n;
}

/* `emptied`: when the answer was asked for. An old one is inserted as well, or a directory that takes longer to load than a
 * writer takes to change something would never be shown. */
static int insert_whole(struct redis_loader *l, const struct flight *f, const struct rds_loaded *a, uint64_t emptied)
{
	pthread_rwlock_rdlock(&l->view);
	if (l->emptied != emptied)
		atomic_store(&l->late, true);
	int rc = insert_with_room(l, f, a);
	pthread_rwlock_unlock(&l->view);
	return rc;
}

bool redis_loader_late(struct redis_loader *l)
{
	return atomic_load(&l->late);
}

int redis_loader_empty(struct redis_loader *l, uint64_t *dropped)
{
	pthread_rwlock_wrlock(&l->view);
	l->emptied++;
	atomic_store(&l->late, false);
	int rc = journal_drop_clean(fs_journal(l->fs), 0, dropped);
	pthread_rwlock_unlock(&l->view);
	return rc;
}

/* Network trouble passes; what is there but cannot be understood does not. */
static bool passes(int rc)
{
	return rds_err_is_fatal(rc) || rc == -EAGAIN || rc == -EBUSY || rc == -ESTALE || rc == -EHOSTUNREACH ||
		rc == -ECONNREFUSED || rc == -EHOSTDOWN || rc == -ENOENT;
}

/* The key that was asked for. */
static void name_key(const struct flight *f, char out[RDS_KEY_MAX])
{
	switch (f->kind) {
	case NEED_DIR:
		rds_key_dir(out, NULL, f->ino);
		break;
	case NEED_CHUNK:
		rds_key_chunk(out, NULL, f->ino, f->chunk);
		break;
	case NEED_XATTR:
		rds_key_xattr(out, NULL, f->ino);
		break;
	case NEED_SYMLINK:
		rds_key_symlink(out, NULL, f->ino);
		break;
	case NEED_PARENTS:
		rds_key_parents(out, NULL, f->ino);
		break;
	default:
		rds_key_inode(out, NULL, f->ino);
	}
}

/* What arrived and cannot be: logged here, EIO for who asked. */
static int told(const struct flight *f, int inserted)
{
	char key[RDS_KEY_MAX];

	if (inserted != -EUCLEAN && inserted != -EBADMSG && inserted != -EIO && inserted != -EINVAL && inserted != -ERANGE)
		return inserted;
	name_key(f, key);
	log_error("what=\"metadata in Redis is damaged\" key=%s inode=%llu err=%d", key, (unsigned long long)f->ino, inserted);
	return -EIO;
}

static int fly(struct redis_loader *l, const struct flight *f)
{
	for (;;) {
		struct rds_loaded a;
		struct errmsg e = {""};
		int rc, inserted = 1;

		if (is_cancelled(l))
			return -EIO;
		uint64_t emptied = times_emptied(l);
		struct rds_conn *c = conn_take(l, &rc, &e);
		if (c) {
			rds_loaded_init(&a);
			rc = ask(c, f, &a, &e);
			if (!rc && f->out)
				inserted = 0;
			else if (!rc)
				inserted = insert_whole(l, f, &a, emptied);
			if (!rc && f->out)
				*f->out = a;
			else
				rds_loaded_free(&a);
			conn_give(l, c);
			if (!rc && inserted != -ESTALE)
				return told(f, inserted);
			if (!rc && atomic_load(&l->given_up))
				return -EIO;
		}
		if (rc && !passes(rc)) {
			log_error("what=\"cannot load metadata\" inode=%llu kind=%d err=%d detail=\"%s\"", (unsigned long long)f->ino,
				(int)f->kind, rc, e.text);
			return -EIO;
		}
		if (log_ratelimit(&l->last_log, 10000))
			log_warn("what=\"waiting for Redis to load metadata\" inode=%llu err=%d detail=\"%s\"",
				(unsigned long long)f->ino, rc, rc ? e.text : "Redis is behind what was applied");
		pause_before_retry(l);
	}
}

int redis_loader_do(struct redis_loader *l, int (*fn)(void *arg, struct rds_conn *c, struct errmsg *e), void *arg)
{
	for (;;) {
		struct errmsg e = {""};
		int rc;

		if (is_cancelled(l))
			return -EIO;
		struct rds_conn *c = conn_take(l, &rc, &e);
		if (c) {
			rc = fn(arg, c, &e);
			conn_give(l, c);
		}
		if (!rc)
			return 0;
		if (!passes(rc)) {
			log_error("what=\"Redis refused\" err=%d detail=\"%s\"", rc, e.text);
			return rc;
		}
		if (log_ratelimit(&l->last_log, 10000))
			log_warn("what=\"waiting for Redis\" err=%d detail=\"%s\"", rc, e.text);
		pause_before_retry(l);
	}
}

/* Whether another list of the group was loaded lately; from now on one was. */
static bool group_again(struct redis_loader *l, uint64_t group)
{
	uint64_t *at = &l->groups[group % GROUPS];

	pthread_mutex_lock(&l->lock);
	bool again = *at == group + 1;
	*at = group + 1;
	pthread_mutex_unlock(&l->lock);
	return again;
}

static void look_beside(struct redis_loader *l, struct flight *f)
{
	if (f->kind != NEED_CHUNK || f->chunk != 0 || f->reload || !group_again(l, f->ino / GROUP))
		return;
	size_t n = fs_chunks_missing(l->fs, f->ino / GROUP * GROUP, GROUP, f->beside);
	for (size_t i = 0; i < n; i++)
		if (f->beside[i] != f->ino)
			f->beside[f->n_beside++] = f->beside[i];
}

/* Joins a load of the same thing or makes it. */
static int load(struct redis_loader *l, enum fs_need_kind kind, uint64_t ino, uint32_t chunk, bool reload)
{
	struct flight *f, **p;
	int rc;

	pthread_mutex_lock(&l->lock);
	for (f = l->flights; f; f = f->next)
		if (f->kind == kind && f->ino == ino && f->chunk == chunk && f->reload == reload)
			break;
	if (f) {
		f->waiting++;
		while (!f->done)
			pthread_cond_wait(&l->changed, &l->lock);
		rc = f->rc;
		if (--f->waiting == 0)
			free(f);
		pthread_mutex_unlock(&l->lock);
		return rc;
	}
	f = calloc(1, sizeof(*f));
	if (!f) {
		pthread_mutex_unlock(&l->lock);
		return -ENOMEM;
	}
	*f = (struct flight){.next = l->flights, .kind = kind, .ino = ino, .chunk = chunk, .reload = reload};
	l->flights = f;
	pthread_mutex_unlock(&l->lock);

	look_beside(l, f);
	rc = fly(l, f);

	pthread_mutex_lock(&l->lock);
	for (p = &l->flights; *p != f; p = &(*p)->next)
		;
	*p = f->next;
	f->done = true;
	f->rc = rc;
	if (f->waiting == 0)
		free(f);
	else
		pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	return rc;
}

/* A part of an inode that is not held (any more) is put nowhere. Then the inode is loaded: the operation asks again. */
static int load_part(struct redis_loader *l, enum fs_need_kind kind, uint64_t ino, uint32_t chunk, bool reload)
{
	int rc = load(l, kind, ino, chunk, reload);

	if (rc == -ENOENT && (kind == NEED_CHUNK || kind == NEED_XATTR || kind == NEED_SYMLINK))
		rc = load(l, NEED_INODE, ino, 0, false);
	return rc;
}

static int load_tree(struct redis_loader *l, uint64_t root, bool all);

static int loader_load(void *ctx, const struct fs_need *need)
{
	struct redis_loader *l = ctx;

	if (need->kind == NEED_INODE_IDS)
		return is_cancelled(l) ? -EIO : l->ids(l->ctx);
	if (need->kind == NEED_ACL || need->kind == NEED_ACL_NUMBER)
		return is_cancelled(l) ? -EIO : l->acl(l->ctx, need);
	if (need->kind == NEED_PARENTS) {
		int rc = is_cancelled(l) ? -EIO : l->acl(l->ctx, need);

		if (rc)
			return rc;
	}
	if (need->kind == NEED_TRASH)
		return -EPERM;
	if (need->kind == NEED_TREE)
		return load_tree(l, need->ino, true);
	return load_part(l, need->kind, need->ino, need->kind == NEED_CHUNK ? need->chunk : 0, false);
}

static int loader_reload_chunk(void *ctx, uint64_t ino, uint32_t chunk)
{
	return load_part(ctx, NEED_CHUNK, ino, chunk, true);
}

static int loader_fetch(void *ctx, const struct fs_need *need, const char *name, struct rds_loaded *out)
{
	struct flight f = {.kind = need->kind, .ino = need->ino, .chunk = need->chunk, .name = name, .out = out};

	return fly(ctx, &f);
}

void redis_loader_iface(struct redis_loader *l, struct loader *out)
{
	*out = (struct loader){.load = loader_load, .reload_chunk = loader_reload_chunk, .fetch = loader_fetch,
		.cancel = loader_cancel, .ctx = l};
}

/* --- prime --- */

struct dirs {
	uint64_t *ino;
	size_t n, room;
	int rc;
};

static int collect_dir(void *arg, const struct fs_dirent *d)
{
	struct dirs *q = arg;

	if (d->type != JFS_DIR || d->cookie <= 2)
		return 0;
	if (q->n == q->room) {
		size_t room = q->room ? q->room * 2 : 256;
		uint64_t *p = realloc(q->ino, room * sizeof(*p));

		if (!p)
			return q->rc = -ENOMEM;
		q->ino = p;
		q->room = room;
	}
	q->ino[q->n++] = d->ino;
	return 0;
}

/* `all`: one that is damaged ends it. */
static int load_tree(struct redis_loader *l, uint64_t root, bool all)
{
	struct dirs q = {0};
	struct fs_need need;
	struct fs_dirent first = {.ino = root, .type = JFS_DIR, .cookie = 16};

	collect_dir(&q, &first);
	while (!q.rc && q.n > 0) {
		size_t at = q.n - 1;
		uint64_t ino = q.ino[at];
		int rc = fs_readdir(l->fs, ino, 0, false, collect_dir, &q, &need);

		if (rc == FS_NEED) {
			q.rc = loader_load(l, &need);
			/* What is damaged was told; it stays EIO for who looks there, and the rest is loaded. */
			if (q.rc == -EIO && !all && !is_cancelled(l)) {
				q.rc = 0;
				q.ino[at] = q.ino[--q.n];
			}
			continue;
		}
		if (rc < 0 && !q.rc)
			q.rc = rc;
		if (!q.rc)
			q.ino[at] = q.ino[--q.n]; /* done; its sub-directories were put behind it */
	}
	free(q.ino);
	return q.rc;
}

int redis_loader_prime(struct redis_loader *l, uint64_t root)
{
	return load_tree(l, root, false);
}
