/* Frames of the sync log, which of them count, and what a journal makes of them after a crash. */
#include <fcntl.h>
#include <xxhash.h>

#include "journal/inspect.h"
#include "journal/journal_int.h"
#include "journal/synclog.h"
#include "tests/unit/journal_kit.h"

#define GOLDEN "tests/golden/sync/v1/frame.bin"

static const char id[] = "0123456789abcdef0123456789abcdef";
static const struct sync_frame sample = {.life = 3, .anchor = 40, .first = 42, .last = 44};

static void make_sample(struct buf *b)
{
	static uint8_t big[4000];

	memset(big, 0x5a, sizeof(big));
	buf_init(b, 0);
	sync_frame_begin(b);
	sync_frame_add(b, "hello", 5);
	sync_frame_add(b, "", 0);
	sync_frame_add(b, big, sizeof(big));
	sync_frame_finish(b, id, &sample);
	REQUIRE(b->err == 0);
}

static void a_frame_is_read_as_it_was_written(void)
{
	struct sync_frame f;
	const uint8_t *rec;
	size_t size, len, at = 0;
	struct buf b;

	make_sample(&b);
	CHECK_EQ(b.len, 2 * SYNC_BLOCK);
	CHECK_EQ(sync_frame_read(b.data, b.len, id, &f, &size), 0);
	CHECK_EQ(size, b.len);
	CHECK(f.life == 3 && f.anchor == 40 && f.first == 42 && f.last == 44);
	CHECK_EQ(sync_frame_next(&f, &at, &rec, &len), 1);
	CHECK(len == 5 && memcmp(rec, "hello", 5) == 0);
	CHECK_EQ(sync_frame_next(&f, &at, &rec, &len), 1);
	CHECK_EQ(len, 0);
	CHECK_EQ(sync_frame_next(&f, &at, &rec, &len), 1);
	CHECK(len == 4000 && rec[3999] == 0x5a);
	CHECK_EQ(sync_frame_next(&f, &at, &rec, &len), 0);
	buf_fini(&b);
}

/* With JFS_GOLDEN=write the file is made anew (only right when a new version of the format begins). */
static void golden_file(void)
{
	static uint8_t file[65536];
	bool make = getenv("JFS_GOLDEN") && strcmp(getenv("JFS_GOLDEN"), "write") == 0;
	FILE *f = fopen(GOLDEN, make ? "w" : "r");
	struct buf b;

	REQUIRE(f);
	make_sample(&b);
	if (make) {
		CHECK(fwrite(b.data, 1, b.len, f) == b.len);
	} else {
		CHECK_EQ(fread(file, 1, sizeof(file), f), b.len);
		CHECK(memcmp(file, b.data, b.len) == 0);
	}
	fclose(f);
	buf_fini(&b);
}

static void every_damage_is_the_end(void)
{
	const size_t used = 88 + 3 * 4 + 5 + 4000;
	struct sync_frame f;
	struct buf b;
	size_t size;

	make_sample(&b);
	for (size_t i = 0; i < used; i++) {
		b.data[i] ^= 1;
		CHECK_EQ(sync_frame_read(b.data, b.len, id, &f, &size), -ENOENT);
		b.data[i] ^= 1;
	}
	for (size_t n = 0; n < b.len; n += 97) { /* cut short */
		uint8_t *part = malloc(n + 1);

		memcpy(part, b.data, n);
		CHECK_EQ(sync_frame_read(part, n, id, &f, &size), -ENOENT);
		free(part);
	}
	for (size_t sector = 0; sector < b.len / 512; sector++) { /* one sector is still what was there before */
		uint8_t was[512];

		memcpy(was, b.data + sector * 512, 512);
		memset(b.data + sector * 512, 0, 512);
		CHECK_EQ(sync_frame_read(b.data, b.len, id, &f, &size), sector * 512 < used ? -ENOENT : 0);
		memcpy(b.data + sector * 512, was, 512);
	}
	CHECK_EQ(sync_frame_read(b.data, b.len, "another cache directory's identity", &f, &size), -ENOENT);
	CHECK_EQ(sync_frame_read(b.data, b.len, id, &f, &size), 0);
	buf_fini(&b);
}

/* --- which frames count --- */

struct dir {
	char path[64];
	int fd;
	size_t at;
};

