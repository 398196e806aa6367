/* A tiny file system that writes the records a real one would, and remembers its state after each of them: the reference
 * that replay is compared with. Files have 256 bytes in each of their first two chunks. */
#ifndef JFS_TESTS_REPLAY_MODEL_H
#define JFS_TESTS_REPLAY_MODEL_H

#include <stdbool.h>

#include "journal/record.h"
#include "tests/unit/unit.h"

#define M_INODES 48
#define M_NAMES	 6 /* in a directory: a..f */
#define M_WIN	 256
#define M_HIST	 4096

struct m_inode {
	uint64_t ino; /* 0: free */
	struct jfs_attr a;
	bool open, orphan, gone;
	uint32_t names;
	uint32_t child[M_NAMES]; /* slots, 0: none */
	uint8_t data[2][M_WIN];
	uint32_t from[2][M_WIN]; /* staged offset + 1 of each byte, 0: hole */
	uint8_t xattr;		 /* value of user.x, 0: none */
};

struct m_state {
	struct m_inode i[M_INODES];
	uint64_t next_ino;
};

struct m_copied { /* a copy_file_range: from where, and to where */
	uint64_t ino; /* 0: none */
	int chunk;
	uint32_t pos, to;
};

struct model {
	struct m_state *hist; /* state after record s */
	struct m_copied copied[M_HIST]; /* by record */
	struct m_state now;
	struct buf log[M_HIST];
	uint64_t seq;
	bool trash;
	uint64_t rnd;
	uint8_t stage[1 << 18];
	uint32_t run_of[1 << 18], run_len[1 << 18]; /* of a run's bytes */
	uint32_t staged;
	struct rec rec;
};

static struct inode_val m_val(const struct m_inode *i)
{
	return (struct inode_val){ .attr = i->a };
}

static void m_key(struct jkey *k, const struct m_inode *dir, int name)
{
	char n = (char)('a' + name);

	key_dentry(k, dir->ino, &n, 1);
}

static void m_commit(struct model *m)
{
	REQUIRE(rec_finish(&m->rec) == 0);
	REQUIRE(m->seq + 1 < M_HIST);
	m->seq++;
	buf_init(&m->log[m->seq], 0);
	buf_put(&m->log[m->seq], m->rec.buf.data, m->rec.buf.len);
	m->hist[m->seq] = m->now;
}

static void m_begin(struct model *m, enum rec_op op)
{
	rec_begin(&m->rec, op, (1700000000ull + m->seq) * 1000000000ull);
}

static void m_touch(struct model *m, struct m_inode *i)
{
	i->a.ctime = 1700000000 + (int64_t)m->seq;
	struct inode_val v = m_val(i);
	rec_put_inode(&m->rec, i->ino, &v, 0);
}

static void m_init(struct model *m, bool trash, uint64_t seed)
{
	memset(m, 0, sizeof(*m));
	m->hist = calloc(M_HIST, sizeof(*m->hist));
	REQUIRE(m->hist);
	m->trash = trash;
	m->rnd = seed;
	rec_init(&m->rec);
	m->now.next_ino = 2;
	m->now.i[1] = (struct m_inode){ .ino = 1, .names = 1,
		.a = { .type = JFS_DIR, .mode = 0777, .nlink = 2, .length = 4096, .parent = 1 } };
	m->hist[0] = m->now;
}

static void m_fini(struct model *m)
{
	for (uint64_t s = 1; s <= m->seq; s++)
		buf_fini(&m->log[s]);
	rec_fini(&m->rec);
	free(m->hist);
}

static void m_stat(struct model *m, struct m_inode *dir, const struct m_inode *i, int sign)
{
	rec_dirstat(&m->rec, dir->ino, i->a.type == JFS_FILE ? sign * (int64_t)i->a.length : 0,
		sign * (int64_t)jfs_attr_space(&i->a), sign);
}

static void m_entry(struct model *m, struct m_inode *dir, int name, const struct m_inode *to)
{
	uint32_t was = dir->child[name];
	uint8_t v[9];
	struct jkey k;

	m_key(&k, dir, name);
	if (was)
		jfs_dentry_encode(m->now.i[was].a.type, m->now.i[was].ino, v);
	rec_expect(&m->rec, &k, v, was ? 9 : 0);
	dir->child[name] = to ? (uint32_t)(to - m->now.i) : 0;
	if (to) {
		jfs_dentry_encode(to->a.type, to->ino, v);
		rec_put(&m->rec, &k, v, 9, 0);
	} else {
		rec_del(&m->rec, &k, 0);
	}
}

static struct m_inode *m_make(struct model *m, struct m_inode *dir, int name, uint8_t type)
{
	struct m_inode *i = NULL;

