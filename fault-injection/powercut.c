/* powercut: makes from a device log (blklog) an image as a power cut could have left it.
 *
 *   powercut list LOG                      counts and the position of each mark
 *   powercut cut LOG BASE OUT SEED [FROM TO]   a seeded random cut between records FROM and TO (0-based, TO excluded;
 *                                          default: from the first mark to 200 records after the last one)
 *   powercut at LOG BASE OUT SEED RECORD   the cut right behind this record
 *
 * The image is BASE with every write in front of the last flush before the cut, and of the writes since then a random
 * subset of sectors: each write is split into pieces of 512 or 4096 bytes and each piece is kept with a probability
 * drawn for this cut from 0 .. 1. So later writes may be there and earlier ones not (reordering), and one write may be
 * there in part (tearing), but no sector ever mixes two writes, and pieces of one sector keep their order. The first
 * 4 KiB of the device are never torn.
 *
 * The answer is key=value lines on stdout: cut, flush (the record of that flush, -1: none), records, pieces, kept,
 * probability, piece_size; then for each mark in front of the cut one line "mark TEXT" (newlines as blanks).
 * A cut keeps the promise of a device: whatever a flush covered is there. So whoever reports "synced" only after a
 * flush can trust the image, and whoever does not is found out. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blklog.h"
#include "util/parse.h"

struct devlog {
	const uint8_t *map;
	size_t size, count;
	size_t *at; /* offset of each record */
};

struct cut {
	uint64_t seed;
	size_t last;  /* the last record that the device saw */
	size_t flush; /* the last flush at or in front of it; SIZE_MAX: none */
	uint64_t pieces, kept;
	double keep;
	uint32_t piece;
};

