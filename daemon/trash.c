/* See trash.h. An operation's run() only sends it to a worker; fetch() there asks Redis and leaves the reply in the
 * request. The lock protects the snapshot alone; it is not held while anything waits. */
#include "daemon/trash.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/req.h"
#include "daemon/trash_list.h"
#include "journal/extent.h"
#include "util/clock.h"

static const double TTL = 1; /* seconds that the kernel may remember an answer */
#define SNAPSHOT_NS 10000000000ull /* how long a snapshot serves readers that go on */

struct snapshot {
	unsigned refs; /* trash's lock */
	uint64_t ino, born_ns, parent;
	struct rds_loaded dir;
	struct trash_list list;
};

struct trash {
	pthread_mutex_t lock;
	struct snapshot *last; /* lock; the directory read most recently */
	int64_t born;	       /* unix seconds: what .trash itself shows as its times */
};

struct trash *trash_new(void)
{
	struct trash *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	pthread_mutex_init(&t->lock, NULL);
	t->born = (int64_t)(clock_wall_ns() / 1000000000);
	return t;
}

static void snapshot_put(struct trash *t, struct snapshot *s)
{
	bool last;

	if (!s)
		return;
	pthread_mutex_lock(&t->lock);
	last = --s->refs == 0;
	pthread_mutex_unlock(&t->lock);
	if (!last)
		return;
	trash_list_fini(&s->list);
	rds_loaded_free(&s->dir);
	free(s);
}

