/* Operations on file contents, and syncing. See req.h for the frame.
 *
 * Writing: the bytes go to staging first, outside of any lock; a record then makes them part of the file. What was staged
 * for a write that fails afterwards is never named and dies with its segment.
 * A write past the page cache (of the descriptor that made the file, op_name.c) comes without what the kernel does before and
 * after one into it: it takes security.capability away, forgets the mode of a file that loses set-id bits, and sends an FSYNC
 * after a synchronous one. That is done here.
 * Reading: fs_map says what lies where; staged bytes are read here, objects by the reader, in a worker.
 * fsync: DESIGN 3.1 and 3.5. An O_SYNC write is a WRITE followed by an FSYNC of the kernel's own. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/req.h"
#include "daemon/transport.h"
#include "daemon/trash.h"
#include "daemon/virt.h"
#include "util/log.h"

/* --- write --- */

/* A pwrite may sleep in the kernel's write-back throttling: transport threads do it as long as one of them is left that does
 * not (HISTORIES 13), then workers. */
static int append(struct req *r)
{
	struct session *s = r->s;
	int rc;

	if (r->in_worker)
		return staging_append(journal_staging(s->journal), r->data, r->data_len, &r->staged);
	if (journal_must_wait(s->journal))
		return FS_ROOM;
	rc = REQ_PARK;
	if (atomic_fetch_add(&s->appending, 1) < transport_spare(s->transport))
		rc = staging_append(journal_staging(s->journal), r->data, r->data_len, &r->staged);
	atomic_fetch_sub(&s->appending, 1);
	return rc;
}

static int write_run(struct req *r)
{
	int rc;

	if (!r->have_staged) {
		rc = append(r);
		if (rc)
			return rc;
		r->have_staged = true;
	}
	rc = fs_write(r->s->fs, &r->cred, r->ino, &r->off, false, &r->staged, &r->kill, &r->seq, &r->need);
	if (rc <= 0) { /* named by a record now, or given up */
		staging_release(journal_staging(r->s->journal), r->staged.segment);
		r->have_staged = false;
		r->data = NULL;
	}
	if (rc == 0)
		stats_written(r->s->stats, r->size);
	if (rc == 0 && r->direct && (r->flags & O_DSYNC) && !r->s->cfg.meta_waits)
		r->hold = WM_SYNCED;
	return rc;
}

static int write_send(struct req *r)
{
	return fuse_reply_write(r->q, r->size);
}

static const struct op write_op = { SO_WRITE, write_run, write_send, false, GATE_DATA };

static void op_write(fuse_req_t q, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct req r;

	/* The kernel holds the inode's lock and knows its length, so `off` is right for O_APPEND too. */
	if (virt_is(ino)) {
		virt_write(req_session(q), q, ino, buf, size, off);
		return;
	}
	if (trash_is(ino)) {
		fuse_reply_err(q, EPERM);
		return;
	}
	req_init(&r, q, &write_op);
	r.ino = ino_in(r.s, ino);
	r.data = buf;
	r.data_len = r.size = size;
	r.off = (uint64_t)off;
	r.direct = fi->fh == FH_DIRECT;
	r.flags = fi->flags;
	r.kill = (struct fs_kill){ .suid = transport_kill_suid(), .caps = r.direct };
	req_start(&r);
}

/* --- read --- */
enum { MAP_PIECES = 64 };

static void damaged(const struct req *r, const struct fs_piece *p)
{
	static long long said;

	if (log_ratelimit(&said, 1000))
		log_error("what=\"bytes in the cache directory are damaged: jfs-recover check lists the files\" ino=%llu segment=%llu off=%u "
			  "len=%u", (unsigned long long)r->ino, (unsigned long long)p->run.segment, p->run.off, p->run.len);
}

static int piece_read(struct req *r, const struct fs_piece *p, char *dst)
{
	const struct block_reader *rd = r->s->reader;
	int rc;

	switch (p->kind) {
	case EXT_HOLE:
		memset(dst, 0, p->len);
		return 0;
	case EXT_STAGED:
		rc = staging_read_run(journal_staging(r->s->journal), &p->run, p->off, dst, p->len);
		if (rc == -EBADMSG)
			damaged(r, p);
		return rc;
	case EXT_OBJECT:
		break;
	}
	if (!rd)
		return -EIO;
	if (r->fetching)
		return rd->read(rd->ctx, p->slice_id, p->slice_size, p->slice_off, p->len, dst);
	rc = rd->try_read ? rd->try_read(rd->ctx, p->slice_id, p->slice_size, p->slice_off, p->len, dst) : -EAGAIN;
	return rc == -EAGAIN ? REQ_PARK : rc;
}

/* One mapping of what is left of the range. Returns bytes read, 0 at the end of the file, or what run() returns with
 * *rc set to it; *lost tells that bytes had gone elsewhere since they were mapped, and which kind. */