static void dir_init(struct dir *d)
{
	char file[128];

	snprintf(d->path, sizeof(d->path), "/tmp/jfs-synclog-XXXXXX");
	REQUIRE(mkdtemp(d->path));
	snprintf(file, sizeof(file), "%s/sync.log", d->path);
	d->fd = open(file, O_RDWR | O_CREAT, 0600);
	d->at = 0;
	REQUIRE(d->fd >= 0 && ftruncate(d->fd, SYNC_LOG_SIZE) == 0);
}

static void dir_fini(struct dir *d)
{
	close(d->fd);
	kit_remove(d->path);
}

/* A frame of one-byte records behind the one before, or where d->at was set. */
static void frame_write(struct dir *d, uint64_t life, uint64_t anchor, uint64_t first, uint64_t last)
{
	struct sync_frame f = {.life = life, .anchor = anchor, .first = first, .last = last};
	struct buf b;

	buf_init(&b, 0);
	sync_frame_begin(&b);
	for (uint64_t n = first; n <= last; n++)
		sync_frame_add(&b, &(uint8_t){(uint8_t)n}, 1);
	sync_frame_finish(&b, id, &f);
	REQUIRE(pwrite(d->fd, b.data, b.len, (off_t)d->at) == (ssize_t)b.len);
	d->at += b.len;
	buf_fini(&b);
}

static int number_follows(void *arg, uint64_t seq, const void *rec, size_t len)
{
	uint64_t *next = arg;

	CHECK(seq == (*next)++ && len == 1 && *(const uint8_t *)rec == (uint8_t)seq);
	return 0;
}

/* The last record that is kept behind `durable`, all before it in order; `durable` when there is none. */
static uint64_t kept_upto(struct dir *d, uint64_t life, uint64_t durable)
{
	uint64_t next = durable + 1;
	struct sync_kept k;

	CHECK_EQ(synclog_load(d->path, id, life, durable, &k), 0);
	CHECK(!k.damaged);
	CHECK_EQ(synclog_scan(&k, next, number_follows, &next), 0);
	synclog_forget(&k);
	return next - 1;
}

static void frames_continue_base(void)
{
	struct dir d;

	dir_init(&d);
	CHECK_EQ(kept_upto(&d, 1, 0), 0);
	frame_write(&d, 1, 10, 11, 12);
	frame_write(&d, 1, 10, 13, 13);
	frame_write(&d, 1, 10, 14, 20);
	CHECK_EQ(kept_upto(&d, 1, 10), 20);
	CHECK_EQ(kept_upto(&d, 1, 12), 20); /* recovery was killed after a part */
	CHECK_EQ(kept_upto(&d, 1, 15), 20);
	CHECK_EQ(kept_upto(&d, 1, 20), 20);
	CHECK_EQ(kept_upto(&d, 1, 30), 30);
	CHECK_EQ(kept_upto(&d, 2, 10), 10);
	frame_write(&d, 1, 11, 21, 23); /* another run's */
	CHECK_EQ(kept_upto(&d, 1, 10), 20);
	dir_fini(&d);
}

/* The first record of the frame behind the gap; 0 when there is none. `whole` frames are in front of it. */
static uint64_t gap_before(struct dir *d, uint64_t durable, size_t whole)
{
	struct sync_kept k;
	uint64_t first;

	CHECK_EQ(synclog_load(d->path, id, 1, durable, &k), 0);
	CHECK(k.damaged == (k.n > whole));
	first = k.damaged ? k.frame[whole].first : 0;
	synclog_forget(&k);
	return first;
}

static void spoil_log(int fd, off_t at)
{
	uint8_t b;

	REQUIRE(pread(fd, &b, 1, at) == 1);
	b ^= 1;
	REQUIRE(pwrite(fd, &b, 1, at) == 1);
}

