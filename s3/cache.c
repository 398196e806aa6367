/* See cache.h. The index is an array of entries plus a hash table of positions in it; both under one lock. Files are
 * read, written and removed without the lock: a file that vanished in between is a miss. */
#include "s3/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "util/buf.h"
#include "util/log.h"

#define SUM_LEN 8
#define STATVFS_EVERY 64 /* writes between two looks at the free space */

struct entry {
	uint64_t id;
	uint32_t k, size;
	uint32_t used; /* a clock that ticks with every access */
	bool verified;
};

struct block_cache {
	char dir[3072];
	uint64_t size; /* as configured; 0: off */
	double free_ratio;
	pthread_mutex_t lock;
	/* under lock: */
	uint64_t limit;
	struct entry *entries;
	uint32_t count, room;
	uint32_t *table; /* position + 1; 0 empty */
	uint32_t mask;
	uint32_t clock;
	uint64_t seed, tmp;
	unsigned until_statvfs;
	bool tight; /* the file system has less free than free_ratio */
	struct cache_stats st;
};

static void entry_path(const struct block_cache *c, const struct entry *e, char *path, size_t n)
{
	snprintf(path, n, "%s/%" PRIu64 "/%" PRIu64 "/%" PRIu64 "_%u_%u", c->dir, e->id / 1000000, e->id / 1000, e->id, e->k,
		e->size);
}

static uint32_t slot_of(const struct block_cache *c, uint64_t id, uint32_t k)
{
	uint64_t h = (id * 0x9E3779B97F4A7C15ull) ^ ((uint64_t)k * 0xC2B2AE3D27D4EB4Full);

	return (uint32_t)(h >> 32) & c->mask;
}

static struct entry *index_find(struct block_cache *c, uint64_t id, uint32_t k, uint32_t size)
{
	for (uint32_t s = slot_of(c, id, k); c->table[s]; s = (s + 1) & c->mask) {
		struct entry *e = &c->entries[c->table[s] - 1];

		if (e->id == id && e->k == k && e->size == size)
			return e;
	}
	return NULL;
}

static void index_link(struct block_cache *c, uint32_t pos)
{
	uint32_t s = slot_of(c, c->entries[pos].id, c->entries[pos].k);

	while (c->table[s])
		s = (s + 1) & c->mask;
	c->table[s] = pos + 1;
}

static int index_grow(struct block_cache *c)
{
	uint32_t room = c->room ? c->room * 2 : 1024;
	struct entry *e = realloc(c->entries, room * sizeof(*e));

	if (!e)
		return -ENOMEM;
	c->entries = e;
	uint32_t *t = calloc((size_t)room * 4, sizeof(*t));
	if (!t)
		return -ENOMEM;
	free(c->table);
	c->table = t;
	c->room = room;
	c->mask = room * 4 - 1;
	for (uint32_t i = 0; i < c->count; i++)
		index_link(c, i);
	return 0;
}

static int index_add(struct block_cache *c, uint64_t id, uint32_t k, uint32_t size, bool verified)
{
	if (index_find(c, id, k, size))
		return 0;
	if (c->count == c->room && index_grow(c))
		return -ENOMEM;
	c->entries[c->count] = (struct entry){.id = id, .k = k, .size = size, .used = ++c->clock, .verified = verified};
	index_link(c, c->count++);
	c->st.blocks++;
	c->st.bytes += size + SUM_LEN;
	return 0;
}

/* Linear probing without tombstones: take the entry out and put the rest of its cluster in again. */
static void index_unlink(struct block_cache *c, uint32_t pos)
{
	uint32_t s = slot_of(c, c->entries[pos].id, c->entries[pos].k);

	while (c->table[s] != pos + 1)
		s = (s + 1) & c->mask;
	c->table[s] = 0;
	for (s = (s + 1) & c->mask; c->table[s]; s = (s + 1) & c->mask) {
		uint32_t p = c->table[s] - 1;

		c->table[s] = 0;
		index_link(c, p);
	}
}

static void index_remove(struct block_cache *c, struct entry *e)
{
	uint32_t pos = (uint32_t)(e - c->entries), last = c->count - 1;

	c->st.blocks--;
	c->st.bytes -= e->size + SUM_LEN;
	index_unlink(c, pos);
	if (pos != last) {
		index_unlink(c, last);
		c->entries[pos] = c->entries[last];
		c->count--;
		index_link(c, pos);
	} else {
		c->count--;
	}
}

