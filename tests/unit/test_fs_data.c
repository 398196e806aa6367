/* Bytes: random writes, truncates, punches, copies, late loads, lazy deletion and restarts against a byte painter; what
 * a truncate leaves to later; setattr, fallocate, copy_file_range and their errors. */
#include <linux/falloc.h>
#include <sys/stat.h>

#include "daemon/fs_internal.h"
#include "tests/unit/fs_kit.h"

/* A file is looked at through two windows, one of them across a chunk border; outside them it is zeroes. */
enum { WIN = 96 << 10, FILES = 2, REMOTE_SLICES = 12 };
static const uint64_t win_at[2] = { 0, JFS_CHUNK_SIZE - WIN / 2 };

struct model {
	uint8_t px[2][WIN];
	uint64_t len, ino;
	uint8_t remote[2][REMOTE_SLICES * JFS_SLICE_LEN]; /* lists of chunk 0 and 1 as Redis has them */
	size_t remote_n[2];
};

struct world {
	struct fk f;
	struct model m[FILES];
	uint64_t s;
	int loads;
};

static uint64_t rnd(struct world *w, uint64_t n)
{
	return unit_rand(&w->s) % n;
}

static void model_cut(struct model *m, uint64_t len)
{
	for (int v = 0; v < 2; v++)
		for (uint32_t i = 0; i < WIN; i++)
			if (win_at[v] + i >= len)
				m->px[v][i] = 0;
	m->len = len;
}

/* Lists of random slices inside the windows, and a file length behind them. */
static void model_remote(struct world *w, struct model *m)
{
	for (int c = 0; c < 2; c++) {
		m->remote_n[c] = rnd(w, REMOTE_SLICES);
		for (size_t i = 0; i < m->remote_n[c]; i++) {
			int v = c || rnd(w, 2);
			uint32_t half = v ? WIN / 2 : WIN, at = (uint32_t)rnd(w, half), in = v && c ? WIN / 2 + at : at;
			struct jfs_slice s = { .id = rnd(w, 5) ? 1 + rnd(w, 1000) : 0, .size = WIN };
			uint64_t off = win_at[v] + in;

			s.pos = (uint32_t)(off & (JFS_CHUNK_SIZE - 1));
			s.len = 1 + (uint32_t)rnd(w, half - at);
			s.off = (uint32_t)rnd(w, WIN - s.len + 1);
			jfs_slice_encode(&s, m->remote[c] + i * JFS_SLICE_LEN);
			for (uint32_t b = 0; b < s.len; b++)
				m->px[v][in + b] = s.id ? fk_object_byte(s.id, s.off + b) : 0;
		}
	}
	model_cut(m, win_at[1] + WIN / 2 + rnd(w, WIN / 2));
	/* nothing shines behind the end of a file: stock masks it when a file shrinks (spec 3.10) */
	struct jfs_slice mask = { .pos = (uint32_t)(m->len & (JFS_CHUNK_SIZE - 1)), .len = WIN };

	jfs_slice_encode(&mask, m->remote[1] + m->remote_n[1]++ * JFS_SLICE_LEN);
}

static void load_chunk(struct world *w, int i, uint32_t chunk)
{
	struct model *m = &w->m[i];

	REQUIRE(chunk < 2);
	w->loads++;
	CHECK_EQ(FK(&w->f, fs_insert_chunk(w->f.fs, 0, m->ino, chunk, m->remote[chunk], m->remote_n[chunk])), 0);
}

static void world_init(struct world *w)
{
	uint8_t rec[JFS_ATTR_MAX];
	struct fs_loaded_entry e = { .name = (const uint8_t *)"loaded", .name_len = 6, .type = JFS_FILE, .ino = 1 << 20,
		.record = rec };
	uint64_t dir = (1 << 20) + 1;
	uint8_t drec[JFS_ATTR_MAX];

	memset(w, 0, sizeof(*w));
	w->s = unit_seed();
	fk_init(&w->f);
	w->m[0].ino = fk_file(&w->f, 1, "born");
	w->m[1].ino = e.ino;
	model_remote(w, &w->m[1]);
	e.record_len = fk_record(rec, JFS_FILE, 1, w->m[1].len, dir);
	CHECK_EQ(fs_insert_inode(w->f.fs, 0, dir, drec, fk_record(drec, JFS_DIR, 2, 4096, 1)), 0);
	CHECK_EQ(fs_insert_dir(w->f.fs, 0, dir, &e, 1), 0);
}