/* By the order of their writing a whole frame says of those before it that they were durable. */
static void a_frame_that_is_missing_is_told(void)
{
	struct dir d;

	dir_init(&d);
	frame_write(&d, 1, 10, 11, 12);
	frame_write(&d, 1, 10, 13, 13);
	frame_write(&d, 1, 10, 14, 20);
	CHECK_EQ(gap_before(&d, 10, 3), 0);
	CHECK_EQ(gap_before(&d, 9, 0), 11); /* base has gone back to what it was before */
	spoil_log(d.fd, SYNC_BLOCK + 90);
	CHECK_EQ(gap_before(&d, 10, 1), 14);
	CHECK_EQ(gap_before(&d, 12, 0), 14);
	CHECK_EQ(gap_before(&d, 20, 0), 0);
	spoil_log(d.fd, 90);
	CHECK_EQ(gap_before(&d, 10, 0), 14);
	spoil_log(d.fd, SYNC_BLOCK + 90);
	CHECK_EQ(gap_before(&d, 10, 0), 13);
	spoil_log(d.fd, 2 * SYNC_BLOCK + 90); /* the last: it may be torn */
	CHECK_EQ(gap_before(&d, 13, 0), 0);
	spoil_log(d.fd, 90);
	CHECK_EQ(gap_before(&d, 10, 2), 0);
	d.at = 0; /* the next run, torn: what the one before left behind it is in base */
	frame_write(&d, 1, 20, 21, 22);
	spoil_log(d.fd, 90);
	CHECK_EQ(gap_before(&d, 20, 0), 0);
	d.at = 0; /* what the disk made of its first frame is what was there before */
	frame_write(&d, 1, 10, 11, 12);
	CHECK_EQ(gap_before(&d, 20, 0), 0);
	frame_write(&d, 1, 20, 23, 24);
	CHECK_EQ(gap_before(&d, 20, 0), 23);
	dir_fini(&d);
}

/* The start was written over: what lies behind fits nowhere, even if its numbers happen to. */
static void older_frames_behind_newer_ones(void)
{
	struct dir d;

	dir_init(&d);
	frame_write(&d, 1, 10, 11, 20);
	frame_write(&d, 1, 10, 21, 30);
	d.at = 0;
	frame_write(&d, 1, 15, 16, 20);
	CHECK_EQ(kept_upto(&d, 1, 15), 20);
	d.at = 0;
	frame_write(&d, 2, 10, 11, 20);
	CHECK_EQ(kept_upto(&d, 2, 10), 20);
	d.at = 0;
	frame_write(&d, 1, 30, 31, 32);
	CHECK_EQ(kept_upto(&d, 1, 30), 32);
	CHECK_EQ(gap_before(&d, 10, 0), 31);
	dir_fini(&d);
}

/* --- a journal with it --- */

static void sync_kit(struct kit *k)
{
	kit_init(k);
	k->cfg.sync_interval_ms = 3600000;
	kit_open(k);
	CHECK_EQ(journal_wait(k->j, WM_SYNCED, kit_set(k, 1, "in base")), 0); /* the log is made behind it */
}

static void is_in_the_log_alone(struct kit *k, uint64_t seq)
{
	CHECK_EQ(journal_wait(k->j, WM_SYNCED, seq), 0);
	CHECK(journal_mark(k->j, WM_SYNCED) >= seq && journal_mark(k->j, WM_DURABLE) < seq);
}

static uint64_t syncs_of(struct kit *k)
{
	struct journal_figures f;

	journal_figures(k->j, &f);
	return f.syncs;
}

static void version_set(const char *path, uint8_t version)
{
	uint8_t block[SYNC_BLOCK];
	int fd = open(path, O_RDWR);

	REQUIRE(fd >= 0 && pread(fd, block, sizeof(block), 0) == (ssize_t)sizeof(block));
	block[15] = version;
	put_be64(block, XXH3_64bits(block + 8, 80 + get_be64(block + 80)));
	REQUIRE(pwrite(fd, block, sizeof(block), 0) == (ssize_t)sizeof(block));
	close(fd);
}

/* By a later program: told by its number, and left for that. */
static void a_newer_frame_is_refused(void)
{
	static const char text[] = "its sync log has format version 2, this program reads up to 1";
	struct inspect found;
	char path[200];
	struct kit k;

	sync_kit(&k);
	is_in_the_log_alone(&k, kit_set(&k, 2, "two"));
	kit_power_cut(&k);
	snprintf(path, sizeof(path), "%s/base/sync.log", k.cache);
	version_set(path, 2);
	CHECK_EQ(journal_inspect(&k.cfg, &k.j, &found, &k.e), -ENOTSUP);
	CHECK(strstr(k.e.text, text) != NULL);
	CHECK_EQ(journal_open(&k.cfg, &k.j, &k.rep, &k.e), -ENOTSUP);
	CHECK(strstr(k.e.text, text) != NULL);
	version_set(path, 1);
	kit_open(&k);
	CHECK_EQ(k.rep.synced, 1);
	kit_expect(&k, 2, "two");
	kit_kill(&k);
	kit_fini(&k);
}