void trash_free(struct trash *t)
{
	if (!t)
		return;
	snapshot_put(t, t->last);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* --- asking --- */
static int ask(struct req *r, enum fs_need_kind kind, uint64_t ino, uint32_t chunk, const char *name, struct rds_loaded *out)
{
	const struct loader *l = r->s->loader;
	struct fs_need need = { .kind = kind, .ino = ino, .chunk = chunk };

	return l && l->fetch ? l->fetch(l->ctx, &need, name, out) : -ENOENT;
}

/* The kernel keeps a listing for as long as the directory's mtime stays (there is no OPENDIR), and nobody dates the trash's
 * own directories when something is added. So .trash is always of now, and an hour's directory for as long as it may still be
 * the one that things go to. */
static void date_now(struct fs_attr *a)
{
	uint64_t ns = clock_wall_ns();
	int64_t now = (int64_t)(ns / 1000000000);

	if (!jfs_inode_is_trash(a->ino) || (a->ino != JFS_TRASH_INODE && now - a->a.mtime > 2 * 3600))
		return;
	a->a.mtime = now;
	a->a.mtime_nsec = (uint32_t)(ns % 1000000000);
}

/* A record that is there but makes no sense is EIO, as everywhere. */
static int attr_of(struct fs_attr *a, uint64_t ino, struct rds_bytes record)
{
	*a = (struct fs_attr){ .ino = ino };
	if (!record.p)
		return -ENOENT;
	if (jfs_attr_decode(record.p, record.n, &a->a))
		return -EIO;
	date_now(a);
	return 0;
}

static int ask_attr(struct req *r, uint64_t ino, struct fs_attr *a)
{
	struct rds_loaded l;
	int rc = ask(r, NEED_INODE, ino, 0, NULL, &l);

	if (rc)
		return rc;
	rc = attr_of(a, ino, l.value);
	rds_loaded_free(&l);
	return rc;
}

static int run_in_worker(struct req *r)
{
	return r->in_worker ? 0 : REQ_PARK;
}

static void start(fuse_req_t q, const struct op *op, int (*fetch)(struct req *r), fuse_ino_t node, size_t size, uint64_t off,
	const char *name)
{
	struct req r;

	req_init(&r, q, op);
	r.fetch = fetch;
	r.ino = node & ~TRASH_NODE;
	r.size = size;
	r.off = off;
	r.name = name;
	req_start(&r);
}

/* --- lookup, getattr --- */
static void entry_of(const struct req *r, const struct fs_attr *a, struct fuse_entry_param *e)
{
	attr_to_entry(r, a, e);
	e->ino = a->ino | TRASH_NODE;
	e->attr_timeout = e->entry_timeout = TTL;
}

static int lookup_fetch(struct req *r)
{
	struct rds_loaded l;
	int rc;

	rc = ask(r, NEED_ENTRY, r->ino, 0, r->name, &l);
	if (rc)
		return rc;
	rc = l.n ? attr_of(&r->attr, l.entries[0].ino, l.entries[0].record) : -ENOENT;
	rds_loaded_free(&l);
	return rc;
}

static int lookup_send(struct req *r)
{
	struct fuse_entry_param e;

	entry_of(r, &r->attr, &e);
	return fuse_reply_entry(r->q, &e);
}

/* .trash itself is answered at once. A lookup holds the kernel's lock of the root: if it waited for a Redis that is away,
 * nothing could be created there. */
static int root_run(struct req *r)
{
	int64_t t = r->s->trash->born;

	if (!fs_has_trash(r->s->fs))
		return -ENOENT;
	r->attr = (struct fs_attr){ .ino = JFS_TRASH_INODE, .a = { .type = JFS_DIR, .mode = 0555, .nlink = 2, .length = 4096,
		.atime = t, .mtime = t, .ctime = t, .parent = JFS_ROOT_INODE } };
	date_now(&r->attr);
	return 0;
}

static const struct op lookup_root_op = { SO_LOOKUP, root_run, lookup_send, false };
static const struct op lookup_op = { SO_LOOKUP, run_in_worker, lookup_send, false };

bool trash_lookup(struct session *s, fuse_req_t q, fuse_ino_t parent, const char *name)
{
	bool root = parent == FUSE_ROOT_ID && s->cfg.root == JFS_ROOT_INODE && strcmp(name, JFS_TRASH_NAME) == 0;

	if (!trash_is(parent) && !(root && s->loader))
		return false;
	start(q, root ? &lookup_root_op : &lookup_op, lookup_fetch, parent, 0, 0, name);
	return true;
}

static int getattr_fetch(struct req *r)
{
	return ask_attr(r, r->ino, &r->attr);
}

static int getattr_send(struct req *r)
{
	struct stat st;

	attr_to_stat(r->s, &r->attr, &st);
	return fuse_reply_attr(r->q, &st, TTL);
}

static const struct op getattr_root_op = { SO_GETATTR, root_run, getattr_send, false };
static const struct op getattr_op = { SO_GETATTR, run_in_worker, getattr_send, false };

void trash_getattr(fuse_req_t q, fuse_ino_t node)
{
	bool root = (node & ~TRASH_NODE) == JFS_TRASH_INODE;

	start(q, root ? &getattr_root_op : &getattr_op, getattr_fetch, node, 0, 0, NULL);
}

/* --- readlink --- */
static int readlink_fetch(struct req *r)
{
	struct rds_loaded l;
	int rc = ask(r, NEED_SYMLINK, r->ino, 0, NULL, &l);

	if (rc)
		return rc;
	if (!l.value.p || l.value.n > JFS_SYMLINK_MAX + 1)
		rc = -EIO;
	else if (!(r->heap = strndup((const char *)l.value.p, l.value.n)))
		rc = -ENOMEM;
	rds_loaded_free(&l);
	r->out = r->heap;
	return rc;
}

static int readlink_send(struct req *r)
{
	return fuse_reply_readlink(r->q, r->out);
}

static const struct op readlink_op = { SO_READLINK, run_in_worker, readlink_send, false };

void trash_readlink(fuse_req_t q, fuse_ino_t node)
{
	start(q, &readlink_op, readlink_fetch, node, 0, 0, NULL);
}

/* --- readdir --- */
static int snapshot_load(struct req *r, struct snapshot **out)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	struct fs_attr own;
	int rc;

	if (!s)
		return -ENOMEM;
	s->refs = 1;
	s->ino = r->ino;
	s->born_ns = clock_mono_ns();
	rc = ask(r, NEED_DIR, r->ino, 0, NULL, &s->dir);
	if (!rc)
		rc = attr_of(&own, r->ino, s->dir.value);
	if (!rc && own.a.type != JFS_DIR)
		rc = -ENOTDIR;
	if (!rc)
		rc = trash_list_init(&s->list, &s->dir);
	if (rc) {
		snapshot_put(r->s->trash, s);
		return rc;
	}
	s->parent = own.a.parent ? own.a.parent : JFS_ROOT_INODE;
	*out = s;
	return 0;
}