/* Compares a range of a window; what is not loaded is loaded, or left for another time. */
static void compare(struct world *w, int i, int v, uint32_t at, uint32_t n, bool load)
{
	static uint8_t buf[WIN];
	struct model *m = &w->m[i];
	ssize_t got;
	uint32_t want;

	while ((got = fk_read(&w->f, m->ino, win_at[v] + at, buf, n)) == -EAGAIN) {
		CHECK_EQ(w->f.need.kind, NEED_CHUNK);
		CHECK_EQ(w->f.need.ino, w->m[1].ino); /* what was born here never waits */
		if (!load)
			return;
		load_chunk(w, i, w->f.need.chunk);
	}
	want = win_at[v] + at >= m->len ? 0 : m->len - win_at[v] - at < n ? (uint32_t)(m->len - win_at[v] - at) : n;
	CHECK_EQ(got, want);
	if (got == (ssize_t)want && memcmp(buf, m->px[v] + at, want) != 0) {
		uint32_t b = 0;

		while (buf[b] == m->px[v][at + b])
			b++;
		fprintf(stderr, "  file %d window %d byte %u is %u, expected %u\n", i, v, at + b, buf[b], m->px[v][at + b]);
		CHECK(!"bytes differ");
	}
}

/* Every byte of data lies where SEEK_DATA says there is some. */
static void compare_seek(struct world *w, int i)
{
	struct model *m = &w->m[i];
	uint64_t off = 0, data, hole;
	int rc;

	while (off < m->len) {
		rc = fs_seek(w->f.fs, m->ino, off, false, &data, &w->f.need);
		if (rc == FS_NEED)
			return;
		CHECK(rc == 0 || rc == -ENXIO);
		if (rc == -ENXIO)
			data = m->len;
		for (int v = 0; v < 2; v++)
			for (uint32_t b = 0; b < WIN; b++)
				if (win_at[v] + b >= off && win_at[v] + b < data && m->px[v][b])
					CHECK(!"data in a hole");
		if (rc || unit_failures)
			return;
		rc = fs_seek(w->f.fs, m->ino, data, true, &hole, &w->f.need);
		if (rc == FS_NEED)
			return;
		CHECK_EQ(rc, 0);
		CHECK(hole > data && hole <= m->len);
		if (rc || hole <= data)
			return;
		off = hole;
	}
	CHECK_EQ(fs_seek(w->f.fs, m->ino, m->len, true, &hole, &w->f.need), -ENXIO);
}

static void step_write(struct world *w, struct model *m, int v, uint32_t at, uint32_t n)
{
	static uint8_t buf[WIN];

	for (uint32_t b = 0; b < n; b++)
		buf[b] = (uint8_t)(1 + rnd(w, 255));
	CHECK_EQ(fk_write(&w->f, m->ino, win_at[v] + at, buf, n), 0);
	if (win_at[v] + at + n > m->len)
		m->len = win_at[v] + at + n;
	memcpy(m->px[v] + at, buf, n);
}

static void step_zero(struct world *w, struct model *m, int v, uint32_t at, uint32_t n)
{
	bool keep = rnd(w, 2);
	int mode = keep && rnd(w, 2) ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;

	CHECK_EQ(FK(&w->f, fs_fallocate(w->f.fs, &w->f.c, m->ino, mode | (keep ? FALLOC_FL_KEEP_SIZE : 0), win_at[v] + at, n,
				 &w->f.seq, &w->f.need)),
		0);
	memset(m->px[v] + at, 0, n);
	if (!keep && win_at[v] + at + n > m->len)
		m->len = win_at[v] + at + n;
}

