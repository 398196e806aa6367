#include "recovery/scan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "journal/record.h"
#include "recovery/progress.h"
#include "redis/windows.h"

/* Where the replayer notes the position that base knows to be applied. */

int scan_init(struct scan *s, struct journal *j, const struct inspect *found)
{
	memset(s, 0, sizeof(*s));
	s->j = j;
	s->found = found;
	backlog_init(&s->backlog);
	aside_init(&s->aside);
	s->paths = paths_new();
	return s->paths ? 0 : -ENOMEM;
}

void scan_fini(struct scan *s)
{
	staged_free(&s->staged);
	backlog_fini(&s->backlog);
	aside_fini(&s->aside);
	paths_free(s->paths);
	vec_free(&s->uses);
	vec_free(&s->cuts);
}

int scan_position(struct scan *s)
{
	int rc = windows_left(s->j, &s->position);

	s->has_position = rc == 0;
	return rc == -ENOENT ? 0 : rc;
}

/* --- the view --- */

/* Extents come sorted by inode: what decides whether they still live is read once for each. */
static int start_inode(struct scan *s, uint64_t ino)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	struct inode_val v;
	const void *state;
	struct jkey k;
	size_t klen, vlen, n;
	int rc = view_get_inode(s->j, ino, &v);

	s->cur_ino = ino;
	s->cuts.n = 0;
	key_orphan(&k, ino);
	s->cur_lives = rc != -ENOENT && view_get(s->j, &k, &state, &n) == -ENOENT;
	if (!s->cur_lives)
		return 0;
	key_cut(&k, ino, 0);
	it = view_seek(s->j, &k, 9);
	rc = it ? 0 : -EIO;
	while (!rc && (rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		struct cut *c = klen == 17 && vlen == 8 ? vec_add(&s->cuts) : NULL;

		if (c)
			*c = (struct cut){.seq = get_be64(key + 9), .from = get_be64(val)};
		rc = 0;
	}
	view_end(it);
	return rc;
}

static int take_extent(struct scan *s, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	struct extent_val v;
	struct staged_ref *ref;
	struct slice_use *use;
	uint64_t ino;
	uint32_t chunk, last;

	if (key_parse_extent(key, klen, &ino, &chunk, &last) || extent_val_decode(val, vlen, &v))
		return -EUCLEAN;
	if (v.len == 0 || (uint64_t)v.pos + v.len - 1 != last)
		return -EUCLEAN;
	if (v.kind == EXT_OBJECT) {
		use = vec_add(&s->uses);
		if (!use)
			return -ENOMEM;
		*use = (struct slice_use){.slice = v.slice_id, .ino = ino};
	}
	if (v.kind != EXT_STAGED)
		return 0;
	if (ino != s->cur_ino) {
		int rc = start_inode(s, ino);

		if (rc)
			return rc;
	}
	v.len = s->cur_lives ? extent_visible(&v, chunk, s->cuts.v, s->cuts.n) : 0;
	if (v.len == 0)
		return 0; /* dead: it is deleted lazily */
	ref = vec_add(&s->staged.refs);
	if (!ref)
		return -ENOMEM;
	*ref = (struct staged_ref){.segment = v.segment, .sum = v.sum, .ino = ino,
		.file_off = (uint64_t)chunk * JFS_CHUNK_SIZE + v.pos, .off = v.off, .len = v.len, .run_off = v.run_off,
		.run_len = v.run_len};
	return paths_want(s->paths, ino);
}

static int take_smap(struct scan *s, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	struct staged_slice *m;
	struct smap_val v;
	uint64_t segment;
	uint32_t off;

	if (key_parse_smap(key, klen, &segment, &off) || smap_val_decode(val, vlen, &v))
		return -EUCLEAN;
	m = vec_add(&s->staged.slices);
	if (!m)
		return -ENOMEM;
	*m = (struct staged_slice){.segment = segment, .slice_id = v.slice_id, .window_end = v.window_end, .off = off,
		.len = v.len, .slice_size = v.slice_size};
	return 0;
}

static int check_list(const uint8_t *val, size_t n)
{
	struct jfs_slice slice;

	for (; n >= JFS_SLICE_LEN; val += JFS_SLICE_LEN, n -= JFS_SLICE_LEN)
		if (jfs_slice_decode(val, JFS_SLICE_LEN, &slice))
			return -EUCLEAN;
	return n ? -EUCLEAN : 0;
}