/* From the start a directory is always read anew. The caller puts it back. */
static int snapshot_get(struct req *r, struct snapshot **out)
{
	struct trash *t = r->s->trash;
	struct snapshot *s, *old;
	int rc;

	pthread_mutex_lock(&t->lock);
	s = t->last;
	if (r->off == 0 || (s && (s->ino != r->ino || clock_mono_ns() - s->born_ns > SNAPSHOT_NS)))
		s = NULL;
	if (s)
		s->refs++;
	pthread_mutex_unlock(&t->lock);
	*out = s;
	if (s)
		return 0;
	rc = snapshot_load(r, out);
	if (rc)
		return rc;
	pthread_mutex_lock(&t->lock);
	old = t->last;
	t->last = *out;
	(*out)->refs++;
	pthread_mutex_unlock(&t->lock);
	snapshot_put(t, old);
	return 0;
}

/* False: it does not fit any more. */
static bool dirent_add(struct req *r, char *buf, const char *name, const struct fuse_entry_param *e, uint64_t cookie)
{
	size_t left = r->size - r->out_len, need;

	if (r->flag)
		need = fuse_add_direntry_plus(r->q, buf + r->out_len, left, name, e, (off_t)cookie);
	else
		need = fuse_add_direntry(r->q, buf + r->out_len, left, name, &e->attr, (off_t)cookie);
	if (need > left)
		return false;
	r->out_len += need;
	return true;
}

static bool dots_add(struct req *r, char *buf, uint64_t parent)
{
	struct fuse_entry_param e = { .attr = { .st_ino = r->ino, .st_mode = S_IFDIR } };

	if (r->off < 1 && !dirent_add(r, buf, ".", &e, 1))
		return false;
	e.attr.st_ino = parent;
	return r->off >= 2 || dirent_add(r, buf, "..", &e, 2);
}

static void readdir_fill(struct req *r, char *buf, const struct snapshot *s)
{
	bool room = dots_add(r, buf, s->parent);

	for (size_t i = trash_list_after(&s->list, r->off); room && i < s->list.n; i++) {
		const struct rds_entry *d = s->list.v[i].e;
		struct fuse_entry_param e = { .attr = { .st_ino = d->ino, .st_mode = jfs_type_to_mode(d->type) } };
		char name[JFS_NAME_MAX + 1];
		struct fs_attr a;

		memcpy(name, d->name.p, d->name.n);
		name[d->name.n] = '\0';
		/* Without a record only the name: a lookup will say what is wrong. */
		if (r->flag && attr_of(&a, d->ino, d->record) == 0)
			entry_of(r, &a, &e);
		room = dirent_add(r, buf, name, &e, s->list.v[i].cookie);
	}
}

static int readdir_fetch(struct req *r)
{
	struct snapshot *s;
	int rc;

	r->heap = malloc(r->size);
	if (!r->heap)
		return -ENOMEM;
	rc = snapshot_get(r, &s);
	if (rc)
		return rc;
	r->out = r->heap;
	readdir_fill(r, r->heap, s);
	snapshot_put(r->s->trash, s);
	return 0;
}

static const struct op readdir_op = { SO_READDIR, run_in_worker, send_out, false };

void trash_readdir(fuse_req_t q, fuse_ino_t node, size_t size, off_t off, bool plus)
{
	struct req r;

	req_init(&r, q, &readdir_op);
	r.fetch = readdir_fetch;
	r.ino = node & ~TRASH_NODE;
	r.size = size;
	r.off = (uint64_t)off;
	r.flag = plus;
	req_start(&r);
}

/* --- read, lseek --- */

/* Bytes [pos, pos+len) of one chunk. -ENOENT: an object is gone. */
static int chunk_read(struct req *r, uint32_t chunk, uint32_t pos, char *dst, uint32_t len)
{
	const struct block_reader *rd = r->s->reader;
	struct extent_list x;
	struct rds_loaded l;
	int rc = ask(r, NEED_CHUNK, r->ino, chunk, NULL, &l);

	if (rc)
		return rc;
	extent_list_init(&x);
	rc = extent_list_from_slices(&x, l.value.p, l.n, 1);
	rds_loaded_free(&l);
	memset(dst, 0, len);
	for (size_t i = extent_list_find(&x, pos); !rc && i < x.n && x.v[i].pos < pos + len; i++) {
		uint32_t from = x.v[i].pos > pos ? x.v[i].pos : pos;
		uint32_t to = extent_end(&x.v[i]) < pos + len ? extent_end(&x.v[i]) : pos + len;
		struct extent_val e = extent_slice(&x.v[i], from, to);

		if (e.kind == EXT_OBJECT)
			rc = rd ? rd->read(rd->ctx, e.slice_id, e.slice_size, e.slice_off, e.len, dst + (from - pos)) : -EIO;
	}
	extent_list_fini(&x);
	return rc == -EUCLEAN ? -EIO : rc;
}