static size_t read_some(struct req *r, uint64_t off, char *dst, size_t len, int *rc, struct fs_piece *lost)
{
	struct fs_piece pieces[MAP_PIECES];
	uint64_t file_len;
	size_t done = 0;
	int n = fs_map(r->s->fs, r->ino, off, len, pieces, MAP_PIECES, &file_len, &r->need);

	*rc = n == -EAGAIN ? FS_NEED : n < 0 ? n : 0;
	for (int i = 0; i < n && done < len; i++) {
		*rc = piece_read(r, &pieces[i], dst + done);
		if (*rc) {
			*lost = pieces[i];
			break;
		}
		done += pieces[i].len;
	}
	return done;
}

/* ENOENT: a segment was reclaimed (its bytes are in an object by now), or an object is gone (a stock client compacted
 * the chunk: the list must be loaded anew). Returns 0 when mapping again makes sense, or as run(). */
static int read_lost(struct req *r, uint64_t off, const struct fs_piece *lost)
{
	const struct loader *l = r->s->loader;

	if (lost->kind == EXT_STAGED)
		return 0;
	if (!l || !l->reload_chunk)
		return -EIO;
	if (!r->fetching)
		return REQ_PARK;
	return l->reload_chunk(l->ctx, r->ino, (uint32_t)(off >> JFS_CHUNK_BITS));
}

static int read_all(struct req *r)
{
	char *buf = req_buffer(r->size);
	size_t done = 0;
	int lost_count = 0;

	if (!buf)
		return -ENOMEM;
	while (done < r->size) {
		struct fs_piece lost;
		int rc;
		size_t n = read_some(r, r->off + done, buf + done, r->size - done, &rc, &lost);

		done += n;
		if (rc == -ENOENT && lost_count++ < 2) {
			rc = read_lost(r, r->off + done, &lost);
			if (rc == 0)
				continue;
		}
		if (rc)
			return rc == -ENOENT ? -EIO : rc;
		if (n == 0)
			break;
	}
	r->out = buf;
	r->out_len = done;
	stats_read(r->s->stats, done);
	if (!r->s->cfg.no_atime && !(r->flags & O_NOATIME))
		fs_touch_atime(r->s->fs, r->ino);
	return 0;
}

/* In a worker: waits for the object store, and may be answered meanwhile. */
static int read_fetch(struct req *r)
{
	int rc;

	r->fetching = true;
	rc = read_all(r);
	r->fetching = false;
	r->fetched = rc == 0;
	return rc;
}

static int read_run(struct req *r)
{
	return r->fetched ? 0 : read_all(r);
}

static const struct op read_op = { SO_READ, read_run, send_out, false };

static void op_read(fuse_req_t q, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct req r;

	if (virt_is(ino)) {
		virt_read(req_session(q), q, ino, size, off);
		return;
	}
	if (trash_is(ino)) {
		trash_read(q, ino, size, off);
		return;
	}
	req_init(&r, q, &read_op);
	r.fetch = read_fetch;
	r.ino = ino_in(r.s, ino);
	r.size = size;
	r.off = (uint64_t)off;
	r.flags = fi->flags;
	req_start(&r);
}

/* --- flush and fsync --- */

/* Waits for the last record that changed the inode. An inode that is not held any more has nothing outstanding. Where data
 * waits for S3, a file without data to wait for does not: what a reader, or a chmod, left is metadata. */
static int sync_run(struct req *r)
{
	struct session *s = r->s;
	uint64_t uploaded = journal_mark(s->journal, WM_UPLOADED);
	bool data = false;
	struct fs_attr a;
	int rc = fs_getattr(s->fs, r->ino, &a, &r->need);

	if (rc == FS_NEED)
		return 0;
	if (!rc && s->cfg.data_waits && a.seq > uploaded)
		rc = fs_unconfirmed(s->fs, r->ino, uploaded, &data);
	if (rc)
		return rc;
	r->seq = a.seq;
	r->hold = data ? WM_UPLOADED : WM_SYNCED;
	return 0;
}

/* close(): nothing but data. */
static int flush_run(struct req *r)
{
	int rc = sync_run(r);

	if (!rc && r->hold == WM_SYNCED) {
		r->hold = -1;
		r->seq = 0;
	}
	return rc;
}

/* The path must hold too (P2): an ancestor may have been renamed after the inode's own last change. */
static int fsync_run(struct req *r)
{
	uint64_t moved = fs_dir_moved(r->s->fs);
	int rc = sync_run(r);

	if (rc)
		return rc;
	if (moved > r->seq)
		r->seq = moved;
	if (r->hold < 0)
		r->hold = WM_SYNCED;
	return 0;
}

static const struct op fsync_op = { SO_FSYNC, fsync_run, send_ok, false };

