#include "redis/ids.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/buf.h"

#define RANGES_MAX 16
#define PIECE 1024

struct range {
	uint64_t first, end;
};

struct id_pool {
	struct journal *j;
	char name[32];
	pthread_mutex_t lock; /* taken before the journal's */
	struct range ranges[RANGES_MAX];
	unsigned n;
	struct range piece; /* reserved, not handed out by ids_next yet */
	uint64_t end;
};

int ids_open(struct journal *j, const char *name, struct id_pool **out)
{
	struct id_pool *p = calloc(1, sizeof(*p));
	struct jkey k;
	const void *val;
	size_t len;
	struct rd r;
	int rc;

	if (!p)
		return -ENOMEM;
	p->j = j;
	snprintf(p->name, sizeof(p->name), "%s", name);
	pthread_mutex_init(&p->lock, NULL);
	key_meta(&k, name);
	journal_lock(j);
	rc = view_get(j, &k, &val, &len);
	if (!rc) {
		rd_init(&r, val, len);
		while (rd_left(&r) > 0 && p->n < RANGES_MAX) {
			struct range *g = &p->ranges[p->n++];

			g->first = rd_be64(&r);
			g->end = rd_be64(&r);
			if (g->end > p->end)
				p->end = g->end;
			if (r.err || g->first > g->end)
				rc = -EUCLEAN;
		}
	}
	journal_unlock(j);
	if (rc == -ENOENT)
		rc = 0;
	if (rc) {
		ids_close(p);
		return rc;
	}
	*out = p;
	return 0;
}

void ids_close(struct id_pool *p)
{
	if (!p)
		return;
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* Makes `ranges` what the journal holds. Empty ranges are left out, but the last one stays for ids_end. */
static int save(struct id_pool *p, const struct range *ranges, unsigned n)
{
	uint8_t val[RANGES_MAX * 16];
	struct jkey k;
	unsigned m = 0;
	uint64_t seq;
	int rc;

	for (unsigned i = 0; i < n; i++) {
		if (ranges[i].first == ranges[i].end && i + 1 < n)
			continue;
		put_be64(val + m * 16, ranges[i].first);
		put_be64(val + m * 16 + 8, ranges[i].end);
		m++;
	}
	key_meta(&k, p->name);
	do {
		journal_lock(p->j);
		rec_put(journal_begin(p->j, OP_META), &k, val, m * 16, 0);
		rc = journal_commit(p->j, &seq);
		journal_unlock(p->j);
		if (rc == -EAGAIN && (rc = journal_wait_room(p->j)) == 0)
			rc = -EAGAIN;
	} while (rc == -EAGAIN);
	if (rc)
		return rc;
	for (unsigned i = 0; i < m; i++)
		p->ranges[i] = (struct range){get_be64(val + i * 16), get_be64(val + i * 16 + 8)};
	p->n = m;
	return 0;
}

int ids_add(struct id_pool *p, uint64_t first, uint64_t n)
{
	struct range ranges[RANGES_MAX];
	int rc;

	pthread_mutex_lock(&p->lock);
	unsigned count = p->n;
	memcpy(ranges, p->ranges, sizeof(ranges));
	if (count == RANGES_MAX) /* give the oldest up: its ids become a gap */
		memmove(ranges, ranges + 1, --count * sizeof(ranges[0]));
	ranges[count++] = (struct range){first, first + n};
	rc = save(p, ranges, count);
	if (!rc && first + n > p->end)
		p->end = first + n;
	pthread_mutex_unlock(&p->lock);
	return rc;
}

static int reserve(struct id_pool *p, uint64_t want, struct range *out)
{
	struct range ranges[RANGES_MAX];

	memcpy(ranges, p->ranges, sizeof(ranges));
	for (unsigned i = 0; i < p->n; i++) {
		struct range *g = &ranges[i];

		if (g->first == g->end)
			continue;
		out->first = g->first;
		out->end = g->end - g->first < want ? g->end : g->first + want;
		g->first = out->end;
		return save(p, ranges, p->n);
	}
	return -ENODATA;
}

int ids_reserve(struct id_pool *p, uint64_t want, uint64_t *first, uint64_t *end)
{
	struct range g;

	pthread_mutex_lock(&p->lock);
	int rc = reserve(p, want, &g);
	pthread_mutex_unlock(&p->lock);
	if (!rc) {
		*first = g.first;
		*end = g.end;
	}
	return rc;
}

int ids_next(struct id_pool *p, uint64_t *id)
{
	int rc = 0;

	pthread_mutex_lock(&p->lock);
	if (p->piece.first == p->piece.end)
		rc = reserve(p, PIECE, &p->piece);
	if (!rc)
		*id = p->piece.first++;
	pthread_mutex_unlock(&p->lock);
	return rc;
}

uint64_t ids_left(struct id_pool *p)
{
	uint64_t left;

	pthread_mutex_lock(&p->lock);
	left = p->piece.end - p->piece.first;
	for (unsigned i = 0; i < p->n; i++)
		left += p->ranges[i].end - p->ranges[i].first;
	pthread_mutex_unlock(&p->lock);
	return left;
}

uint64_t ids_end(struct id_pool *p)
{
	pthread_mutex_lock(&p->lock);
	uint64_t end = p->end;
	pthread_mutex_unlock(&p->lock);
	return end;
}
