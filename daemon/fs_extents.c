/* What the data operations share: ranges of the view's extents, cuts, and chunks that have not been loaded.
 *
 * A chunk is `known` when no slice list in Redis can hold anything that we do not have: the inode's data were born here
 * (or died here: truncated to 0), or the list has been loaded. In a chunk that is not known, zeroes must be laid down as
 * holes, or a later load would fill them; and a cut stays until trim has passed it. */
#include <errno.h>
#include <stdlib.h>

#include "daemon/fs_internal.h"
#include "util/buf.h"

int fs_cuts_read(struct fs *fs, uint64_t ino, const struct inode_val *v, size_t *n)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	struct jkey k;
	int rc;

	*n = 0;
	if (v->lflags & IL_PLAIN)
		return 0;
	key_cut(&k, ino, 0);
	it = view_seek(fs->j, &k, 9);
	if (!it)
		return -EIO;
	while ((rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		if (klen != 17 || vlen != 8) {
			rc = -EUCLEAN;
			break;
		}
		if (*n == fs->cuts_size) {
			size_t size = fs->cuts_size ? fs->cuts_size * 2 : 16;
			struct cut *p = realloc(fs->cuts, size * sizeof(*p));

			if (!p) {
				rc = -ENOMEM;
				break;
			}
			fs->cuts = p;
			fs->cuts_size = size;
		}
		fs->cuts[*n].seq = get_be64(key + 9);
		fs->cuts[(*n)++].from = get_be64(val);
	}
	view_end(it);
	return rc;
}

bool fs_chunk_known(struct fs *fs, uint64_t ino, const struct inode_val *v, uint32_t chunk)
{
	const void *val;
	struct jkey k;
	size_t len;

	if (v->lflags & IL_DATA_LOCAL)
		return true;
	key_chunk(&k, ino, chunk);
	return view_get(fs->j, &k, &val, &len) == 0;
}

static int extent_parse(const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen, uint32_t *chunk,
	struct extent_val *e)
{
	uint64_t ino;
	uint32_t last;
	int rc = key_parse_extent(key, klen, &ino, chunk, &last);

	if (!rc)
		rc = extent_val_decode(val, vlen, e);
	return rc || extent_last(e) != last ? -EUCLEAN : 0;
}