static void p2_a_power_cut_keeps_what_was_synced(void)
{
	struct staged s;
	uint8_t data[5000];
	struct kit k;

	memset(data, 7, sizeof(data));
	sync_kit(&k);
	is_in_the_log_alone(&k, kit_set(&k, 2, "two"));
	is_in_the_log_alone(&k, kit_write(&k, 9, data, sizeof(data), &s));
	kit_set(&k, 1, "changed");
	is_in_the_log_alone(&k, kit_set(&k, 3, "three"));
	CHECK_EQ(syncs_of(&k), 3);
	kit_set(&k, 4, "not synced");
	kit_power_cut(&k);
	kit_open(&k);
	CHECK(k.rep.power_cut && k.rep.synced == 4 && k.rep.recovered == 0 && k.rep.dropped == 0);
	CHECK_EQ(journal_mark(k.j, WM_DURABLE), 5);
	kit_expect(&k, 1, "changed");
	kit_expect(&k, 2, "two");
	kit_expect(&k, 3, "three");
	kit_expect(&k, 4, NULL);
	memset(data, 0, sizeof(data));
	CHECK_EQ(staging_read(journal_staging(k.j), s.segment, s.off, data, sizeof(data)), 0);
	CHECK(data[0] == 7 && data[4999] == 7);
	kit_set(&k, 4, "four");
	kit_power_cut(&k); /* what the life before left is void by now */
	kit_open(&k);
	CHECK(k.rep.synced == 0 && journal_mark(k.j, WM_DURABLE) == 5);
	kit_expect(&k, 4, NULL);
	kit_close(&k);
	CHECK_EQ(access(k.cache, F_OK), 0);
	kit_fini(&k);
}

static void a_kill_finds_all_in_the_hot_log(void)
{
	struct kit k;

	sync_kit(&k);
	is_in_the_log_alone(&k, kit_set(&k, 2, "two"));
	kit_set(&k, 3, "three");
	kit_kill(&k);
	kit_open(&k);
	CHECK(k.rep.recovered == 2 && k.rep.synced == 0);
	kit_expect(&k, 3, "three");
	kit_close(&k);
	kit_open(&k);
	CHECK(k.rep.clean);
	kit_close(&k);
	kit_fini(&k);
}

/* Flushes between frames: each begins the file anew. */
static void frames_and_flushes_take_turns(void)
{
	uint64_t seed = unit_seed(), last = 1, sure = 0; /* the first record is sync_kit's */
	char text[32];
	struct kit k;

	sync_kit(&k);
	for (int round = 0; round < 15; round++) {
		for (uint64_t n = unit_rand(&seed) % 30; n > 0; n--) {
			last = kit_set(&k, 10 + last % 7, (snprintf(text, sizeof(text), "%llu", (unsigned long long)last + 1), text));
			if (unit_rand(&seed) % 3 == 0) {
				CHECK_EQ(journal_wait(k.j, unit_rand(&seed) % 6 ? WM_SYNCED : WM_DURABLE, last), 0);
				sure = last;
			}
		}
		kit_power_cut(&k);
		kit_open(&k);
		CHECK_EQ(k.rep.dropped, 0);
		CHECK(journal_mark(k.j, WM_DURABLE) >= sure);
		last = journal_mark(k.j, WM_DURABLE);
		for (uint64_t n = last; n > 1 && n + 7 > last; n--) {
			snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
			kit_expect(&k, 10 + (n - 1) % 7, text);
		}
	}
	kit_close(&k);
	kit_fini(&k);
}

static void spoil(struct kit *k, const struct staged *s)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/staging/%016llx.seg", k->cache, (unsigned long long)s->segment);
	fd = open(path, O_RDWR);
	REQUIRE(fd >= 0 && pwrite(fd, "?", 1, s->off + 10) == 1 && fsync(fd) == 0);
	close(fd);
}