static int read_fetch(struct req *r)
{
	uint64_t end, done = 0;
	int rc = ask_attr(r, r->ino, &r->attr);
	int lost = 0;

	if (rc)
		return rc;
	if (r->attr.a.type != JFS_FILE)
		return -EINVAL;
	end = r->attr.a.length;
	end = r->off >= end ? 0 : r->size < end - r->off ? r->size : end - r->off;
	r->heap = malloc(end + 1);
	if (!r->heap)
		return -ENOMEM;
	while (done < end) {
		uint64_t at = r->off + done, left = JFS_CHUNK_SIZE - (at & (JFS_CHUNK_SIZE - 1));
		uint32_t n = (uint32_t)(end - done < left ? end - done : left);

		rc = chunk_read(r, (uint32_t)(at >> JFS_CHUNK_BITS), (uint32_t)(at & (JFS_CHUNK_SIZE - 1)), (char *)r->heap + done, n);
		if (rc == -ENOENT && lost++ == 0) /* compacted between list and object: the list is new by now */
			continue;
		if (rc)
			return rc == -ENOENT ? -EIO : rc;
		done += n;
	}
	r->out = r->heap;
	r->out_len = end;
	stats_read(r->s->stats, end);
	return 0;
}

static const struct op read_op = { SO_READ, run_in_worker, send_out, false };

void trash_read(fuse_req_t q, fuse_ino_t node, size_t size, off_t off)
{
	start(q, &read_op, read_fetch, node, size, (uint64_t)off, NULL);
}

static int lseek_fetch(struct req *r)
{
	int rc = ask_attr(r, r->ino, &r->attr);

	if (rc)
		return rc;
	if (r->off >= r->attr.a.length)
		return -ENXIO;
	if (r->size) /* a hole */
		r->off = r->attr.a.length;
	return 0;
}

static int lseek_send(struct req *r)
{
	return fuse_reply_lseek(r->q, (off_t)r->off);
}

static const struct op lseek_op = { SO_LSEEK, run_in_worker, lseek_send, false };

void trash_lseek(fuse_req_t q, fuse_ino_t node, off_t off, int whence)
{
	start(q, &lseek_op, lseek_fetch, node, whence == SEEK_HOLE, (uint64_t)off, NULL);
}

/* --- extended attributes --- */

/* The names, each with its NUL, or the value of r->name: as one block. -ENODATA: no such attribute. */
static int xattr_copy(struct req *r, const struct rds_loaded *l)
{
	size_t total = 0, n = r->name ? strlen(r->name) : 0;
	bool found = !r->name;
	char *p;

	for (size_t i = 0; i < l->n; i++)
		total += r->name ? l->pairs[i].val.n : l->pairs[i].name.n + 1;
	r->heap = p = malloc(total + 1);
	if (!p)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++) {
		if (!r->name) {
			memcpy(p, l->pairs[i].name.p, l->pairs[i].name.n);
			p += l->pairs[i].name.n;
			*p++ = '\0';
		} else if (n == l->pairs[i].name.n && memcmp(r->name, l->pairs[i].name.p, n) == 0) {
			memcpy(p, l->pairs[i].val.p, l->pairs[i].val.n);
			p += l->pairs[i].val.n;
			found = true;
		}
	}
	r->out = r->heap;
	r->out_len = (size_t)(p - (char *)r->heap);
	return !found ? -ENODATA : r->size && r->out_len > r->size ? -ERANGE : 0;
}

static int xattr_fetch(struct req *r)
{
	struct rds_loaded l;
	int rc = ask(r, NEED_XATTR, r->ino, 0, NULL, &l);

	if (rc)
		return rc;
	rc = xattr_copy(r, &l);
	rds_loaded_free(&l);
	return rc;
}

static int xattr_send(struct req *r)
{
	return r->size ? fuse_reply_buf(r->q, r->out, r->out_len) : fuse_reply_xattr(r->q, r->out_len);
}

static const struct op getxattr_op = { SO_GETXATTR, run_in_worker, xattr_send, false };
static const struct op listxattr_op = { SO_LISTXATTR, run_in_worker, xattr_send, false };

void trash_xattr(fuse_req_t q, fuse_ino_t node, const char *name, size_t size)
{
	start(q, name ? &getxattr_op : &listxattr_op, xattr_fetch, node, size, 0, name);
}