static void step_copy(struct world *w, int to, int v, uint32_t at, uint32_t n)
{
	int from = (int)rnd(w, FILES), vf = (int)rnd(w, 2);
	uint32_t src = (uint32_t)rnd(w, WIN - n + 1);
	struct model *a = &w->m[from], *b = &w->m[to];
	uint64_t copied = 0;
	int rc;

	while (n) {
		rc = FK(&w->f, fs_copy_range(w->f.fs, &w->f.c, a->ino, win_at[vf] + src, b->ino, win_at[v] + at, n, &copied,
				      &w->f.seq, &w->f.need));
		if (rc == FS_NEED) {
			load_chunk(w, from, w->f.need.chunk);
			continue;
		}
		if (rc == -EINVAL) {
			CHECK(from == to);
			return;
		}
		CHECK_EQ(rc, 0);
		if (rc || copied == 0)
			return;
		memmove(b->px[v] + at, a->px[vf] + src, copied);
		at += (uint32_t)copied;
		src += (uint32_t)copied;
		n -= (uint32_t)copied;
		if (win_at[v] + at > b->len)
			b->len = win_at[v] + at;
	}
}

static void step(struct world *w)
{
	int i = (int)rnd(w, FILES), v = (int)rnd(w, 2);
	uint32_t at = (uint32_t)rnd(w, WIN - 1), max = WIN - at;
	uint32_t n = 1 + (uint32_t)rnd(w, rnd(w, 4) && max > 3000 ? 3000 : max);
	struct model *m = &w->m[i];

	switch (rnd(w, 16)) {
	case 0:
		CHECK_EQ(fk_truncate(&w->f, m->ino, win_at[v] + at), 0);
		model_cut(m, win_at[v] + at);
		break;
	case 1:
		if (rnd(w, 4))
			break;
		CHECK_EQ(fk_truncate(&w->f, m->ino, 0), 0);
		model_cut(m, 0);
		break;
	case 2:
	case 3:
		step_zero(w, m, v, at, n);
		break;
	case 4:
	case 5:
		step_copy(w, i, v, at, n);
		break;
	case 6: /* an answer that nobody waits for any more, or that comes for something else */
		load_chunk(w, 1, (uint32_t)rnd(w, 2));
		break;
	case 7:
		if (fs_reap_step(w->f.fs) == FS_ROOM)
			REQUIRE(journal_wait_room(w->f.k.j) == 0);
		break;
	default:
		step_write(w, m, v, at, n);
	}
	compare(w, i, v, at, n, rnd(w, 10) == 0);
}

static void compare_all(struct world *w)
{
	for (int i = 0; i < FILES; i++) {
		CHECK_EQ(fk_attr(&w->f, w->m[i].ino).length, w->m[i].len);
		for (int v = 0; v < 2; v++)
			compare(w, i, v, 0, WIN, true);
		compare_seek(w, i);
	}
}

static void bytes_against_painter(void)
{
	static struct world w;
	int before = unit_failures;

	world_init(&w);
	for (int round = 0; round < 40 && unit_failures == before; round++) {
		for (int i = 0; i < 30 && unit_failures == before; i++)
			step(&w);
		for (int i = 0; i < FILES; i++)
			compare_seek(&w, i);
		if (rnd(&w, 5) == 0)
			compare_all(&w);
		if (rnd(&w, 4) == 0)
			fk_restart(&w.f, rnd(&w, 2));
		if (w.loads && round % 13 == 12) { /* begin again with a file that is not loaded */
			fk_fini(&w.f);
			world_init(&w);
		}
	}
	compare_all(&w);
	fk_fini(&w.f);
}

