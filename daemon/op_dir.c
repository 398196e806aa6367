/* Reading directories. There are no handles: OPENDIR is answered ENOSYS, a cookie is all that a reader keeps, and
 * fs_readdir orders entries by a hash of their names, so that it stays valid while entries come and go. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/req.h"
#include "daemon/trash.h"

struct dir_fill {
	struct req *r;
	char *buf;
	size_t used, size;
	bool failed;
	/* References that go out with the entries. */
	uint64_t *inos;
	size_t n, room;
};

static bool is_dots(const struct fs_dirent *d)
{
	return d->name[0] == '.' && (d->name_len == 1 || (d->name_len == 2 && d->name[1] == '.'));
}

static bool ref_note(struct dir_fill *f, uint64_t ino)
{
	if (f->n == f->room) {
		size_t room = f->room ? 2 * f->room : 256;
		uint64_t *p = reallocarray(f->inos, room, sizeof(*p));

		if (!p)
			return false;
		f->inos = p;
		f->room = room;
	}
	f->inos[f->n++] = ino;
	return true;
}

static int add_entry(void *arg, const struct fs_dirent *d)
{
	struct dir_fill *f = arg;
	struct session *s = f->r->s;
	char name[JFS_NAME_MAX + 1];
	struct fuse_entry_param e;
	size_t need;
	/* Without a record there is nothing to give out: the kernel looks the name up when asked. */
	bool plus = f->r->flag && !is_dots(d) && d->attr.ino;

	memcpy(name, d->name, d->name_len);
	name[d->name_len] = '\0';
	if (plus) {
		attr_to_entry(f->r, &d->attr, &e);
	} else {
		memset(&e, 0, sizeof(e));
		e.attr.st_ino = ino_out(s, d->ino);
		e.attr.st_mode = jfs_type_to_mode(d->type);
	}
	if (f->r->flag)
		need = fuse_add_direntry_plus(f->r->q, f->buf + f->used, f->size - f->used, name, &e, (off_t)d->cookie);
	else
		need = fuse_add_direntry(f->r->q, f->buf + f->used, f->size - f->used, name, &e.attr, (off_t)d->cookie);
	if (need > f->size - f->used)
		return 1;
	if (plus && !ref_note(f, d->attr.ino)) {
		f->failed = true;
		return 1;
	}
	/* Here, under the journal's lock, so that it cannot vanish between being read and being given out. */
	if (plus)
		fs_ref(s->fs, d->attr.ino);
	f->used += need;
	return 0;
}

static int readdir_run(struct req *r)
{
	struct dir_fill f = { .r = r, .buf = req_buffer(r->size), .size = r->size };
	int rc;

	if (!f.buf)
		return -ENOMEM;
	rc = fs_readdir(r->s->fs, r->ino, r->off, r->flag, add_entry, &f, &r->need);
	if (rc == 0 && f.failed && f.used == 0)
		rc = -ENOMEM;
	/* What came before something that must be loaded is an answer; the next call meets it first. */
	if (rc == FS_NEED && f.used)
		rc = 0;
	if (rc == 0) {
		r->out = f.buf;
		r->out_len = f.used;
		r->heap = f.inos; /* taken back if the reply fails */
		r->off2 = f.n;
		if (!r->s->cfg.no_atime)
			fs_touch_atime(r->s->fs, r->ino);
	} else {
		for (size_t i = 0; i < f.n; i++)
			fs_forget(r->s->fs, f.inos[i], 1);
		free(f.inos);
	}
	return rc;
}

static int readdir_send(struct req *r)
{
	int sent = fuse_reply_buf(r->q, r->out, r->out_len);
	const uint64_t *inos = r->heap;

	for (uint64_t i = 0; sent < 0 && i < r->off2; i++)
		fs_forget(r->s->fs, inos[i], 1);
	return sent;
}

static const struct op readdir_op = { SO_READDIR, readdir_run, readdir_send, false };

static void readdir_start(fuse_req_t q, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct req r;

	if (trash_is(ino)) {
		trash_readdir(q, ino, size, off, plus);
		return;
	}
	req_init(&r, q, &readdir_op);
	r.ino = ino_in(r.s, ino);
	r.size = size;
	r.off = (uint64_t)off;
	r.flag = plus;
	req_start(&r);
}

static void op_readdir(fuse_req_t q, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	readdir_start(q, ino, size, off, false);
}

static void op_readdirplus(fuse_req_t q, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	readdir_start(q, ino, size, off, true);
}

void ops_dir(struct fuse_lowlevel_ops *ops)
{
	ops->readdir = op_readdir;
	ops->readdirplus = op_readdirplus;
}
