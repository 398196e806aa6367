#include "recovery/local_bytes.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct reading {
	struct local_bytes *b;
	local_bytes_fn *fn; /* NULL: only ask */
	void *arg;
	uint64_t at;
	struct errmsg *why;
};

static int staged_part(struct reading *x, const struct fs_piece *p)
{
	int rc;

	if (!x->fn)
		return 0;
	rc = staging_read_run(journal_staging(fs_journal(x->b->fs)), &p->run, p->off, x->b->buf, p->len);
	if (rc == -EBADMSG || rc == -ENOENT || rc == -EIO)
		return errmsg_set(x->why, -ENODATA, "%u staged bytes at %" PRIu64 " are %s", p->len, x->at,
			rc == -EBADMSG ? "damaged" : rc == -ENOENT ? "gone" : "unreadable");
	return rc ? rc : x->fn(x->arg, x->at, x->b->buf, p->len);
}

static int object_part(struct reading *x, const struct fs_piece *p)
{
	struct local_bytes *b = x->b;

	if (!b->objects)
		return errmsg_set(x->why, -ENODATA, "%u bytes at %" PRIu64 " are only in the object store", p->len, x->at);
	if (p->slice_id < b->first_sure) {
		b->doubtful = true;
		return errmsg_set(x->why, -ENODATA, "%u bytes at %" PRIu64 " are only in slice %" PRIu64 ", whose number Redis may have "
			"given away again: see --trust-objects", p->len, x->at, p->slice_id);
	}
	for (uint32_t done = 0; x->fn && done < p->len;) {
		uint32_t n = p->len - done < LOCAL_BYTES_PART ? p->len - done : LOCAL_BYTES_PART;
		int rc = reader_read(b->objects, p->slice_id, p->slice_size, p->slice_off + done, b->buf, n);

		if (rc == -ENOENT || rc == -EBADMSG)
			return errmsg_set(x->why, -ENODATA, "%u bytes at %" PRIu64 ": the object of slice %" PRIu64 " is %s", n, x->at + done,
				p->slice_id, rc == -ENOENT ? "missing" : "damaged");
		if (rc)
			return errmsg_set(x->why, rc, "the object store cannot be read: %s", strerror(-rc));
		rc = x->fn(x->arg, x->at + done, b->buf, n);
		if (rc)
			return rc;
		done += n;
	}
	return 0;
}

static int one(struct reading *x, const struct fs_piece *p)
{
	switch (p->kind) {
	case EXT_STAGED:
		return staged_part(x, p);
	case EXT_OBJECT:
		return object_part(x, p);
	case EXT_HOLE:
		break;
	}
	return x->fn ? x->fn(x->arg, x->at, NULL, p->len) : 0;
}

static int read_all(struct reading *x, uint64_t ino, uint64_t length)
{
	struct fs_piece pieces[256];

	while (x->at < length) {
		struct fs_need need;
		uint64_t len;
		int n = fs_map(x->b->fs, ino, x->at, length - x->at, pieces, 256, &len, &need), rc = 0;

		if (n == -EAGAIN)
			return errmsg_set(x->why, -ENODATA, "its bytes from %" PRIu64 " on were never known here", x->at);
		if (n <= 0)
			return n ? n : -EUCLEAN;
		for (int i = 0; i < n && !rc; i++) {
			rc = one(x, &pieces[i]);
			x->at += pieces[i].len;
		}
		if (rc)
			return rc;
	}
	return 0;
}

int local_bytes_read(struct local_bytes *b, uint64_t ino, uint64_t length, local_bytes_fn *fn, void *arg, struct errmsg *why)
{
	struct reading x = {.b = b, .fn = fn, .arg = arg, .why = why};

	b->doubtful = false;
	return read_all(&x, ino, length);
}

int local_bytes_ask(struct local_bytes *b, uint64_t ino, uint64_t length, struct errmsg *why)
{
	struct reading x = {.b = b, .why = why};

	b->doubtful = false;
	return read_all(&x, ino, length);
}