static void op_fsync(fuse_req_t q, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct req r;

	(void)datasync;
	(void)fi;
	if (virt_is(ino) || trash_is(ino)) {
		fuse_reply_err(q, 0);
		return;
	}
	req_init(&r, q, &fsync_op);
	r.ino = ino_in(r.s, ino);
	req_start(&r);
}

/* A directory's entries, its ancestors' and theirs: all of them are in what has been committed by now. */
static int fsyncdir_run(struct req *r)
{
	r->seq = journal_mark(r->s->journal, WM_COMMITTED);
	r->hold = WM_SYNCED;
	return 0;
}

static const struct op fsyncdir_op = { SO_FSYNC, fsyncdir_run, send_ok, false };

static void op_fsyncdir(fuse_req_t q, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct req r;

	(void)datasync;
	(void)fi;
	req_init(&r, q, &fsyncdir_op);
	r.ino = ino_in(r.s, ino);
	req_start(&r);
}

static const struct op flush_op = { SO_FLUSH, flush_run, send_ok, false };

/* Only without --writeback, where close() waits for S3; else the kernel has learnt that there is no FLUSH. */
static void op_flush(fuse_req_t q, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct req r;

	(void)fi;
	if (virt_is(ino) || trash_is(ino)) {
		fuse_reply_err(q, 0);
		return;
	}
	req_init(&r, q, &flush_op);
	r.ino = ino_in(r.s, ino);
	req_start(&r);
}

/* --- fallocate, copy_file_range, lseek --- */
static int fallocate_run(struct req *r)
{
	return fs_fallocate(r->s->fs, &r->cred, r->ino, r->flags, r->off, r->off2, &r->seq, &r->need);
}

static const struct op fallocate_op = { SO_FALLOCATE, fallocate_run, send_ok, false, GATE_META };
static const struct op punch_op = { SO_FALLOCATE, fallocate_run, send_ok, false, GATE_NONE };

static void op_fallocate(fuse_req_t q, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct req r;

	(void)fi;
	if (virt_is(ino) || trash_is(ino)) {
		fuse_reply_err(q, EPERM);
		return;
	}
	req_init(&r, q, mode & FALLOC_FL_PUNCH_HOLE ? &punch_op : &fallocate_op);
	r.ino = ino_in(r.s, ino);
	r.flags = mode;
	r.off = (uint64_t)off;
	r.off2 = (uint64_t)len;
	req_start(&r);
}

static int copy_run(struct req *r)
{
	uint64_t copied = 0;
	int rc = fs_copy_range(r->s->fs, &r->cred, r->ino, r->off, r->ino2, r->off2, r->size, &copied, &r->seq, &r->need);

	if (rc == 0)
		r->size = copied;
	return rc;
}

static const struct op copy_op = { SO_COPY, copy_run, write_send, false, GATE_META };

static void op_copy(fuse_req_t q, fuse_ino_t in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t out,
	off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct req r;

	(void)fi_in;
	(void)fi_out;
	if (flags || virt_is(in) || virt_is(out)) {
		fuse_reply_err(q, EINVAL);
		return;
	}
	/* The kernel copies the bytes itself then. */
	if (trash_is(in) || trash_is(out)) {
		fuse_reply_err(q, EXDEV);
		return;
	}
	req_init(&r, q, &copy_op);
	r.ino = ino_in(r.s, in);
	r.off = (uint64_t)off_in;
	r.ino2 = ino_in(r.s, out);
	r.off2 = (uint64_t)off_out;
	r.size = len > (1u << 30) ? 1u << 30 : len; /* the reply counts in 32 bits; a short copy is allowed */
	req_start(&r);
}

static int lseek_run(struct req *r)
{
	return fs_seek(r->s->fs, r->ino, r->off, r->flag, &r->off2, &r->need);
}

static int lseek_send(struct req *r)
{
	return fuse_reply_lseek(r->q, (off_t)r->off2);
}

static const struct op lseek_op = { SO_LSEEK, lseek_run, lseek_send, false };

static void op_lseek(fuse_req_t q, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct req r;

	(void)fi;
	if (virt_is(ino) || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
		fuse_reply_err(q, EINVAL);
		return;
	}
	if (trash_is(ino)) {
		trash_lseek(q, ino, off, whence);
		return;
	}
	req_init(&r, q, &lseek_op);
	r.ino = ino_in(r.s, ino);
	r.off = (uint64_t)off;
	r.flag = whence == SEEK_HOLE;
	req_start(&r);
}

void ops_data(struct fuse_lowlevel_ops *ops, bool flush)
{
	ops->write = op_write;
	ops->read = op_read;
	ops->fsync = op_fsync;
	ops->fsyncdir = op_fsyncdir;
	if (flush)
		ops->flush = op_flush;
	ops->fallocate = op_fallocate;
	ops->copy_file_range = op_copy;
	ops->lseek = op_lseek;
}