/* 16,384 small writes into one chunk, then a truncate, a big overwrite, and a rename over such a file. */
static void history_06_nothing_grows_with_the_file(void)
{
	enum { N = 16384, STEP = 8 };
	static uint8_t buf[N * STEP];
	uint64_t s = unit_seed(), a, b;
	struct fs_attr out;
	struct fk f;

	fk_init(&f);
	a = fk_file(&f, 1, "a");
	b = fk_file(&f, 1, "b");
	fs_forget(f.fs, b, 1);
	for (int i = 0; i < N; i++) {
		uint32_t at = (uint32_t)(unit_rand(&s) % N) * STEP;

		CHECK_EQ(fk_write(&f, a, at, "1234", 4), 0);
		CHECK_EQ(fk_write(&f, b, at, "1234", 4), 0);
	}
	CHECK(fk_keys(&f, T_EXTENT, a) > N / 2);
	CHECK_EQ(fk_truncate(&f, a, STEP * 10 + 2), 0);
	CHECK(fk_keys(&f, T_EXTENT, a) > N / 2);
	CHECK_EQ(fk_keys(&f, T_CUT, a), 1);
	CHECK_EQ(fk_truncate(&f, a, sizeof(buf)), 0);
	CHECK_EQ(fk_read(&f, a, 0, buf, sizeof(buf)), sizeof(buf));
	for (size_t i = STEP * 10 + 2; i < sizeof(buf); i++)
		if (buf[i]) {
			CHECK(!"cut bytes are back");
			break;
		}
	fk_reap(&f);
	CHECK(fk_keys(&f, T_EXTENT, a) <= 11);
	CHECK_EQ(fk_keys(&f, T_CUT, a), 0);
	CHECK_EQ(fk_keys(&f, T_REAP, 0), 0);
	/* one write over all extents of b */
	memset(buf, 'x', sizeof(buf));
	CHECK_EQ(fk_write(&f, b, 0, buf, sizeof(buf) - 1), 0);
	memset(buf, 0, sizeof(buf));
	CHECK_EQ(fk_read(&f, b, 0, buf, sizeof(buf)), fk_attr(&f, b).length);
	for (size_t i = 0; i < sizeof(buf) - 1; i++)
		if (buf[i] != 'x') {
			CHECK(!"overwritten bytes are back");
			break;
		}
	for (int i = 0; i < 2000; i++)
		CHECK_EQ(fk_write(&f, b, (uint64_t)i * STEP, "1234", 4), 0);
	CHECK_EQ(fk_rename(&f, 1, "a", 1, "b", 0), 0);
	CHECK_EQ(fs_getattr(f.fs, b, &out, &f.need), -ENOENT);
	CHECK(fk_keys(&f, T_EXTENT, b) > 2000);
	fk_restart(&f, true);
	fk_reap(&f);
	CHECK_EQ(fk_keys(&f, T_EXTENT, b), 0);
	CHECK_EQ(fk_keys(&f, T_CUT, 0), 0);
	CHECK_EQ(fk_keys(&f, T_REAP, 0), 0);
	fk_fini(&f);
}

static void truncate_effects(void)
{
	struct fs_setattr set = { .valid = FSA_SIZE, .size = JFS_FILE_MAX };
	struct fs_attr out;
	int64_t space, inodes;
	uint64_t ino, d, mark;
	struct fk f;

	fk_init(&f);
	ino = fk_file(&f, 1, "f");
	CHECK_EQ(fk_mkdir(&f, 1, "d", &d), 0);
	CHECK_EQ(fk_truncate(&f, d, 0), -EISDIR);
	CHECK_EQ(fs_setattr(f.fs, &f.c, ino, &set, &out, &f.need), -EFBIG);
	CHECK_EQ(fk_truncate(&f, ino, JFS_FILE_MAX - 1), 0);
	CHECK_EQ(fs_seek(f.fs, ino, 0, false, &mark, &f.need), -ENXIO); /* at once, whatever the size */
	CHECK_EQ(fk_write(&f, ino, JFS_FILE_MAX - 1, "x", 1), -EFBIG);
	mark = fk_mark(&f);
	CHECK_EQ(fk_truncate(&f, ino, 5000), 0);
	CHECK_EQ(fk_items(&f, mark, IT_CUT), 1);
	CHECK_EQ(fk_items(&f, mark, IT_DIRSTAT), 1);
	fk_stats(&f, &space, &inodes);
	CHECK_EQ(space, 8192 + 4096);
	mark = fk_mark(&f);
	CHECK_EQ(fk_truncate(&f, ino, 6000), 0);
	CHECK_EQ(fk_items(&f, mark, IT_CUT), 0);
	CHECK_EQ(fk_items(&f, mark, IT_SPACE), 0);
	fk_fini(&f);
}