int fs_op_clear(struct fs_op *op, uint64_t ino, uint32_t chunk, uint32_t from, uint32_t *to, unsigned *budget)
{
	const uint8_t *key, *val;
	struct extent_val e, left[2];
	struct view_iter *it;
	size_t klen, vlen;
	struct jkey k;
	uint32_t c;
	int rc;

	key_extent(&k, ino, chunk, from);
	it = view_seek(op->fs->j, &k, 13);
	if (!it)
		return -EIO;
	while ((rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		bool kept = false;
		int n;

		rc = extent_parse(key, klen, val, vlen, &c, &e);
		if (rc || e.pos >= *to)
			break;
		if (*budget == 0) {
			*to = e.pos > from ? e.pos : from;
			break;
		}
		(*budget)--;
		n = extent_subtract(&e, from, *to, left);
		for (int i = 0; i < n; i++) {
			rec_put_extent(op->r, ino, chunk, &left[i], 0);
			kept |= extent_last(&left[i]) == extent_last(&e);
		}
		if (!kept)
			rec_item(op->r, IT_DEL, IF_FORGET, key, klen, NULL, 0);
	}
	view_end(it);
	return rc < 0 ? rc : 0;
}

int fs_op_zero(struct fs_op *op, uint64_t ino, const struct inode_val *v, uint32_t chunk, uint32_t from, uint32_t *to,
	unsigned *budget)
{
	int rc = fs_op_clear(op, ino, chunk, from, to, budget);

	if (rc || *to <= from || fs_chunk_known(op->fs, ino, v, chunk))
		return rc;
	struct extent_val hole = { .pos = from, .len = *to - from, .born = op->seq, .kind = EXT_HOLE };

	rec_put_extent(op->r, ino, chunk, &hole, 0);
	if (*budget)
		(*budget)--;
	return 0;
}

/* Deletes or trims the extents at and above `len` if they are few: true; otherwise the record is as before: false. */
static int cut_inline(struct fs_op *op, uint64_t ino, uint64_t len, bool *done)
{
	const uint8_t *key, *val;
	size_t klen, vlen, mark = op->r->buf.len;
	uint32_t items = op->r->items, chunk, pos = (uint32_t)(len % JFS_CHUNK_SIZE);
	struct view_iter *it;
	struct extent_val e;
	struct jkey k;
	unsigned n = 0;
	int rc;

	key_extent(&k, ino, (uint32_t)(len >> JFS_CHUNK_BITS), pos);
	it = view_seek(op->fs->j, &k, 9);
	if (!it)
		return -EIO;
	while ((rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		rc = extent_parse(key, klen, val, vlen, &chunk, &e);
		if (rc)
			break;
		if (++n > FS_INLINE_KEYS) {
			op->r->buf.len = mark;
			op->r->items = items;
			break;
		}
		if (chunk == len >> JFS_CHUNK_BITS && e.pos < pos) {
			e = extent_slice(&e, e.pos, pos);
			rec_put_extent(op->r, ino, chunk, &e, 0);
		}
		rec_item(op->r, IT_DEL, IF_FORGET, key, klen, NULL, 0);
	}
	view_end(it);
	*done = n <= FS_INLINE_KEYS;
	return rc < 0 ? rc : 0;
}

/* Is every chunk with bytes in [len, old) known? Only a few are looked at. */
static bool all_known(struct fs *fs, uint64_t ino, const struct inode_val *v, uint64_t len, uint64_t old)
{
	uint64_t first = len >> JFS_CHUNK_BITS, last = (old - 1) >> JFS_CHUNK_BITS;

	if (v->lflags & IL_DATA_LOCAL)
		return true;
	if (last - first >= 16)
		return false;
	for (uint64_t c = first; c <= last; c++)
		if (!fs_chunk_known(fs, ino, v, (uint32_t)c))
			return false;
	return true;
}

int fs_op_cut(struct fs_op *op, uint64_t ino, struct inode_val *v, uint64_t len)
{
	uint8_t from[8];
	struct jkey k;
	bool done;
	size_t n;
	int rc = cut_inline(op, ino, len, &done);

	if (rc)
		return rc;
	if (len == 0)
		v->lflags |= IL_DATA_LOCAL;
	if (done && all_known(op->fs, ino, v, len, v->attr.length))
		return 0;
	rc = fs_cuts_read(op->fs, ino, v, &n);
	if (rc)
		return rc;
	for (size_t i = 0; i < n; i++) {
		if (op->fs->cuts[i].from < len)
			continue;
		key_cut(&k, ino, op->fs->cuts[i].seq); /* the new one hides all that this one hid */
		rec_del(op->r, &k, IF_FORGET);
	}
	v->lflags &= (uint8_t)~IL_PLAIN;
	put_be64(from, len);
	key_cut(&k, ino, op->seq);
	rec_put(op->r, &k, from, sizeof(from), 0);
	key_reap(&k, ino, len);
	rec_put(op->r, &k, NULL, 0, 0);
	return 0;
}

int fs_op_truncate(struct fs_op *op, uint64_t ino, struct inode_val *v, uint64_t len)
{
	int rc = 0;

	if (len < v->attr.length) {
		rc = fs_op_cut(op, ino, v, len);
		rec_cut(op->r, ino, len, len);
	}
	if (!rc)
		fs_op_set_length(op, ino, v, len);
	return rc;
}

/* Is [pos, ...) of the chunk hidden from any load by a cut that trim has not passed? */
static bool cut_covers(struct fs *fs, size_t ncuts, uint32_t chunk, uint32_t pos)
{
	return cuts_limit(fs->cuts, ncuts, journal_mark(fs->j, WM_TRIM)) <= (uint64_t)chunk * JFS_CHUNK_SIZE + pos;
}

struct spans {
	struct fs *fs;
	uint64_t ino;
	const struct inode_val *v;
	size_t ncuts;
	struct extent_val *out;
	int n, max;
	struct fs_need *need;
};

static int span_add(struct spans *s, const struct extent_val *e)
{
	if (s->n == s->max)
		return 1;
	s->out[s->n++] = *e;
	return 0;
}

/* A gap [from, to) of a chunk: a hole, unless a list that is not here may say otherwise. */
static int span_gap(struct spans *s, uint32_t chunk, uint32_t from, uint32_t to, bool *known)
{
	struct extent_val hole = { .pos = from, .len = to - from, .kind = EXT_HOLE };

	if (!*known && !cut_covers(s->fs, s->ncuts, chunk, from)) {
		*known = fs_chunk_known(s->fs, s->ino, s->v, chunk);
		if (!*known) {
			if (s->n)
				return 1; /* what comes before is here */
			fs_need(s->need, NEED_CHUNK, s->ino, chunk);
			return -EAGAIN;
		}
	}
	return span_add(s, &hole);
}

/* Spans of [pos, end) of one chunk: 0, 1 (stop here), -errno. */
static int spans_chunk(struct spans *s, uint32_t chunk, uint32_t pos, uint32_t end)
{
	bool known = s->v->lflags & IL_DATA_LOCAL;
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	struct jkey k;
	int rc = 0, more;

	key_extent(&k, s->ino, chunk, pos);
	it = view_seek(s->fs->j, &k, 13);
	if (!it)
		return -EIO;
	while (pos < end && (more = view_step(it, &key, &klen, &val, &vlen)) != 0) {
		struct extent_val e;
		uint32_t c, visible, to;

		rc = more < 0 ? more : extent_parse(key, klen, val, vlen, &c, &e);
		if (rc || e.pos >= end)
			break;
		visible = extent_visible(&e, chunk, s->fs->cuts, s->ncuts);
		to = e.pos + visible < end ? e.pos + visible : end;
		if (visible == 0 || to <= pos)
			continue;
		if (e.pos > pos)
			rc = span_gap(s, chunk, pos, e.pos, &known);
		if (rc)
			break;
		e = extent_slice(&e, e.pos > pos ? e.pos : pos, to);
		rc = span_add(s, &e);
		if (rc)
			break;
		pos = to;
	}
	view_end(it);
	if (!rc && pos < end)
		rc = span_gap(s, chunk, pos, end, &known);
	return rc;
}

int fs_unconfirmed(struct fs *fs, uint64_t ino, uint64_t uploaded, bool *unconfirmed)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	struct extent_val e;
	unsigned looked = 0;
	size_t klen, vlen;
	struct jkey k;
	uint32_t chunk;
	int rc;

	*unconfirmed = false;
	key_extent(&k, ino, 0, 0);
	journal_lock(fs->j);
	it = view_seek(fs->j, &k, 9);
	rc = it ? 1 : -EIO;
	while (rc > 0 && !*unconfirmed && (rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		if (extent_parse(key, klen, val, vlen, &chunk, &e))
			rc = -EUCLEAN;
		else
			*unconfirmed = (e.kind == EXT_STAGED && e.born > uploaded) || ++looked == FS_RECORD_KEYS;
	}
	if (it)
		view_end(it);
	journal_unlock(fs->j);
	return rc < 0 ? rc : 0;
}

int fs_spans(struct fs *fs, uint64_t ino, const struct inode_val *v, uint64_t off, uint64_t end, struct extent_val *out,
	int max, struct fs_need *need)
{
	struct spans s = { .fs = fs, .ino = ino, .v = v, .out = out, .max = max, .need = need };
	int rc = fs_cuts_read(fs, ino, v, &s.ncuts);

	while (!rc && off < end) {
		uint64_t base = off & ~(JFS_CHUNK_SIZE - 1);
		uint64_t stop = end - base < JFS_CHUNK_SIZE ? end : base + JFS_CHUNK_SIZE;

		rc = spans_chunk(&s, (uint32_t)(off >> JFS_CHUNK_BITS), (uint32_t)(off - base), (uint32_t)(stop - base));
		off = stop;
	}
	return rc < 0 ? rc : s.n;
}