	for (int s = 2; s < M_INODES && !i; s++)
		if (!m->now.i[s].ino)
			i = &m->now.i[s];
	if (!i || dir->child[name])
		return NULL;
	memset(i, 0, sizeof(*i));
	i->ino = m->now.next_ino++;
	i->names = 1;
	i->a = (struct jfs_attr){ .type = type, .mode = 0644, .nlink = type == JFS_DIR ? 2 : 1, .parent = dir->ino,
		.length = type == JFS_DIR ? 4096 : type == JFS_SYMLINK ? 3 : 0, .ctime = 1700000000 + (int64_t)m->seq };
	m_begin(m, type == JFS_DIR ? OP_MKDIR : OP_CREATE);
	struct inode_val v = m_val(i);
	rec_put_inode(&m->rec, i->ino, &v, IF_NEW);
	if (type == JFS_SYMLINK) {
		struct jkey k;
		key_symlink(&k, i->ino);
		rec_put(&m->rec, &k, "xyz", 3, 0);
	}
	m_entry(m, dir, name, i);
	if (type == JFS_DIR)
		dir->a.nlink++;
	m_touch(m, dir);
	rec_space(&m->rec, 4096, 1);
	m_stat(m, dir, i, 1);
	m_commit(m);
	return i;
}

/* Takes a name away within the current record. */
static void m_drop(struct model *m, struct m_inode *dir, int name, struct m_inode *i, bool entry)
{
	struct jkey k;

	m_key(&k, dir, name);
	m_stat(m, dir, i, -1);
	if (entry)
		m_entry(m, dir, name, NULL);
	i->names--;
	if (i->a.type != JFS_DIR) {
		i->a.nlink--;
		rec_nlink(&m->rec, i->ino, -1);
		if (i->a.parent == 0)
			rec_parent(&m->rec, i->ino, dir->ino, -1);
	} else {
		i->a.nlink = 0;
		dir->a.nlink--;
	}
	if (m->trash)
		rec_trash(&m->rec, &k, i->a.type, i->ino);
	if (i->names) {
		m_touch(m, i);
		return;
	}
	if (i->open && i->a.type == JFS_FILE) {
		i->orphan = true;
		m_touch(m, i);
		if (!m->trash)
			rec_sustain(&m->rec, i->ino);
		return;
	}
	if (!m->trash)
		rec_gone(&m->rec, i->ino, i->a.length);
	key_inode(&k, i->ino);
	rec_del(&m->rec, &k, 0);
	i->gone = true;
}

static void m_free(struct model *m, struct m_inode *i)
{
	if (i->gone)
		memset(i, 0, sizeof(*i));
	(void)m;
}

static bool m_empty(const struct m_inode *d)
{
	for (int n = 0; n < M_NAMES; n++)
		if (d->child[n])
			return false;
	return true;
}

static void m_unlink(struct model *m, struct m_inode *dir, int name)
{
	struct m_inode *i = &m->now.i[dir->child[name]];

	m_begin(m, i->a.type == JFS_DIR ? OP_RMDIR : OP_UNLINK);
	m_drop(m, dir, name, i, true);
	m_touch(m, dir);
	m_free(m, i);
	m_commit(m);
}

static void m_close(struct model *m, struct m_inode *i)
{
	struct jkey k;

	m_begin(m, OP_FORGET_ORPHAN);
	if (!m->trash)
		rec_gone(&m->rec, i->ino, i->a.length);
	key_inode(&k, i->ino);
	rec_del(&m->rec, &k, 0);
	i->gone = true;
	m_free(m, i);
	m_commit(m);
}

static void m_link(struct model *m, struct m_inode *i, struct m_inode *dir, int name)
{
	m_begin(m, OP_LINK);
	if (i->a.parent)
		rec_parent(&m->rec, i->ino, i->a.parent, 1);
	rec_parent(&m->rec, i->ino, dir->ino, 1);
	i->a.parent = 0;
	i->a.nlink++;
	i->names++;
	rec_nlink(&m->rec, i->ino, 1);
	m_entry(m, dir, name, i);
	m_stat(m, dir, i, 1);
	m_touch(m, i);
	m_touch(m, dir);
	m_commit(m);
}