static void drop_damaged(struct block_cache *c, const struct entry *e)
{
	char path[3200];

	entry_path(c, e, path, sizeof(path));
	pthread_mutex_lock(&c->lock);
	struct entry *now = index_find(c, e->id, e->k, e->size);
	if (now)
		index_remove(c, now);
	c->st.damaged++;
	pthread_mutex_unlock(&c->lock);
	if (unlink(path) && errno != ENOENT)
		log_warn("what=\"cannot remove a damaged cache file\" file=%s err=%d", path, errno);
}

static int scan_dir(struct block_cache *c, const char *path, int depth)
{
	DIR *d = opendir(path);
	struct dirent *de;
	int rc = 0;

	if (!d)
		return -errno;
	while (!rc && (errno = 0, de = readdir(d))) {
		char sub[3400];
		uint64_t id;
		uint32_t k, size;
		int end = 0;

		if (de->d_name[0] == '.')
			continue;
		snprintf(sub, sizeof(sub), "%s/%s", path, de->d_name);
		if (depth < 2) {
			rc = scan_dir(c, sub, depth + 1);
			if (rc == -ENOTDIR)
				rc = 0;
		} else if (sscanf(de->d_name, "%" SCNu64 "_%u_%u%n", &id, &k, &size, &end) == 3 && de->d_name[end] == 0) {
			rc = index_add(c, id, k, size, false);
		} else if (unlink(sub) && errno != ENOENT) { /* a temporary file of an earlier life */
			rc = -errno;
		}
	}
	closedir(d);
	return rc;
}