static int check_dentry(const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	uint64_t parent, hash, ino;
	const uint8_t *name;
	uint8_t type;
	size_t n;

	if (key_parse_dentry(key, klen, &parent, &hash, &name, &n) || dentry_hash(name, n) != hash)
		return -EUCLEAN;
	return jfs_dentry_decode(val, vlen, &type, &ino);
}

/* Is this key and value what its table holds? -EUCLEAN if not. */
static int take_key(struct scan *s, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	struct inode_val inode;
	uint64_t ino;

	if (klen == 0)
		return -EUCLEAN;
	switch (key[0]) {
	case T_DENTRY:
		return check_dentry(key, klen, val, vlen);
	case T_EXTENT:
		return take_extent(s, key, klen, val, vlen);
	case T_SMAP:
		return take_smap(s, key, klen, val, vlen);
	case T_META:
	case T_WINDOW:
		return klen > 1 ? 0 : -EUCLEAN;
	}
	if (key_parse_ino(key, klen, &ino))
		return -EUCLEAN;
	switch (key[0]) {
	case T_INODE:
		return inode_val_decode(val, vlen, &inode);
	case T_PUBLISHED:
		return check_list(val, vlen);
	case T_CUT:
	case T_CHUNK:
		return vlen == 8 ? 0 : -EUCLEAN;
	case T_PARENT:
		return vlen == 4 ? 0 : -EUCLEAN;
	case T_ORPHAN:
		return vlen == 1 ? 0 : -EUCLEAN;
	case T_SYMLINK:
		return vlen > 0 && vlen <= JFS_SYMLINK_MAX ? 0 : -EUCLEAN;
	case T_XATTR:
	case T_REAP:
		return 0;
	}
	return -EUCLEAN;
}

static int bad_key(struct report *r, const uint8_t *key, size_t klen)
{
	char hex[2 * 24 + 1] = "";

	r->no_replay = true;
	for (size_t i = 0; i < klen && i < 24; i++)
		snprintf(hex + 2 * i, 3, "%02x", key[i]);
	return report_broken(r, NULL, "a value of the journal's table '%c' is damaged (key %s%s)",
		klen && key[0] >= ' ' && key[0] < 127 ? key[0] : '?', hex, klen > 24 ? "..." : "");
}