static void m_rename(struct model *m, struct m_inode *d1, int n1, struct m_inode *d2, int n2)
{
	struct m_inode *i = &m->now.i[d1->child[n1]], *t = d2->child[n2] ? &m->now.i[d2->child[n2]] : NULL;

	m_begin(m, OP_RENAME);
	if (t)
		m_drop(m, d2, n2, t, false);
	m_stat(m, d1, i, -1);
	m_stat(m, d2, i, 1);
	m_entry(m, d2, n2, i);
	m_entry(m, d1, n1, NULL);
	if (i->a.type == JFS_DIR && d1 != d2) {
		d1->a.nlink--;
		d2->a.nlink++;
	}
	if (d1 != d2 && i->a.parent == 0) {
		rec_parent(&m->rec, i->ino, d1->ino, -1);
		rec_parent(&m->rec, i->ino, d2->ino, 1);
	}
	if (i->a.parent)
		i->a.parent = d2->ino;
	m_touch(m, i);
	m_touch(m, d1);
	if (d1 != d2)
		m_touch(m, d2);
	if (t)
		m_free(m, t);
	m_commit(m);
}

/* Grows or shrinks the length and accounts for it in all directories that name the file. */
static void m_length(struct model *m, struct m_inode *i, uint64_t len)
{
	struct m_inode before = *i;

	for (int s = 1; s < M_INODES; s++) {
		for (int n = 0; n < M_NAMES; n++) {
			struct m_inode *d = &m->now.i[s];

			if (!d->ino || d->a.type != JFS_DIR || !d->child[n] || &m->now.i[d->child[n]] != i)
				continue;
			i->a.length = len;
			rec_dirstat(&m->rec, d->ino, (int64_t)len - (int64_t)before.a.length,
				(int64_t)jfs_attr_space(&i->a) - (int64_t)jfs_attr_space(&before.a), 0);
		}
	}
	i->a.length = len;
}

static void m_extent(struct model *m, struct m_inode *i, int chunk, uint32_t pos, uint32_t len, uint32_t from, unsigned flags)
{
	struct extent_val e = { .pos = pos, .len = len, .born = m->seq + 1, .kind = from ? EXT_STAGED : EXT_HOLE };

	if (from) {
		e.segment = 1;
		e.off = from - 1;
		e.run_off = m->run_of[from - 1];
		e.run_len = m->run_len[e.run_off];
	}
	rec_put_extent(&m->rec, i->ino, (uint32_t)chunk, &e, IF_NEW | flags);
}

static void m_write(struct model *m, struct m_inode *i, int chunk, uint32_t pos, uint32_t len)
{
	uint64_t end = ((uint64_t)chunk << JFS_CHUNK_BITS) + pos + len;

	m_begin(m, OP_WRITE);
	for (uint32_t k = 0; k < len; k++) {
		m->stage[m->staged + k] = (uint8_t)(1 + unit_rand(&m->rnd) % 255);
		m->run_of[m->staged + k] = m->staged;
		i->data[chunk][pos + k] = m->stage[m->staged + k];
		i->from[chunk][pos + k] = m->staged + k + 1;
	}
	m->run_len[m->staged] = len;
	m_extent(m, i, chunk, pos, len, m->staged + 1, 0);
	m->staged += len;
	REQUIRE(m->staged < sizeof(m->stage) - M_WIN);
	if (end > i->a.length)
		m_length(m, i, end);
	m_touch(m, i);
	m_commit(m);
}

static void m_clear(struct m_inode *i, uint64_t from, uint64_t to)
{
	for (int c = 0; c < 2; c++) {
		for (uint32_t k = 0; k < M_WIN; k++) {
			uint64_t at = ((uint64_t)c << JFS_CHUNK_BITS) + k;

			if (at >= from && at < to)
				i->data[c][k] = 0, i->from[c][k] = 0;
		}
	}
}

static void m_truncate(struct model *m, struct m_inode *i, uint64_t len)
{
	uint64_t from = len < i->a.length ? len : i->a.length;

	m_begin(m, OP_TRUNCATE);
	rec_cut(&m->rec, i->ino, from, len);
	m_clear(i, from, UINT64_MAX);
	m_length(m, i, len);
	m_touch(m, i);
	m_commit(m);
}

static void m_punch(struct model *m, struct m_inode *i, uint64_t off, uint64_t len)
{
	m_begin(m, OP_FALLOCATE);
	rec_punch(&m->rec, i->ino, off, len);
	m_clear(i, off, off + len);
	m_touch(m, i);
	m_commit(m);
}

/* copy_file_range inside the window of a chunk. */
static void m_copy(struct model *m, struct m_inode *a, int ca, uint32_t pa, struct m_inode *b, int cb, uint32_t pb, uint32_t len)
{
	uint64_t end = ((uint64_t)cb << JFS_CHUNK_BITS) + pb + len;
	struct m_inode src = *a;

	m_begin(m, OP_COPY_RANGE);
	m->copied[m->seq + 1] = (struct m_copied){ a->ino, ca, pa, pb };
	for (uint32_t k = 0; k < len;) {
		uint32_t f = src.from[ca][pa + k], n = 1;

		while (k + n < len && (f ? src.from[ca][pa + k + n] == f + n && m->run_of[f - 1 + n] == m->run_of[f - 1] :
					    !src.from[ca][pa + k + n]))
			n++;
		m_extent(m, b, cb, pb + k, n, f, IF_COPY);
		memcpy(&b->data[cb][pb + k], &src.data[ca][pa + k], n);
		memcpy(&b->from[cb][pb + k], &src.from[ca][pa + k], n * sizeof(uint32_t));
		k += n;
	}
	if (end > b->a.length)
		m_length(m, b, end);
	m_touch(m, b);
	m_commit(m);
}