int cache_open(const struct cache_config *cfg, struct block_cache **out, struct errmsg *e)
{
	struct block_cache *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return errmsg_set(e, -ENOMEM, "out of memory");
	snprintf(c->dir, sizeof(c->dir), "%s", cfg->dir);
	c->limit = c->size = cfg->size;
	c->free_ratio = cfg->free_ratio;
	c->seed = 0x9E3779B97F4A7C15ull;
	pthread_mutex_init(&c->lock, NULL);
	rc = index_grow(c);
	if (!rc && mkdir(c->dir, 0700) && errno != EEXIST)
		rc = -errno;
	if (!rc)
		rc = scan_dir(c, c->dir, 0);
	if (rc) {
		errmsg_set(e, rc, "cannot use the block cache %s: %s", c->dir, strerror(-rc));
		cache_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

void cache_close(struct block_cache *c)
{
	if (!c)
		return;
	pthread_mutex_destroy(&c->lock);
	free(c->entries);
	free(c->table);
	free(c);
}

bool cache_has(struct block_cache *c, uint64_t id, uint32_t k, uint32_t size)
{
	pthread_mutex_lock(&c->lock);
	bool has = index_find(c, id, k, size);
	pthread_mutex_unlock(&c->lock);
	return has;
}

/* pread until n bytes are there; a short file is -EBADMSG. */
static int read_full(int fd, void *buf, size_t n, off_t off)
{
	while (n > 0) {
		ssize_t r = pread(fd, buf, n, off);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			return -EBADMSG;
		buf = (char *)buf + r;
		n -= (size_t)r;
		off += r;
	}
	return 0;
}

static int verify_file(int fd, uint32_t size)
{
	uint8_t *data = malloc(size + SUM_LEN);
	int rc;

	if (!data)
		return -ENOMEM;
	rc = read_full(fd, data, size + SUM_LEN, 0);
	if (!rc && XXH3_64bits(data, size) != get_be64(data + size))
		rc = -EBADMSG;
	free(data);
	return rc;
}

int cache_read(struct block_cache *c, uint64_t id, uint32_t k, uint32_t size, uint32_t off, void *buf, uint32_t len)
{
	struct entry e, *found;
	char path[3200];
	int rc = 0;

	if (c->size == 0 || off > size || len > size - off)
		return -ENOENT;
	pthread_mutex_lock(&c->lock);
	found = index_find(c, id, k, size);
	if (found) {
		found->used = ++c->clock;
		e = *found;
	}
	pthread_mutex_unlock(&c->lock);
	if (!found)
		return -ENOENT;
	entry_path(c, &e, path, sizeof(path));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		drop_damaged(c, &e);
		return -ENOENT;
	}
	if (!e.verified)
		rc = verify_file(fd, size);
	if (!rc)
		rc = read_full(fd, buf, len, off);
	close(fd);
	if (rc) {
		drop_damaged(c, &e);
		return -ENOENT;
	}
	if (!e.verified) {
		pthread_mutex_lock(&c->lock);
		found = index_find(c, id, k, size);
		if (found)
			found->verified = true;
		pthread_mutex_unlock(&c->lock);
	}
	return 0;
}

static uint64_t next_random(struct block_cache *c)
{
	c->seed ^= c->seed << 13;
	c->seed ^= c->seed >> 7;
	c->seed ^= c->seed << 17;
	return c->seed;
}

static void check_free_space(struct block_cache *c)
{
	struct statvfs v;

	if (c->until_statvfs-- > 0)
		return;
	c->until_statvfs = STATVFS_EVERY;
	if (statvfs(c->dir, &v) || v.f_blocks == 0)
		return;
	c->tight = (double)v.f_bavail < (double)v.f_blocks * c->free_ratio ||
		(v.f_files > 0 && (double)v.f_favail < (double)v.f_files * c->free_ratio);
}

/* Makes room for `need` bytes [locked on entry and exit]; false when the block should not be kept. */
static bool make_room(struct block_cache *c, uint64_t need)
{
	check_free_space(c);
	while (c->count > 0 && (c->st.bytes + need > c->limit || c->tight)) {
		struct entry *a = &c->entries[next_random(c) % c->count], *b = &c->entries[next_random(c) % c->count];
		struct entry victim = (int32_t)(a->used - b->used) <= 0 ? *a : *b;
		char path[3200];

		index_remove(c, (int32_t)(a->used - b->used) <= 0 ? a : b);
		c->st.evicted++;
		entry_path(c, &victim, path, sizeof(path));
		pthread_mutex_unlock(&c->lock);
		if (unlink(path) && errno != ENOENT)
			log_warn("what=\"cannot evict from the block cache\" file=%s err=%d", path, errno);
		pthread_mutex_lock(&c->lock);
		if (c->tight) {
			c->until_statvfs = 0;
			check_free_space(c);
		}
	}
	return !c->tight && c->st.bytes + need <= c->limit;
}

void cache_set_limit(struct block_cache *c, uint64_t bytes)
{
	pthread_mutex_lock(&c->lock);
	c->limit = bytes < c->size ? bytes : c->size;
	if (c->st.bytes > c->limit)
		make_room(c, 0);
	pthread_mutex_unlock(&c->lock);
}

static int write_file(const char *path, const void *data, uint32_t size)
{
	uint8_t sum[SUM_LEN];
	int rc = 0;

	put_be64(sum, XXH3_64bits(data, size));
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	const struct {
		const void *p;
		size_t n;
	} parts[] = {{data, size}, {sum, SUM_LEN}};
	for (int i = 0; i < 2 && !rc; i++) {
		for (size_t done = 0; done < parts[i].n;) {
			ssize_t w = write(fd, (const char *)parts[i].p + done, parts[i].n - done);

			if (w < 0 && errno == EINTR)
				continue;
			if (w < 0) {
				rc = -errno;
				break;
			}
			done += (size_t)w;
		}
	}
	if (close(fd) && !rc)
		rc = -errno;
	if (rc)
		unlink(path);
	return rc;
}

static int make_dirs(const struct block_cache *c, uint64_t id)
{
	char path[3200];

	snprintf(path, sizeof(path), "%s/%" PRIu64, c->dir, id / 1000000);
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	snprintf(path, sizeof(path), "%s/%" PRIu64 "/%" PRIu64, c->dir, id / 1000000, id / 1000);
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	return 0;
}

void cache_write(struct block_cache *c, uint64_t id, uint32_t k, const void *data, uint32_t size)
{
	struct entry e = {.id = id, .k = k, .size = size};
	char path[3200], tmp[3200];

	if (c->size == 0)
		return;
	pthread_mutex_lock(&c->lock);
	bool keep = !index_find(c, id, k, size) && make_room(c, size + SUM_LEN);
	uint64_t n = c->tmp++;
	pthread_mutex_unlock(&c->lock);
	if (!keep)
		return;
	entry_path(c, &e, path, sizeof(path));
	snprintf(tmp, sizeof(tmp), "%s/%" PRIu64 "/%" PRIu64 "/.%" PRIu64, c->dir, id / 1000000, id / 1000, n);
	int rc = write_file(tmp, data, size);
	if (rc == -ENOENT && !(rc = make_dirs(c, id)))
		rc = write_file(tmp, data, size);
	if (!rc && rename(tmp, path)) {
		rc = -errno;
		unlink(tmp);
	}
	pthread_mutex_lock(&c->lock);
	if (!rc && index_add(c, id, k, size, true) == 0) {
		c->st.writes++;
		c->st.write_bytes += size;
	} else {
		c->st.errors++;
	}
	pthread_mutex_unlock(&c->lock);
}

void cache_stats(struct block_cache *c, struct cache_stats *out)
{
	pthread_mutex_lock(&c->lock);
	*out = c->st;
	pthread_mutex_unlock(&c->lock);
}