/* The power went before its bytes were on the disk: nobody was answered. Its numbers are given again, to others. */
static void a_last_frame_without_its_bytes(void)
{
	uint8_t data[5000] = {1};
	struct staged s;
	struct kit k;

	sync_kit(&k);
	is_in_the_log_alone(&k, kit_set(&k, 2, "two"));
	kit_set(&k, 3, "three");
	kit_write(&k, 9, data, sizeof(data), &s);
	is_in_the_log_alone(&k, kit_set(&k, 5, "five"));
	kit_kill(&k);
	spoil(&k, &s);
	kit_remove(k.hot);
	REQUIRE(mkdir(k.hot, 0700) == 0);
	kit_open(&k);
	CHECK(k.rep.synced == 1 && k.rep.dropped == 0);
	kit_expect(&k, 2, "two");
	kit_expect(&k, 3, NULL);
	CHECK_EQ(journal_mark(k.j, WM_DURABLE), 2);
	CHECK_EQ(kit_set(&k, 8, "other"), 3);
	kit_kill(&k);
	kit_open(&k);
	CHECK(k.rep.recovered == 1 && k.rep.synced == 0);
	kit_expect(&k, 8, "other");
	kit_expect(&k, 5, NULL);
	kit_close(&k);
	kit_fini(&k);
}

/* One that somebody was answered for, since there is another behind it: damage, named and set aside. */
static void an_earlier_frame_without_its_bytes(void)
{
	uint8_t data[5000] = {1};
	struct staged s;
	struct kit k;

	sync_kit(&k);
	is_in_the_log_alone(&k, kit_set(&k, 2, "two"));
	is_in_the_log_alone(&k, kit_write(&k, 9, data, sizeof(data), &s));
	is_in_the_log_alone(&k, kit_set(&k, 4, "four"));
	kit_kill(&k);
	spoil(&k, &s);
	kit_remove(k.hot);
	REQUIRE(mkdir(k.hot, 0700) == 0);
	kit_open(&k);
	CHECK(k.rep.synced == 1 && k.rep.dropped == 2 && strstr(k.rep.first_bad, "record 3") != NULL);
	kit_expect(&k, 2, "two");
	kit_expect(&k, 4, NULL);
	kit_close(&k);
	kit_fini(&k);
}

static void open_once(struct kit *k)
{
	kit_open(k);
	kit_kill(k);
}

/* The disk no longer has a frame that somebody was answered for: what is behind it is set aside, and a tool says so before. */
static void a_frame_in_the_middle_is_damaged(void)
{
	struct inspect found;
	struct journal *j;
	char path[256];
	struct kit k;
	int fd;

	sync_kit(&k);
	for (uint64_t n = 2; n <= 5; n++)
		is_in_the_log_alone(&k, kit_set(&k, n, "x"));
	kit_power_cut(&k);
	snprintf(path, sizeof(path), "%s/base/sync.log", k.cache);
	fd = open(path, O_RDWR);
	REQUIRE(fd >= 0);
	spoil_log(fd, SYNC_BLOCK + 90);
	close(fd);
	REQUIRE(journal_inspect(&k.cfg, &j, &found, &k.e) == 0);
	CHECK(found.hot_records == 1 && found.hot_bad == 2 && strstr(found.first_bad, "goes on at 4") != NULL);
	CHECK_EQ(journal_close(j), 0);
	kit_fork(&k, "recovery.sync.before_void:1:kill", true, open_once);
	for (int i = 0; i < 2; i++) {
		kit_open(&k);
		CHECK(k.rep.synced == 0 && k.rep.dropped == (i ? 0 : 2));
		CHECK(i || strstr(k.rep.first_bad, "goes on at 4") != NULL);
		CHECK_EQ(journal_mark(k.j, WM_DURABLE), 2);
		kit_expect(&k, 2, "x");
		kit_expect(&k, 4, NULL);
		kit_power_cut(&k);
	}
	kit_fini(&k);
}

/* Killed at each step of taking the frames over, and then the power goes as well, or not. */
static void recovery_of_frames_is_killed(void)
{
	static const char *const points[] = {"recovery.sync.before_put:1", "recovery.sync.before_put:2", "recovery.sync.before_put:3",
		"recovery.step:1", "recovery.step:3", "recovery.before_base:1", "recovery.after_base:1", "recovery.before_empty:1",
		"hot.reset.before:1", "hot.reset.after:1", "recovery.sync.before_void:1"};
	uint64_t seed = unit_seed();
	char fault[64];

	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
		struct kit k;

		sync_kit(&k);
		is_in_the_log_alone(&k, kit_set(&k, 2, "two"));
		kit_set(&k, 3, "three");
		is_in_the_log_alone(&k, kit_set(&k, 1, "changed"));
		kit_power_cut(&k);
		snprintf(fault, sizeof(fault), "%s:kill", points[i]);
		kit_fork(&k, fault, true, open_once);
		if (unit_rand(&seed) % 2) {
			kit_remove(k.hot);
			REQUIRE(mkdir(k.hot, 0700) == 0);
		}
		kit_open(&k);
		CHECK_EQ(k.rep.dropped, 0);
		CHECK_EQ(journal_mark(k.j, WM_DURABLE), 4);
		kit_expect(&k, 1, "changed");
		kit_expect(&k, 2, "two");
		kit_expect(&k, 3, "three");
		kit_close(&k);
		kit_fini(&k);
	}
}