static void m_xattr(struct model *m, struct m_inode *i, uint8_t value)
{
	struct jkey k;

	m_begin(m, value ? OP_SETXATTR : OP_REMOVEXATTR);
	key_xattr(&k, i->ino, "user.x", 6);
	if (value)
		rec_put(&m->rec, &k, &value, 1, 0);
	else
		rec_del(&m->rec, &k, 0);
	i->xattr = value;
	m_commit(m);
}

static uint64_t m_rand(struct model *m, uint64_t n)
{
	return (unit_rand(&m->rnd) >> 11) % n;
}

static struct m_inode *m_pick(struct model *m, uint8_t type)
{
	struct m_inode *i = &m->now.i[1 + m_rand(m, M_INODES - 1)];

	return i->ino && i->a.type == type ? i : NULL;
}

static bool m_below(struct model *m, const struct m_inode *top, const struct m_inode *d)
{
	while (d->ino != 1) {
		const struct m_inode *up = NULL;

		if (d == top)
			return true;
		for (int s = 1; s < M_INODES; s++)
			if (m->now.i[s].ino == d->a.parent)
				up = &m->now.i[s];
		if (!up)
			return true;
		d = up;
	}
	return d == top;
}

/* One random operation; most picks fit, the others do nothing. */
static void m_step(struct model *m)
{
	struct m_inode *dir = m_pick(m, JFS_DIR), *f = m_pick(m, JFS_FILE), *g = m_pick(m, JFS_FILE), *d2 = m_pick(m, JFS_DIR), *i;
	int n = (int)m_rand(m, M_NAMES), n2 = (int)m_rand(m, M_NAMES), chunk = m_rand(m, 4) == 0;
	uint32_t pos = (uint32_t)m_rand(m, M_WIN), len = 1 + (uint32_t)m_rand(m, M_WIN - pos);

	if (m_rand(m, 3))
		len = 1 + len / 8;
	i = dir && dir->child[n] ? &m->now.i[dir->child[n]] : NULL;
	switch (m_rand(m, 16)) {
	case 0:
	case 1:
		if (dir && dir->names)
			m_make(m, dir, n, JFS_FILE);
		break;
	case 2:
		if (dir && dir->names)
			m_make(m, dir, n, m_rand(m, 3) ? JFS_DIR : JFS_SYMLINK);
		break;
	case 3:
	case 4:
		if (i && (i->a.type != JFS_DIR || m_empty(i))) {
			if (m_rand(m, 3) == 0)
				i->open = true;
			m_unlink(m, dir, n);
		}
		break;
	case 5:
		if (f && f->orphan)
			m_close(m, f);
		break;
	case 6:
		if (f && !f->orphan && dir && dir->names && !dir->child[n])
			m_link(m, f, dir, n);
		break;
	case 7:
	case 8: {
		struct m_inode *t = d2 && d2->child[n2] ? &m->now.i[d2->child[n2]] : NULL;

		if (!i || !d2 || !d2->names || i == t || (i->a.type == JFS_DIR && m_below(m, i, d2)))
			break;
		if (t && ((t->a.type == JFS_DIR) != (i->a.type == JFS_DIR) || (t->a.type == JFS_DIR && !m_empty(t)) || t == dir))
			break;
		m_rename(m, dir, n, d2, n2);
		break;
	}
	case 9:
	case 10:
	case 11:
		if (f)
			m_write(m, f, chunk, pos, len);
		break;
	case 12:
		if (f)
			m_truncate(m, f, ((uint64_t)chunk << JFS_CHUNK_BITS) + (m_rand(m, 3) ? pos : 0));
		break;
	case 13:
		if (f && f->a.length)
			m_punch(m, f, ((uint64_t)chunk << JFS_CHUNK_BITS) + pos, m_rand(m, 4) ? len : JFS_CHUNK_SIZE);
		break;
	case 14:
		if (f && g && f != g) {
			uint32_t to = (uint32_t)m_rand(m, M_WIN - len + 1);

			m_copy(m, f, chunk, pos, g, m_rand(m, 4) == 0, to, len);
		}
		break;
	default:
		if (f)
			m_xattr(m, f, (uint8_t)m_rand(m, 3));
	}
}

#endif