static void suid_goes(void)
{
	struct fs_setattr set = { .valid = FSA_MODE, .mode = 06755 };
	struct fs_kill kill = { .suid = true };
	struct fs_attr a;
	struct staged s;
	uint64_t ino, off = 0;
	struct fk f;

	fk_init(&f);
	ino = fk_file(&f, 1, "f");
	CHECK_EQ(fs_setattr(f.fs, &f.c, ino, &set, &a, &f.need), 0);
	CHECK_EQ(a.a.mode, 06755);
	REQUIRE(staging_append(journal_staging(f.k.j), "x", 1, &s) == 0);
	CHECK_EQ(fs_write(f.fs, &f.c, ino, &off, false, &s, &kill, &f.seq, &f.need), 0);
	CHECK(kill.done);
	CHECK_EQ(fk_attr(&f, ino).mode, 0755);
	CHECK_EQ(fs_setattr(f.fs, &f.c, ino, &set, &a, &f.need), 0);
	set = (struct fs_setattr){ .valid = FSA_UID | FSA_GID, .uid = 5, .gid = 6 };
	CHECK_EQ(fs_setattr(f.fs, &f.c, ino, &set, &a, &f.need), 0);
	CHECK_EQ(a.a.mode, 0755);
	CHECK_EQ(a.a.uid, 5);
	set = (struct fs_setattr){ .valid = FSA_MODE | FSA_CTIME, .mode = 06710, .ctime = 5 };
	CHECK_EQ(fs_setattr(f.fs, &f.c, ino, &set, &a, &f.need), 0);
	set = (struct fs_setattr){ .valid = 0 }; /* chown(-1, -1) */
	CHECK_EQ(fs_setattr(f.fs, &f.c, ino, &set, &a, &f.need), 0);
	CHECK_EQ(a.a.mode, 0710);
	CHECK(a.a.ctime > 5);
	set = (struct fs_setattr){ .valid = FSA_UID | FSA_GID, .uid = 5, .gid = 6 };
	f.c.uid = 9;
	CHECK_EQ(fs_setattr(f.fs, &f.c, ino, &set, &a, &f.need), -EPERM);
	set = (struct fs_setattr){ .valid = FSA_MODE, .mode = 0600 };
	CHECK_EQ(fs_setattr(f.fs, &f.c, ino, &set, &a, &f.need), -EPERM);
	set = (struct fs_setattr){ .valid = FSA_MTIME, .mtime = 5 };
	CHECK_EQ(fs_setattr(f.fs, &f.c, ino, &set, &a, &f.need), -EPERM);
	set.valid = FSA_MTIME | FSA_MTIME_NOW;
	CHECK_EQ(fs_setattr(f.fs, &f.c, ino, &set, &a, &f.need), 0);
	f.c.uid = 5;
	set = (struct fs_setattr){ .valid = FSA_MTIME | FSA_ATIME, .mtime = 5, .mtimensec = 6, .atime = 7, .atimensec = 8 };
	CHECK_EQ(fs_setattr(f.fs, &f.c, ino, &set, &a, &f.need), 0);
	CHECK_EQ(a.a.mtime, 5);
	CHECK_EQ(a.a.mtime_nsec, 6);
	CHECK_EQ(a.a.atime, 7);
	CHECK(a.a.ctime > 1000);
	fk_fini(&f);
}

static void append_takes_the_end(void)
{
	struct staged s;
	uint64_t ino, off;
	uint8_t buf[6];
	struct fk f;

	fk_init(&f);
	ino = fk_file(&f, 1, "f");
	for (int i = 0; i < 3; i++) {
		off = 77;
		REQUIRE(staging_append(journal_staging(f.k.j), "ab", 2, &s) == 0);
		CHECK_EQ(fs_write(f.fs, &f.c, ino, &off, true, &s, NULL, &f.seq, &f.need), 0);
		CHECK_EQ(off, i * 2);
	}
	CHECK_EQ(fk_read(&f, ino, 0, buf, 6), 6);
	CHECK(memcmp(buf, "ababab", 6) == 0);
	fk_fini(&f);
}