/* The hot log is smaller than what the frames hold: base takes them in pieces. */
static void more_frames_than_a_hot_log_holds(void)
{
	static uint8_t big[30000];
	uint64_t last = 0;
	struct kit k;

	memset(big, 'b', sizeof(big));
	sync_kit(&k);
	for (uint64_t n = 0; n < 40; n++)
		is_in_the_log_alone(&k, last = kit_set_flags(&k, 100 + n, big, sizeof(big), 0, 1));
	kit_power_cut(&k);
	k.cfg.hot_size = 512 << 10;
	kit_fork(&k, "recovery.after_base:2:kill", true, open_once);
	kit_remove(k.hot);
	REQUIRE(mkdir(k.hot, 0700) == 0);
	kit_open(&k);
	CHECK(journal_mark(k.j, WM_DURABLE) == last && k.rep.dropped == 0 && k.rep.synced > 0 && k.rep.synced < 40);
	for (uint64_t n = 0; n < 40; n++)
		CHECK_EQ(kit_probe(&k, 100 + n), 0);
	kit_close(&k);
	kit_fini(&k);
}

/* What no frame can hold, and a log that is full, go to base as ever. */
static void base_takes_what_the_log_cannot(void)
{
	static uint8_t big[200000];
	struct kit k;

	kit_init(&k);
	k.cfg.hot_size = 32 << 20; /* half of it, and a flush is due */
	k.cfg.sync_interval_ms = 3600000;
	kit_open(&k);
	CHECK_EQ(journal_wait(k.j, WM_SYNCED, kit_set(&k, 1, "in base")), 0);
	for (int i = 0; i < 2; i++)
		kit_set_flags(&k, 2, big, sizeof(big), 0, 1);
	uint64_t seq = kit_set(&k, 3, "three");
	CHECK_EQ(journal_wait(k.j, WM_SYNCED, seq), 0);
	CHECK_EQ(journal_mark(k.j, WM_DURABLE), seq);
	CHECK_EQ(syncs_of(&k), 0);
	for (unsigned i = 0; i < SYNC_LOG_SIZE / (49 * SYNC_BLOCK); i++) /* each frame takes 49 blocks */
		is_in_the_log_alone(&k, kit_set_flags(&k, 10 + i % 7, big, sizeof(big), 0, 1));
	seq = kit_set_flags(&k, 4, big, sizeof(big), 0, 1);
	CHECK_EQ(journal_wait(k.j, WM_SYNCED, seq), 0);
	CHECK_EQ(journal_mark(k.j, WM_DURABLE), seq);
	is_in_the_log_alone(&k, kit_set(&k, 5, "five"));
	kit_power_cut(&k);
	kit_open(&k);
	CHECK_EQ(k.rep.synced, 1);
	kit_expect(&k, 5, "five");
	kit_close(&k);
	kit_fini(&k);
}

static void fails(struct kit *k)
{
	kit_open(k);
	CHECK_EQ(journal_wait(k->j, WM_SYNCED, kit_set(k, 1, "in base")), 0);
	CHECK_EQ(journal_wait(k->j, WM_SYNCED, kit_set(k, 2, "two")), 0);
	CHECK_EQ(journal_wait(k->j, WM_SYNCED, kit_set(k, 3, "three")), -EIO);
	CHECK(journal_failed(k->j));
	CHECK_EQ(journal_wait(k->j, WM_SYNCED, 2), 0);
	CHECK_EQ(journal_close(k->j), -EIO);
}

static void fills_up(struct kit *k)
{
	kit_open(k);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(journal_wait(k->j, WM_SYNCED, kit_set(k, 1, "x")), 0);
	CHECK_EQ(journal_mark(k->j, WM_DURABLE), 5);
	CHECK_EQ(syncs_of(k), 1);
	CHECK_EQ(journal_close(k->j), 0);
}

static void no_room(struct kit *k)
{
	kit_open(k);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(journal_wait(k->j, WM_SYNCED, kit_set(k, 1, "x")), 0);
	CHECK_EQ(syncs_of(k), 0);
	CHECK_EQ(journal_close(k->j), 0);
}