static void die(const char *what)
{
	fprintf(stderr, "powercut: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* splitmix64: any seed is a good one */
static uint64_t rnd(uint64_t *s)
{
	uint64_t x = *s += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static struct blklog_rec devlog_rec(const struct devlog *l, size_t i)
{
	struct blklog_rec r;

	memcpy(&r, l->map + l->at[i], sizeof(r));
	return r;
}

static const uint8_t *devlog_data(const struct devlog *l, size_t i)
{
	return l->map + l->at[i] + sizeof(struct blklog_rec);
}

static void devlog_open(struct devlog *l, const char *path)
{
	struct stat st;
	size_t room = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		die(path);
	*l = (struct devlog){.size = (size_t)st.st_size};
	if (l->size == 0) {
		close(fd);
		return;
	}
	l->map = mmap(NULL, l->size, PROT_READ, MAP_SHARED, fd, 0);
	if (l->map == MAP_FAILED)
		die(path);
	close(fd);
	for (size_t o = 0; l->size - o >= sizeof(struct blklog_rec);) {
		struct blklog_rec r;

		memcpy(&r, l->map + o, sizeof(r));
		if (r.type < BLKLOG_WRITE || r.type > BLKLOG_MARK || r.len > BLKLOG_LEN_MAX) {
			errno = EUCLEAN;
			die(path);
		}
		if (r.len > l->size - o - sizeof(r))
			break;
		if (l->count == room) {
			room = room ? room * 2 : 4096;
			l->at = realloc(l->at, room * sizeof(*l->at));
			if (!l->at)
				die("log index");
		}
		l->at[l->count++] = o;
		o += sizeof(r) + r.len;
	}
}

static void devlog_close(struct devlog *l)
{
	if (l->map)
		munmap((void *)l->map, l->size);
	free(l->at);
}

/* The window in which random cuts are made when nothing else is said. */
static void devlog_marks(const struct devlog *l, size_t *from, size_t *to)
{
	size_t first = l->count, last = 0;

	for (size_t i = 0; i < l->count; i++) {
		if (devlog_rec(l, i).type != BLKLOG_MARK)
			continue;
		if (first == l->count)
			first = i;
		last = i;
	}
	*from = first == l->count ? 0 : first;
	*to = first == l->count || l->count - last <= 200 ? l->count : last + 200;
}

/* Half of the cuts lie around a flush, where the mistakes are; the others anywhere. */
static size_t cut_choose(const struct devlog *l, uint64_t *rng, size_t from, size_t to)
{
	size_t flushes = 0, pick, pos = from + (size_t)(rnd(rng) % (to - from));
	long near = (long)(rnd(rng) % 41) - 20;

	for (size_t i = from; i < to; i++)
		flushes += devlog_rec(l, i).type == BLKLOG_FLUSH;
	if (!flushes || rnd(rng) % 2)
		return pos;
	pick = (size_t)(rnd(rng) % flushes);
	for (pos = from; devlog_rec(l, pos).type != BLKLOG_FLUSH || pick-- > 0; pos++)
		;
	if (near < 0 && pos - from < (size_t)-near)
		return from;
	pos += (size_t)near;
	return pos < to ? pos : to - 1;
}

static void cut_write(int fd, const uint8_t *data, size_t len, uint64_t off)
{
	if (pwrite(fd, data, len, (off_t)off) != (ssize_t)len)
		die("image");
}

/* Copies BASE to OUT, holes stay holes. */
static int image_copy(const char *base, const char *out)
{
	static uint8_t buf[1 << 20];
	int in = open(base, O_RDONLY | O_CLOEXEC), fd;
	struct stat st;
	off_t pos = 0, end;

	if (in < 0 || fstat(in, &st) < 0)
		die(base);
	if (unlink(out) < 0 && errno != ENOENT)
		die(out);
	fd = open(out, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, st.st_size) < 0)
		die(out);
	while ((pos = lseek(in, pos, SEEK_DATA)) >= 0) {
		end = lseek(in, pos, SEEK_HOLE);
		if (end < 0)
			die(base);
		while (pos < end) {
			size_t want = end - pos < (off_t)sizeof(buf) ? (size_t)(end - pos) : sizeof(buf);
			ssize_t n = pread(in, buf, want, pos);

			if (n <= 0)
				die(base);
			cut_write(fd, buf, (size_t)n, (uint64_t)pos);
			pos += n;
		}
	}
	if (errno != ENXIO)
		die(base);
	close(in);
	return fd;
}

static void cut_apply(const struct devlog *l, struct cut *c, uint64_t *rng, int fd)
{
	static const double keeps[] = {0, .02, .2, .5, .8, .98, 1};
	size_t durable = c->flush == SIZE_MAX ? 0 : c->flush;

	c->keep = keeps[rnd(rng) % (sizeof(keeps) / sizeof(keeps[0]))];
	c->piece = rnd(rng) % 4 ? 4096 : 512;
	for (size_t i = 0; i <= c->last && i < l->count; i++) {
		struct blklog_rec r = devlog_rec(l, i);
		const uint8_t *data = devlog_data(l, i);
		/* ext4's superblock spans two sectors, is written in place, and a torn one does not mount: not our subject. */
		uint32_t piece = r.off < 4096 ? 4096 : c->piece;

		if (r.type != BLKLOG_WRITE)
			continue;
		if (i < durable) {
			cut_write(fd, data, r.len, r.off);
			continue;
		}
		for (uint32_t o = 0; o < r.len; o += piece) {
			uint32_t n = r.len - o < piece ? r.len - o : piece;

			c->pieces++;
			if ((double)(rnd(rng) >> 11) / 9007199254740992.0 >= c->keep)
				continue;
			c->kept++;
			cut_write(fd, data + o, n, r.off + o);
		}
	}
}

static void marks_print(const struct devlog *l, size_t end, bool positions)
{
	for (size_t i = 0; i < end && i < l->count; i++) {
		struct blklog_rec r = devlog_rec(l, i);
		const uint8_t *text = devlog_data(l, i);

		if (r.type != BLKLOG_MARK)
			continue;
		while (r.len && text[r.len - 1] == '\n')
			r.len--;
		if (positions)
			printf("mark %zu ", i);
		else
			printf("mark ");
		for (uint32_t k = 0; k < r.len; k++)
			putchar(text[k] == '\n' || text[k] == '\0' ? ' ' : text[k]);
		putchar('\n');
	}
}

static int run_list(const char *path)
{
	struct devlog l;
	size_t n[4] = {0};

	devlog_open(&l, path);
	for (size_t i = 0; i < l.count; i++)
		n[devlog_rec(&l, i).type]++;
	printf("records=%zu\nwrites=%zu\nflushes=%zu\nmarks=%zu\nbytes=%zu\n", l.count, n[BLKLOG_WRITE], n[BLKLOG_FLUSH],
		n[BLKLOG_MARK], l.size);
	marks_print(&l, l.count, true);
	devlog_close(&l);
	return 0;
}

static int run_cut(char **argv, int argc, bool at)
{
	struct cut c = {.flush = SIZE_MAX};
	struct devlog l;
	uint64_t rng, from, to;
	size_t a, b;
	int fd;

	devlog_open(&l, argv[0]);
	devlog_marks(&l, &a, &b);
	from = a;
	to = b;
	if (parse_u64(argv[3], &c.seed) || (argc > 4 && parse_u64(argv[4], &from)) ||
		(argc > 5 && parse_u64(argv[5], &to))) {
		devlog_close(&l);
		return 2;
	}
	if (at)
		to = from + 1;
	if (from >= to || to > l.count) {
		fprintf(stderr, "powercut: no such record: the log has %zu\n", l.count);
		devlog_close(&l);
		return 1;
	}
	rng = c.seed;
	c.last = at ? from : cut_choose(&l, &rng, from, to);
	for (size_t i = c.last + 1; i-- > 0 && c.flush == SIZE_MAX;)
		if (devlog_rec(&l, i).type == BLKLOG_FLUSH)
			c.flush = i;
	fd = image_copy(argv[1], argv[2]);
	cut_apply(&l, &c, &rng, fd);
	if (close(fd) < 0)
		die(argv[2]);
	printf("cut=%zu\nflush=%lld\nrecords=%zu\npieces=%llu\nkept=%llu\nprobability=%.2f\npiece_size=%u\n", c.last,
		c.flush == SIZE_MAX ? -1ll : (long long)c.flush, l.count, (unsigned long long)c.pieces,
		(unsigned long long)c.kept, c.keep, c.piece);
	marks_print(&l, c.last + 1, false);
	devlog_close(&l);
	return 0;
}

int main(int argc, char **argv)
{
	int rc = 2;

	if (argc == 3 && strcmp(argv[1], "list") == 0)
		rc = run_list(argv[2]);
	else if ((argc == 6 || argc == 8) && strcmp(argv[1], "cut") == 0)
		rc = run_cut(argv + 2, argc - 2, false);
	else if (argc == 7 && strcmp(argv[1], "at") == 0)
		rc = run_cut(argv + 2, argc - 2, true);
	if (rc == 2)
		fprintf(stderr, "usage: powercut list LOG | cut LOG BASE OUT SEED [FROM TO] | at LOG BASE OUT SEED RECORD\n");
	if (rc == 0 && fflush(stdout) != 0)
		die("stdout");
	return rc;
}