static void fallocate_modes(void)
{
	uint64_t ino, d;
	struct fk f;

	fk_init(&f);
#define FALLOC(i, mode, off, len) FK(&f, fs_fallocate(f.fs, &f.c, (i), (mode), (off), (len), &f.seq, &f.need))
	ino = fk_file(&f, 1, "f");
	CHECK_EQ(fk_mkdir(&f, 1, "d", &d), 0);
	CHECK_EQ(FALLOC(ino, 0, 0, 0), -EINVAL);
	CHECK_EQ(FALLOC(ino, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -EOPNOTSUPP);
	CHECK_EQ(FALLOC(ino, FALLOC_FL_PUNCH_HOLE, 0, 4096), -EOPNOTSUPP);
	CHECK_EQ(FALLOC(ino, 0, JFS_FILE_MAX - 1, 1), -EFBIG);
	CHECK_EQ(FALLOC(d, 0, 0, 1), -EISDIR);
	CHECK_EQ(fk_mknod(&f, 1, "p", S_IFIFO | 0600, &d), 0);
	CHECK_EQ(FALLOC(d, 0, 0, 1), -EPIPE);
	CHECK_EQ(FALLOC(ino, FALLOC_FL_KEEP_SIZE, 0, 10000), 0);
	CHECK_EQ(fk_attr(&f, ino).length, 0);
	CHECK_EQ(FALLOC(ino, 0, 100, 10000), 0);
	CHECK_EQ(fk_attr(&f, ino).length, 10100);
	CHECK_EQ(fk_truncate(&f, ino, 1ull << 56), 0);
	CHECK_EQ(FALLOC(ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1ull << 56), 0); /* at once */
	fk_fini(&f);
}

static void copy_errors(void)
{
	uint64_t a, b, d, copied, mark;
	struct fk f;

	fk_init(&f);
#define COPY(i, oi, o, oo, n) FK(&f, fs_copy_range(f.fs, &f.c, (i), (oi), (o), (oo), (n), &copied, &f.seq, &f.need))
	a = fk_file(&f, 1, "a");
	b = fk_file(&f, 1, "b");
	CHECK_EQ(fk_mkdir(&f, 1, "d", &d), 0);
	CHECK_EQ(COPY(d, 0, b, 0, 10), -EISDIR);
	CHECK_EQ(COPY(a, 0, b, 0, 10), 0);
	CHECK_EQ(copied, 0);
	CHECK_EQ(fk_write(&f, a, 0, "0123456789", 10), 0);
	CHECK_EQ(COPY(a, 0, a, 5, 10), -EINVAL);
	CHECK_EQ(COPY(a, 0, b, JFS_FILE_MAX - 5, 10), -EFBIG);
	mark = fk_mark(&f);
	CHECK_EQ(COPY(a, 5, b, JFS_CHUNK_SIZE - 2, 100), 0);
	CHECK_EQ(copied, 5);
	CHECK_EQ(fk_items(&f, mark, IT_SPACE), 1);
	CHECK_EQ(fk_keys(&f, T_EXTENT, b), 2);
	fk_fini(&f);
}

static void relatime(void)
{
	struct fs_setattr set = { .valid = FSA_ATIME | FSA_MTIME, .atime = 5, .mtime = 6 };
	struct fs_attr a;
	uint64_t ino, mark;
	struct fk f;

	fk_init(&f);
	ino = fk_file(&f, 1, "f");
	CHECK_EQ(fs_setattr(f.fs, &f.c, ino, &set, &a, &f.need), 0);
	CHECK_EQ(fs_touch_atime(f.fs, ino), 0);
	CHECK(fk_attr(&f, ino).atime > 6);
	mark = fk_mark(&f);
	CHECK_EQ(fs_touch_atime(f.fs, ino), 0);
	CHECK_EQ(fk_mark(&f), mark);
	fk_fini(&f);
}

static void statfs_figures(void)
{
	struct fs_statfs st;
	struct fk f;

	fk_init(&f);
	CHECK_EQ(fs_statfs(f.fs, 1, &st), 0);
	CHECK_EQ(st.total, 1ull << 50);
	CHECK_EQ(st.inodes_total, 10485760);
	fk_file(&f, 1, "a");
	f.cfg = (struct fs_config){ .capacity = 1 << 20, .inodes = 10 };
	fs_set_config(f.fs, &f.cfg);
	CHECK_EQ(fs_statfs(f.fs, 1, &st), 0);
	CHECK_EQ(st.total, 1 << 20);
	CHECK_EQ(st.avail, (1 << 20) - 4096);
	CHECK_EQ(st.inodes_total, 10);
	CHECK_EQ(st.inodes_avail, 9);
	fk_fini(&f);
}

static void xattrs(void)
{
	static char big[65537];
	char buf[64];
	size_t n;
	uint64_t ino;
	struct fk f;

	fk_init(&f);
	ino = fk_file(&f, 1, "f");
#define SETX(name, val, len, flags)                                                                                   \
	FK(&f, fs_setxattr(f.fs, &f.c, ino, name, strlen(name), val, len, flags, &f.seq, &f.need))
#define GETX(name) (n = sizeof(buf), fs_getxattr(f.fs, ino, name, strlen(name), buf, &n, &f.need))
	CHECK_EQ(GETX("user.a"), -ENODATA);
	CHECK_EQ(SETX("user.a", "1", 1, 2), -ENODATA);
	CHECK_EQ(SETX("user.a", "one", 3, 1), 0);
	CHECK_EQ(SETX("user.a", "one", 3, 1), -EEXIST);
	CHECK_EQ(SETX("user.a", "uno", 3, 2), 0);
	CHECK_EQ(SETX("user.empty", "", 0, 0), 0);
	CHECK_EQ(SETX("user.big", big, sizeof(big), 0), -ERANGE);
	CHECK_EQ(SETX("system.posix_acl_access", "x", 1, 0), -EOPNOTSUPP);
	CHECK_EQ(GETX("user.a"), 0);
	CHECK(n == 3 && memcmp(buf, "uno", 3) == 0);
	CHECK_EQ(GETX("user.empty"), 0);
	CHECK_EQ(n, 0);
	n = 2;
	CHECK_EQ(fs_getxattr(f.fs, ino, "user.a", 6, buf, &n, &f.need), -ERANGE);
	n = 0;
	CHECK_EQ(fs_getxattr(f.fs, ino, "user.a", 6, NULL, &n, &f.need), 0);
	CHECK_EQ(n, 3);
	n = 0;
	CHECK_EQ(fs_listxattr(f.fs, ino, NULL, &n, &f.need), 0);
	CHECK_EQ(n, 7 + 11);
	n = 17;
	CHECK_EQ(fs_listxattr(f.fs, ino, buf, &n, &f.need), -ERANGE);
	n = 18;
	CHECK_EQ(fs_listxattr(f.fs, ino, buf, &n, &f.need), 0);
	CHECK(memcmp(buf, "user.a\0user.empty", 18) == 0);
	CHECK_EQ(SETX("user.big", big, 65536, 0), 0);
	CHECK_EQ(FK(&f, fs_removexattr(f.fs, &f.c, ino, "user.big", 8, &f.seq, &f.need)), 0);
	CHECK_EQ(FK(&f, fs_removexattr(f.fs, &f.c, ino, "user.big", 8, &f.seq, &f.need)), -ENODATA);
	CHECK_EQ(fk_unlink(&f, 1, "f"), 0);
	fs_forget(f.fs, ino, 1);
	CHECK_EQ(fk_keys(&f, T_XATTR, 0), 0);
	fk_fini(&f);
}

/* Dead extents behind the end must not split an append: done again after FS_ROOM, its first part would be there twice. */
static void append_is_one_record(void)
{
	static uint8_t big[1400 << 10];
	struct staged s;
	uint64_t off = 0, seq, before;
	struct fk f;

	fk_init(&f);
	uint64_t ino = fk_file(&f, 1, "log");
	for (uint64_t i = 0; i < 1400; i++)
		REQUIRE(fk_write(&f, ino, i << 10, "line\n", 5) == 0);
	CHECK_EQ(fk_truncate(&f, ino, 3), 0);
	REQUIRE(staging_append(journal_staging(f.k.j), big, sizeof(big), &s) == 0);
	REQUIRE(journal_wait(f.k.j, WM_DURABLE, fk_mark(&f)) == 0);
	before = fk_mark(&f);
	CHECK_EQ(FK(&f, fs_write(f.fs, &f.c, ino, &off, true, &s, NULL, &seq, &f.need)), 0);
	CHECK_EQ(off, 3);
	CHECK_EQ(fk_mark(&f), before + 1);
	CHECK_EQ(fk_attr(&f, ino).length, 3 + sizeof(big));
	fk_fini(&f);
}

/* What a close() without --writeback waits for: bytes that S3 may not have, and nothing else. */
/* What a truncate leaves for later is split by a write that meets it behind the end, even where both end at the same byte. */
static void write_meets_what_was_cut(void)
{
	uint8_t buf[200];
	uint64_t ino;
	struct fk f;

	fk_init(&f);
	ino = fk_file(&f, 1, "f");
	memset(buf, 'a', sizeof(buf));
	REQUIRE(fk_write(&f, ino, 0, buf, sizeof(buf)) == 0);
	for (int i = 0; i < 2 * FS_INLINE_KEYS; i++)
		REQUIRE(fk_write(&f, ino, 300 + 20 * (uint64_t)i, "0123456789", 10) == 0);
	REQUIRE(fk_truncate(&f, ino, 100) == 0);
	CHECK(fk_keys(&f, T_EXTENT, ino) > FS_INLINE_KEYS);
	memset(buf, 'b', 100);
	REQUIRE(fk_write(&f, ino, 100, buf, 100) == 0);
	CHECK_EQ(fk_read(&f, ino, 0, buf, sizeof(buf)), 200);
	for (int i = 0; i < 200; i++)
		CHECK_EQ(buf[i], i < 100 ? 'a' : 'b');
	fk_fini(&f);
}

static void unconfirmed_is_data(void)
{
	uint64_t ino, other, seq, done;
	bool data = true;
	struct fk f;

	fk_init(&f);
	ino = fk_file(&f, 1, "a");
	other = fk_file(&f, 1, "b");
	CHECK_EQ(fs_unconfirmed(f.fs, ino, 0, &data), 0);
	CHECK(!data);
	REQUIRE(fk_write(&f, ino, 0, "12345", 5) == 0);
	seq = fk_mark(&f);
	CHECK_EQ(fs_unconfirmed(f.fs, ino, seq - 1, &data), 0);
	CHECK(data);
	CHECK_EQ(fs_unconfirmed(f.fs, ino, seq, &data), 0);
	CHECK(!data);
	/* metadata behind it, and the data of others, are nobody's wait */
	REQUIRE(fk_truncate(&f, ino, 3) == 0 && fk_write(&f, other, 0, "1", 1) == 0);
	CHECK_EQ(fs_unconfirmed(f.fs, ino, fk_mark(&f) - 1, &data), 0);
	CHECK(!data);
	for (uint64_t i = 0; i < 1100; i++)
		REQUIRE(fk_write(&f, ino, i * 10, "1", 1) == 0);
	done = fk_mark(&f);
	CHECK_EQ(fs_unconfirmed(f.fs, ino, done, &data), 0);
	CHECK(data); /* too many to look at */
	fk_fini(&f);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {
		{ "bytes_against_painter", bytes_against_painter },
		{ "history_06_nothing_grows_with_the_file", history_06_nothing_grows_with_the_file },
		{ "truncate_effects", truncate_effects },
		{ "suid_goes", suid_goes },
		{ "append_takes_the_end", append_takes_the_end },
		{ "append_is_one_record", append_is_one_record },
		{ "fallocate_modes", fallocate_modes },
		{ "copy_errors", copy_errors },
		{ "write_meets_what_was_cut", write_meets_what_was_cut },
		{ "unconfirmed_is_data", unconfirmed_is_data },
		{ "relatime", relatime },
		{ "statfs_figures", statfs_figures },
		{ "xattrs", xattrs },
		{ 0 },
	};

	return unit_main(argc, argv, tests);
}