static void p12_a_failed_frame_is_terminal(void)
{
	static const char *const faults[] = {"synclog.write:2:EIO", "synclog.sync:2:EIO", "synclog.sync:2:ENOSPC"};

	for (int i = 0; i < 5; i++) {
		struct kit k;

		kit_init(&k);
		k.cfg.sync_interval_ms = 3600000;
		kit_fork(&k, i == 3 ? "synclog.write:2:ENOSPC" : i == 4 ? "synclog.make:1+:ENOSPC" : faults[i], false,
			i == 3 ? fills_up : i == 4 ? no_room : fails);
		kit_open(&k);
		kit_expect(&k, 1, i < 3 ? "in base" : "x");
		if (i < 3)
			kit_expect(&k, 2, "two");
		kit_close(&k);
		kit_fini(&k);
	}
}

static int count(void *arg, uint64_t seq, const void *rec, size_t len)
{
	uint64_t *n = arg;

	CHECK(rec && len > 0);
	CHECK_EQ(seq, ++*n);
	return 0;
}

static void a_tool_sees_frames(void)
{
	struct inspect found;
	struct journal *j;
	uint64_t n = 1;
	struct kit k;

	sync_kit(&k);
	is_in_the_log_alone(&k, kit_set(&k, 2, "two"));
	is_in_the_log_alone(&k, kit_set(&k, 1, "changed"));
	kit_set(&k, 3, "three");
	kit_kill(&k);
	REQUIRE(journal_inspect(&k.cfg, &j, &found, &k.e) == 0);
	CHECK(found.hot_records == 3 && found.durable == 1);
	CHECK_EQ(journal_inspect_hot(j, count, &n), 0);
	CHECK_EQ(n, 4);
	CHECK_EQ(journal_close(j), 0);
	kit_remove(k.hot);
	REQUIRE(mkdir(k.hot, 0700) == 0);
	for (int i = 0; i < 2; i++) { /* looking changes nothing */
		REQUIRE(journal_inspect(&k.cfg, &j, &found, &k.e) == 0);
		CHECK(!found.clean && !found.hot_found && found.hot_records == 2 && found.hot_bad == 0);
		CHECK_EQ(journal_mark(j, WM_COMMITTED), 3);
		n = 1;
		CHECK_EQ(journal_inspect_hot(j, count, &n), 0);
		CHECK_EQ(n, 3);
		k.j = j;
		kit_expect(&k, 1, "changed");
		kit_expect(&k, 2, "two");
		kit_expect(&k, 3, NULL);
		CHECK_EQ(journal_close(j), 0);
	}
	kit_open(&k);
	CHECK_EQ(k.rep.synced, 2);
	kit_close(&k);
	kit_fini(&k);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"a_frame_is_read_as_it_was_written", a_frame_is_read_as_it_was_written},
		{"golden_file", golden_file}, {"every_damage_is_the_end", every_damage_is_the_end},
		{"frames_continue_base", frames_continue_base}, {"older_frames_behind_newer_ones", older_frames_behind_newer_ones},
		{"a_newer_frame_is_refused", a_newer_frame_is_refused},
		{"p2_a_power_cut_keeps_what_was_synced", p2_a_power_cut_keeps_what_was_synced},
		{"a_kill_finds_all_in_the_hot_log", a_kill_finds_all_in_the_hot_log},
		{"frames_and_flushes_take_turns", frames_and_flushes_take_turns},
		{"a_last_frame_without_its_bytes", a_last_frame_without_its_bytes},
		{"an_earlier_frame_without_its_bytes", an_earlier_frame_without_its_bytes},
		{"a_frame_that_is_missing_is_told", a_frame_that_is_missing_is_told},
		{"a_frame_in_the_middle_is_damaged", a_frame_in_the_middle_is_damaged},
		{"recovery_of_frames_is_killed", recovery_of_frames_is_killed},
		{"more_frames_than_a_hot_log_holds", more_frames_than_a_hot_log_holds},
		{"base_takes_what_the_log_cannot", base_takes_what_the_log_cannot},
		{"p12_a_failed_frame_is_terminal", p12_a_failed_frame_is_terminal}, {"a_tool_sees_frames", a_tool_sees_frames},
		{NULL, NULL}};

	return unit_main(argc, argv, tests);
}