static int walk_view(struct scan *s, struct report *r)
{
	struct jkey start = {.len = 0};
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	int rc;

	journal_lock(s->j);
	it = view_seek(s->j, &start, 0);
	rc = it ? 0 : -EIO;
	while (!rc && (rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		r->keys++;
		rc = take_key(s, key, klen, val, vlen);
		if (rc == -EUCLEAN)
			rc = bad_key(r, key, klen);
	}
	view_end(it);
	journal_unlock(s->j);
	return rc;
}

/* The second pass, when it is known whose names are asked for. */
static int walk_names(struct scan *s)
{
	const uint8_t *key, *val, *name;
	struct jkey start = {.len = 1, .b = {T_DENTRY}};
	uint64_t parent, hash, ino;
	struct view_iter *it;
	size_t klen, vlen, n;
	uint8_t type;
	int rc;

	journal_lock(s->j);
	it = view_seek(s->j, &start, 1);
	rc = it ? 0 : -EIO;
	while (!rc && (rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		rc = 0;
		if (key_parse_dentry(key, klen, &parent, &hash, &name, &n) == 0 && jfs_dentry_decode(val, vlen, &type, &ino) == 0)
			rc = paths_feed(s->paths, parent, name, n, type == JFS_DIR, ino);
	}
	view_end(it);
	journal_unlock(s->j);
	if (!rc)
		rc = aside_feed(&s->aside, s->paths);
	paths_done(s->paths);
	return rc;
}

/* --- the log --- */

struct log_walk {
	struct scan *s;
	struct report *r;
	uint64_t applied, trimmed, durable;
};

static int take_record(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct log_walk *w = arg;
	struct rec_header h;
	struct rec_reader it;
	int rc = 0;

	w->r->log_records++;
	if (seq <= w->trimmed || (w->durable && seq > w->durable))
		rc = report_broken(w->r, NULL, "record %" PRIu64 " of the log is outside of (%" PRIu64 ", %" PRIu64 "]", seq,
			w->trimmed, w->durable);
	if (!rc)
		rc = seq > w->applied ? backlog_feed(&w->s->backlog, seq, rec, len) : rec_open(rec, len, &h, &it);
	if (rc == -EUCLEAN || rc == -ENOTSUP)
		w->r->no_replay = true;
	if (rc == -EUCLEAN || rc == -ENOTSUP)
		rc = report_broken(w->r, NULL, "record %" PRIu64 " of the log is %s", seq,
			rc == -ENOTSUP ? "of a newer version" : "damaged");
	return rc;
}

/* Recovery demands that all bytes which a record of the hot log brings are there, of dead files too. */
static int hot_extent(struct scan *s, const struct rec_item *it)
{
	struct staged_ref *ref;
	struct extent_val v;
	uint64_t ino;
	uint32_t chunk, last;

	if (it->kind != IT_PUT || it->klen == 0 || it->key[0] != T_EXTENT || !(it->flags & IF_NEW) || (it->flags & IF_COPY))
		return 0;
	if (key_parse_extent(it->key, it->klen, &ino, &chunk, &last) || extent_val_decode(it->val, it->vlen, &v) ||
		v.kind != EXT_STAGED)
		return 0; /* walk_view says what is damaged */
	ref = vec_add(&s->staged.refs);
	if (!ref)
		return -ENOMEM;
	*ref = (struct staged_ref){.segment = v.segment, .sum = v.sum, .ino = ino, .run_off = v.run_off, .run_len = v.run_len,
		.file_off = (uint64_t)chunk * JFS_CHUNK_SIZE + v.pos, .off = v.run_off, .len = 0};
	return paths_want(s->paths, ino);
}

static int take_hot(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct log_walk *w = arg;
	struct rec_header h;
	struct rec_reader r;
	struct rec_item it;
	int rc = rec_open(rec, len, &h, &r);

	while (!rc && (rc = rec_next(&r, &it)) == 1)
		rc = hot_extent(w->s, &it);
	return rc ? rc : take_record(arg, seq, rec, len);
}

static int walk_log(struct scan *s, uint64_t applied, struct report *r)
{
	struct log_walk w = {.s = s, .r = r, .applied = applied, .trimmed = s->found->trimmed, .durable = s->found->durable};
	uint64_t log;
	int rc = journal_log_scan(s->j, 0, UINT64_MAX, take_record, &w);

	if (rc == -EUCLEAN)
		rc = report_broken(r, NULL, "the log holds a key that is no sequence number");
	log = r->log_records;
	w.durable = 0;
	if (!rc)
		rc = journal_inspect_hot(s->j, take_hot, &w);
	r->log_records = log;
	return rc;
}

static int cmp_use(const void *a, const void *b)
{
	const struct slice_use *x = a, *y = b;

	if (x->slice != y->slice)
		return x->slice < y->slice ? -1 : 1;
	return (x->ino > y->ino) - (x->ino < y->ino);
}

int scan_walk(struct scan *s, uint64_t applied, struct report *r, struct errmsg *e)
{
	int rc = walk_view(s, r);

	if (!rc)
		rc = walk_log(s, applied, r);
	if (!rc) {
		staged_sort(&s->staged);
		backlog_done(&s->backlog);
		vec_sort(&s->uses, cmp_use);
		for (size_t i = 0; i < s->backlog.inodes.n && !rc; i++)
			rc = paths_want(s->paths, s->backlog.inodes.v[i].ino);
		for (size_t i = 0; i < s->uses.n && !rc; i++)
			rc = paths_want(s->paths, s->uses.v[i].ino);
	}
	if (!rc)
		rc = walk_names(s);
	return rc ? errmsg_set(e, rc, "the journal cannot be read: %s", strerror(-rc)) : 0;
}

/* --- staged bytes --- */

char *scan_path(const struct scan *s, uint64_t ino)
{
	struct buf b;
	char *text;

	buf_init(&b, 0);
	paths_of(s->paths, ino, &b);
	text = b.err ? NULL : strdup(buf_cstr(&b));
	buf_fini(&b);
	return text;
}

static int bad_run(struct scan *s, struct report *r, const struct staged_ref *ref, int err)
{
	char *path = scan_path(s, ref->ino);
	int rc = -ENOMEM;

	if (path)
		rc = report_broken(r, path, "%u bytes written at %" PRIu64 " are %s (staging/%016" PRIx64 ".seg at %u)",
			ref->len ? ref->len : ref->run_len, ref->file_off, err == -EBADMSG ? "damaged" : err == -ENOENT ? "gone" : "unreadable", ref->segment, ref->off);
	free(path);
	return rc;
}

/* One finding for each run and file: the ref before says the same. */
static bool same_file(const struct scan *s, size_t i)
{
	const struct staged_ref *ref = &s->staged.refs.v[i];

	return i > 0 && staged_same_run(ref - 1, ref) && ref[-1].ino == ref->ino && ref[-1].file_off == ref->file_off;
}

int scan_staging(struct scan *s, struct report *r)
{
	struct staging *st = journal_staging(s->j);
	uint64_t total = 0, done = 0;
	struct progress bar;
	int rc = 0, err = 0;

	for (size_t i = 0; i < s->staged.refs.n; i++)
		if (i == 0 || !staged_same_run(&s->staged.refs.v[i - 1], &s->staged.refs.v[i]))
			total += s->staged.refs.v[i].run_len;
	progress_begin(&bar, "staging", "bytes", total);
	for (size_t i = 0; i < s->staged.refs.n && !rc; i++) {
		const struct staged_ref *ref = &s->staged.refs.v[i];

		if (i == 0 || !staged_same_run(ref - 1, ref)) {
			err = staging_verify(st, ref->segment, ref->run_off, ref->run_len, ref->sum);
			if (err == -ENOMEM || err == -EMFILE || err == -ENFILE || err == -EACCES) {
				rc = err; /* says nothing about the bytes */
				break;
			}
			done += ref->run_len;
			if (err) {
				r->staged_bad += ref->run_len;
				r->no_replay = true;
			}
			progress_set(&bar, done);
		}
		if (err && !rc && !same_file(s, i))
			rc = bad_run(s, r, ref, err);
	}
	staging_verify_end(st);
	progress_end(&bar);
	r->staged_bytes = total;
	return rc;
}

/* --- what is only here --- */

static int cmp_ref_ino(const void *a, const void *b)
{
	const struct staged_ref *x = a, *y = b;

	return (x->ino > y->ino) - (x->ino < y->ino);
}

static const struct backlog_inode *changed(const struct scan *s, uint64_t ino)
{
	size_t lo = 0, hi = s->backlog.inodes.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->backlog.inodes.v[mid].ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < s->backlog.inodes.n && s->backlog.inodes.v[lo].ino == ino ? &s->backlog.inodes.v[lo] : NULL;
}

/* Files that were open without a name end with the process that had them open. */
static bool lives(struct scan *s, uint64_t ino)
{
	struct inode_val v;
	const void *state;
	struct jkey k;
	size_t n;

	key_orphan(&k, ino);
	journal_lock(s->j);
	bool yes = view_get_inode(s->j, ino, &v) == 0 && view_get(s->j, &k, &state, &n) == -ENOENT;
	journal_unlock(s->j);
	return yes;
}

static int list_inode(struct scan *s, struct report *r, uint64_t ino, bool born, uint64_t bytes)
{
	char *path;
	int rc;

	if (!lives(s, ino))
		return 0;
	path = scan_path(s, ino);
	if (!path)
		return -ENOMEM;
	rc = report_unsafe(r, path, ino, born ? "new" : "changed", bytes);
	free(path);
	return rc;
}

static int list_removed(struct scan *s, struct report *r)
{
	int rc = 0;

	for (size_t i = 0; i < s->backlog.removed.n && !rc; i++) {
		const struct backlog_name *n = &s->backlog.removed.v[i];
		struct buf b;

		buf_init(&b, 0);
		paths_of_entry(s->paths, n->parent, s->backlog.names.data + n->at, n->len, &b);
		rc = b.err ? -ENOMEM : report_unsafe(r, buf_cstr(&b), 0, "removed", 0);
		buf_fini(&b);
	}
	return rc;
}

static int cmp_path(const void *a, const void *b)
{
	return strcmp(((const struct unsafe *)a)->path, ((const struct unsafe *)b)->path);
}

int scan_unsafe(struct scan *s, uint64_t applied, struct report *r)
{
	struct staged_set *st = &s->staged;
	size_t at = 0;
	int rc = 0;

	r->backlog_ops = s->backlog.operations;
	vec_sort(&st->refs, cmp_ref_ino);
	for (size_t i = 0; i < s->backlog.inodes.n || at < st->refs.n;) { /* a merge of two sorted lists */
		uint64_t a = i < s->backlog.inodes.n ? s->backlog.inodes.v[i].ino : UINT64_MAX;
		uint64_t b = at < st->refs.n ? st->refs.v[at].ino : UINT64_MAX, ino = a < b ? a : b, bytes = 0;
		const struct backlog_inode *c = changed(s, ino);

		for (; at < st->refs.n && st->refs.v[at].ino == ino; at++)
			bytes += staged_unsafe(st, &st->refs.v[at], applied);
		if (a == ino)
			i++;
		r->backlog_bytes += bytes;
		if (c || bytes)
			rc = list_inode(s, r, ino, c && c->born, bytes);
		if (rc)
			return rc;
	}
	rc = list_removed(s, r);
	vec_sort(&r->unsafe, cmp_path);
	return rc;
}
