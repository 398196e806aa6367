/* Rounds of reading: (1) inodes, lists, names of linked files, the trash's hour; (2) lists that go with an inode or a cut,
 * statistics, entries of the trash; (3) reference counts; and, for directories without statistics, their entries. */
#include "redis/pipeline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis/pipeline_int.h"
#include "util/buf.h"

/* --- commands --- */

void cmd_arg(struct pipe *pp, const void *p, size_t n)
{
	const char **arg = pp->err ? NULL : vec_push(&pp->cmd.argv);
	size_t *len = arg ? vec_push(&pp->cmd.lens) : NULL;

	if (!len) {
		pp->err = pp->err ? pp->err : -ENOMEM;
		return;
	}
	*arg = p && n ? p : "";
	*len = n;
}

void cmd_text(struct pipe *pp, const char *s)
{
	cmd_arg(pp, s, s ? strlen(s) : 0);
}

void cmd_copy(struct pipe *pp, const void *p, size_t n)
{
	void *q = n ? arena_copy(&pp->mem, p, n) : NULL;

	if (n && !q)
		pp->err = pp->err ? pp->err : -ENOMEM;
	cmd_arg(pp, q, n);
}

void cmd_int(struct pipe *pp, int64_t v)
{
	char t[24];

	cmd_copy(pp, t, (size_t)snprintf(t, sizeof(t), "%lld", (long long)v));
}

void cmd_begin(struct pipe *pp, const char *name, const char *key)
{
	pp->cmd.argv.n = pp->cmd.lens.n = 0;
	cmd_text(pp, name);
	if (key)
		cmd_text(pp, key);
}

size_t cmd_args(const struct pipe *pp)
{
	return pp->cmd.argv.n;
}

void cmd_end(struct pipe *pp)
{
	if (!pp->err)
		pp->err = rds_append_argv(pp->c, (int)pp->cmd.argv.n, pp->cmd.argv.v, pp->cmd.lens.v);
}

/* --- answers --- */

/* The next answer, in the order of asking; NULL after an error. */
static const struct redisReply *next(struct pipe *pp)
{
	struct redisReply *r = NULL, **slot;

	if (pp->err)
		return NULL;
	pp->err = rds_read(pp->c, &r, pp->e);
	slot = vec_push(&pp->replies);
	if (slot)
		*slot = r;
	else
		rds_reply_free(r);
	if (!slot && !pp->err)
		pp->err = -ENOMEM;
	return pp->err ? NULL : r;
}

/* Element i of an array; NULL: nil, or not there. */
static const struct redisReply *element(const struct redisReply *r, size_t i)
{
	const struct redisReply *s = r && r->type == REDIS_REPLY_ARRAY && i < r->elements ? r->element[i] : NULL;

	return s && s->type == REDIS_REPLY_STRING ? s : NULL;
}

/* An integer as Redis stores it, absent: 0. False: not a number. */
static bool number(const struct redisReply *s, int64_t *out)
{
	*out = 0;
	return !s || rds_parse_i64(s->str, (size_t)s->len, out) == 0;
}

void pipe_refuse(struct pipe *pp, enum script_status status, const char *key, const char *why)
{
	if (pp->err)
		return;
	pp->err = -ECANCELED;
	pp->ans->status = status;
	snprintf(pp->ans->key, sizeof(pp->ans->key), "%s", key);
	pp->ans->field_len = (size_t)snprintf((char *)pp->ans->field, sizeof(pp->ans->field), "%s", why);
}

/* --- names --- */

static char *kept(struct pipe *pp, const char *k)
{
	char *copy = arena_copy(&pp->mem, k, strlen(k) + 1);

	if (!copy)
		pp->err = pp->err ? pp->err : -ENOMEM;
	return copy;
}

char *px_key(struct pipe *pp, size_t (*fn)(char *, const char *, uint64_t), uint64_t ino)
{
	char k[RDS_KEY_MAX];

	fn(k, pp->ctx->prefix, ino);
	return kept(pp, k);
}

char *px_name(struct pipe *pp, const char *name)
{
	char k[RDS_KEY_MAX];

	rds_key(k, pp->ctx->prefix, name);
	return kept(pp, k);
}

char *px_chunk_key(struct pipe *pp, uint64_t ino, uint32_t chunk)
{
	char k[RDS_KEY_MAX];

	rds_key_chunk(k, pp->ctx->prefix, ino, chunk);
	return kept(pp, k);
}

/* --- sums --- */

struct px_stat *px_stat(struct pipe *pp, uint64_t dir)
{
	struct px_stat *s;
	bool fresh;
	uint32_t i;

	if (pp->err || hmap_put(&pp->stat_at, &dir, sizeof(dir), (uint32_t)pp->stats.n, &i, &fresh) != 0) {
		pp->err = pp->err ? pp->err : -ENOMEM;
		return NULL;
	}
	s = fresh ? vec_push(&pp->stats) : &pp->stats.v[i];
	if (!s)
		pp->err = -ENOMEM;
	else
		s->dir = dir;
	return s;
}

static void ref_add(struct pipe *pp, uint64_t id, uint32_t size, int64_t delta)
{
	char field[RDS_KEY_MAX];
	size_t n = rds_field_slice_ref(field, id, size);
	struct px_ref *r;
	bool fresh;
	uint32_t i;

	if (pp->err || hmap_put(&pp->ref_at, field, n, (uint32_t)pp->refs.n, &i, &fresh) != 0) {
		pp->err = pp->err ? pp->err : -ENOMEM;
		return;
	}
	r = fresh ? vec_push(&pp->refs) : &pp->refs.v[i];
	if (!r) {
		pp->err = -ENOMEM;
		return;
	}
	memcpy(r->field, field, n + 1);
	r->delta += delta;
}

/* --- round 1 --- */

static void ask_inodes(struct pipe *pp)
{
	cmd_begin(pp, "MGET", NULL);
	for (size_t i = 0; i < pp->p->inodes.n; i++) {
		if (pp->p->inodes.v[i].kind == PL_NEW)
			continue;
		cmd_text(pp, px_key(pp, rds_key_inode, pp->p->inodes.v[i].ino));
		if (cmd_args(pp) > PIPE_MAX) {
			cmd_end(pp);
			cmd_begin(pp, "MGET", NULL);
		}
	}
	if (cmd_args(pp) > 1)
		cmd_end(pp);
}

static void take_inode(struct pipe *pp, const struct pl_inode *pi, const struct redisReply *s)
{
	struct px_inode *n = vec_push(&pp->inodes);

	if (!n) {
		pp->err = -ENOMEM;
		return;
	}
	n->pi = pi;
	if (!s) {
		char ino[24];

		snprintf(ino, sizeof(ino), "%llu", (unsigned long long)pi->ino);
		if (pi->kind == PL_UPDATE && !pi->named)
			pipe_refuse(pp, SCRIPT_GONE, ino, "");
		return;
	}
	if (s->len < 71) {
		pipe_refuse(pp, SCRIPT_BAD, px_key(pp, rds_key_inode, pi->ino), "inode record too short");
		return;
	}
	n->old = (const uint8_t *)s->str;
	n->old_len = (size_t)s->len;
	n->type = n->old[1] >> 4;
	n->nlink = get_be32(n->old + 47);
	n->length = get_be64(n->old + 51);
	n->space = n->type == JFS_FILE ? (int64_t)jfs_align4k(n->length) : 4096;
	pp->moving |= pi->n_trash > 0;
}

static void take_inodes(struct pipe *pp)
{
	const struct redisReply *r = NULL;
	size_t at = 0;

	for (size_t i = 0; i < pp->p->inodes.n && !pp->err; i++) {
		if (pp->p->inodes.v[i].kind == PL_NEW)
			continue;
		if (!r || at == r->elements) {
			r = next(pp);
			at = 0;
		}
		if (r)
			take_inode(pp, &pp->p->inodes.v[i], element(r, at++));
	}
}

static void take_list(struct pipe *pp, const struct pl_list *l)
{
	const struct redisReply *r = next(pp);
	size_t n = r ? r->elements : 0;
	bool same = r && n == l->n_old;

	for (size_t i = 0; i < n && same; i++) {
		const struct redisReply *s = element(r, i);

		same = s && s->len == JFS_SLICE_LEN && memcmp(s->str, l->old + i * JFS_SLICE_LEN, JFS_SLICE_LEN) == 0;
	}
	if (r && !same)
		pipe_refuse(pp, SCRIPT_LIST, px_chunk_key(pp, l->ino, l->chunk), "");
}

/* Every name that a linked file had so far counts. */
static void take_links(struct pipe *pp, const struct pl_dirstat *d)
{
	const struct redisReply *r = next(pp);

	for (size_t i = 0; r && i + 1 < r->elements && !pp->err; i += 2) {
		const struct redisReply *f = element(r, i);
		struct px_stat *s;
		uint64_t dir;
		int64_t times;

		if (!f || rds_parse_u64(f->str, (size_t)f->len, &dir) != 0 || !number(element(r, i + 1), &times)) {
			pipe_refuse(pp, SCRIPT_BAD, px_key(pp, rds_key_parents, d->ino), "not a number");
		} else if (times > 0 && (s = px_stat(pp, dir)) != NULL) {
			s->length += times * d->length;
			s->space += times * d->space;
		}
	}
}

static void take_hour(struct pipe *pp)
{
	const struct redisReply *entry = next(pp), *counter = next(pp);
	int64_t n;

	if (pp->err)
		return;
	if (entry->type == REDIS_REPLY_STRING) {
		uint8_t type;

		if (jfs_dentry_decode(entry->str, (size_t)entry->len, &type, &pp->hour_ino) != 0)
			pipe_refuse(pp, SCRIPT_BAD, px_key(pp, rds_key_dir, JFS_TRASH_INODE), "the hour's entry is damaged");
		return;
	}
	if (!number(counter->type == REDIS_REPLY_STRING ? counter : NULL, &n)) {
		pipe_refuse(pp, SCRIPT_BAD, px_name(pp, RDS_NEXT_TRASH), "not a number");
		return;
	}
	pp->hour_new = true;
	pp->hour_number = (uint64_t)n + 1;
	pp->hour_ino = JFS_TRASH_INODE + pp->hour_number;
}

/* Whether something moves to the trash is known when the inodes are; the hour is asked for if it may. */
static bool may_move(const struct pipe *pp)
{
	for (size_t i = 0; i < pp->p->inodes.n; i++)
		if (pp->p->inodes.v[i].n_trash)
			return true;
	return false;
}

static void round_one(struct pipe *pp)
{
	const struct window_plan *p = pp->p;
	const struct redisReply *r;

	cmd_begin(pp, "EXISTS", px_name(pp, RDS_PRIVATE_KEY));
	cmd_end(pp);
	ask_inodes(pp);
	for (size_t i = 0; i < p->lists.n; i++) {
		if (p->lists.v[i].new_inode || p->lists.v[i].kind == PL_FRESH)
			continue;
		cmd_begin(pp, "LRANGE", px_chunk_key(pp, p->lists.v[i].ino, p->lists.v[i].chunk));
		cmd_text(pp, "0");
		cmd_text(pp, "-1");
		cmd_end(pp);
	}
	for (size_t i = 0; i < p->dirstats.n; i++) {
		if (p->dirstats.v[i].kind != PL_STAT_LINKED)
			continue;
		cmd_begin(pp, "HGETALL", px_key(pp, rds_key_parents, p->dirstats.v[i].ino));
		cmd_end(pp);
	}
	if (may_move(pp)) {
		cmd_begin(pp, "HGET", px_key(pp, rds_key_dir, JFS_TRASH_INODE));
		cmd_text(pp, pp->hour);
		cmd_end(pp);
		cmd_begin(pp, "GET", px_name(pp, RDS_NEXT_TRASH));
		cmd_end(pp);
	}
	r = next(pp);
	if (r && r->integer == 0)
		pipe_refuse(pp, SCRIPT_NOKEY, RDS_PRIVATE_KEY, "");
	take_inodes(pp);
	for (size_t i = 0; i < p->lists.n && !pp->err; i++)
		if (!p->lists.v[i].new_inode && p->lists.v[i].kind != PL_FRESH)
			take_list(pp, &p->lists.v[i]);
	for (size_t i = 0; i < p->dirstats.n && !pp->err; i++)
		if (p->dirstats.v[i].kind == PL_STAT_LINKED)
			take_links(pp, &p->dirstats.v[i]);
	if (may_move(pp))
		take_hour(pp);
}

/* --- round 2 --- */

static void list_goes(struct pipe *pp, uint64_t ino, uint32_t chunk)
{
	char *key = px_chunk_key(pp, ino, chunk);
	const char **slot;
	bool fresh;
	uint32_t i;

	if (pp->err || hmap_put(&pp->gone_at, key, strlen(key), 0, &i, &fresh) != 0) {
		pp->err = pp->err ? pp->err : -ENOMEM;
		return;
	}
	if (!fresh)
		return;
	slot = vec_push(&pp->gone);
	if (!slot) {
		pp->err = -ENOMEM;
		return;
	}
	*slot = key;
	cmd_begin(pp, "LRANGE", key);
	cmd_text(pp, "0");
	cmd_text(pp, "-1");
	cmd_end(pp);
}

static void ask_gone(struct pipe *pp)
{
	for (size_t i = 0; i < pp->inodes.n; i++) {
		const struct px_inode *n = &pp->inodes.v[i];
		uint64_t chunks = (n->length + JFS_CHUNK_SIZE - 1) >> JFS_CHUNK_BITS, from = n->pi->cut_chunks;

		if (!n->old)
			continue;
		if (n->type == JFS_FILE && n->pi->kind == PL_REMOVE)
			from = chunks > 1000 ? chunks : 0; /* of a long file: delfiles */
		else if (n->pi->cut_chunks == CHUNK_NONE)
			continue;
		else if (chunks > from + 100001)
			chunks = from + 100001;
		for (uint64_t k = from; k < chunks && !pp->err; k++)
			list_goes(pp, n->pi->ino, (uint32_t)k);
	}
	for (size_t i = 0; i < pp->p->lists.n; i++)
		if (!pp->p->lists.v[i].new_inode && pp->p->lists.v[i].kind == PL_FRESH)
			list_goes(pp, pp->p->lists.v[i].ino, pp->p->lists.v[i].chunk);
}

static void take_gone(struct pipe *pp)
{
	for (size_t i = 0; i < pp->gone.n && !pp->err; i++) {
		const struct redisReply *r = next(pp);

		for (size_t k = 0; r && k < r->elements && !pp->err; k++) {
			const struct redisReply *s = element(r, k);
			const uint8_t *b = s ? (const uint8_t *)s->str : NULL;

			if (!s || s->len != JFS_SLICE_LEN)
				pipe_refuse(pp, SCRIPT_BAD, pp->gone.v[i], "a slice record is not 24 bytes long");
			else if (get_be64(b + 4))
				ref_add(pp, get_be64(b + 4), get_be32(b + 12), -1);
		}
	}
}

bool px_parent_in_trash(const uint8_t *record)
{
	return jfs_inode_is_trash(get_be64(record + 63));
}

size_t px_image(const struct pipe *pp, const struct px_inode *n, uint8_t *room)
{
	size_t len = 0;

	if (n->pi->has_attr) {
		len = plan_record(pp->ctx, n->pi, room);
	} else if (n->old && n->old_len <= JFS_ATTR_MAX) {
		len = n->old_len;
		memcpy(room, n->old, len);
		plan_ctime(pp->ctx, n->pi, room + 35);
	}
	/* What the trash holds keeps its place there. */
	if (len && n->old && px_parent_in_trash(n->old) && !n->pi->named && n->pi->kind == PL_UPDATE)
		memcpy(room + 63, n->old + 63, 8);
	return len;
}

/* Files in the trash that are still written count for their hour. */
static void stats_of_trash(struct pipe *pp)
{
	for (size_t i = 0; i < pp->inodes.n && !pp->err; i++) {
		const struct px_inode *n = &pp->inodes.v[i];
		uint8_t image[JFS_ATTR_MAX];
		struct px_stat *s;
		uint64_t length;

		if (!n->old || n->pi->kind == PL_REMOVE || px_image(pp, n, image) == 0 || !px_parent_in_trash(image))
			continue;
		length = get_be64(image + 51);
		if (length == n->length || !(s = px_stat(pp, get_be64(image + 63))))
			continue;
		s->length += (int64_t)length - (int64_t)n->length;
		s->space += (n->type == JFS_FILE ? (int64_t)jfs_align4k(length) : 4096) - n->space;
	}
	if (pp->moving && !pp->hour_new)
		(void)px_stat(pp, pp->hour_ino);
}

static void ask_stats(struct pipe *pp)
{
	static const char *const tables[] = { RDS_DIR_DATA_LENGTH, RDS_DIR_USED_SPACE, RDS_DIR_USED_INODES };

	for (size_t from = 0; from < pp->stats.n; from += PIPE_MAX) {
		for (int t = 0; t < 3; t++) {
			cmd_begin(pp, "HMGET", px_name(pp, tables[t]));
			for (size_t i = from; i < pp->stats.n && i < from + PIPE_MAX; i++) {
				char dir[RDS_KEY_MAX];

				cmd_copy(pp, dir, rds_decimal(dir, pp->stats.v[i].dir));
			}
			cmd_end(pp);
		}
	}
}

static void take_stats(struct pipe *pp)
{
	for (size_t from = 0; from < pp->stats.n && !pp->err; from += PIPE_MAX) {
		const struct redisReply *l = next(pp), *s = next(pp), *n = next(pp);

		for (size_t i = from; !pp->err && i < pp->stats.n && i < from + PIPE_MAX; i++) {
			struct px_stat *st = &pp->stats.v[i];

			st->had = element(s, i - from) != NULL; /* an absent field would be taken for the whole truth */
			if (st->had && !(number(element(l, i - from), &st->old_length) && number(element(s, i - from), &st->old_space) &&
					       number(element(n, i - from), &st->old_inodes)))
				pipe_refuse(pp, SCRIPT_BAD, px_name(pp, RDS_DIR_USED_SPACE), "not a number");
		}
	}
}

static void ask_trash(struct pipe *pp)
{
	for (size_t i = 0; i < pp->inodes.n && pp->moving && !pp->hour_new; i++) {
		const struct px_inode *n = &pp->inodes.v[i];

		for (uint32_t k = 0; n->old && k < n->pi->n_trash; k++) {
			char name[64 + JFS_NAME_MAX];
			uint8_t value[JFS_DENTRY_LEN];

			cmd_begin(pp, "HEXISTS", px_key(pp, rds_key_dir, pp->hour_ino));
			cmd_copy(pp, name, plan_trash_entry(n->pi, &n->pi->trash[k], name, value));
			cmd_end(pp);
		}
	}
}

static void take_trash(struct pipe *pp)
{
	for (size_t i = 0; i < pp->inodes.n && pp->moving && !pp->err; i++) {
		struct px_inode *n = &pp->inodes.v[i];
		bool *there;

		if (!n->old || !n->pi->n_trash)
			continue;
		n->in_trash = there = arena_alloc(&pp->mem, n->pi->n_trash * sizeof(bool));
		if (!there) {
			pp->err = -ENOMEM;
			return;
		}
		for (uint32_t k = 0; k < n->pi->n_trash && !pp->hour_new; k++) {
			const struct redisReply *r = next(pp);

			there[k] = r && r->integer == 1;
		}
	}
}

static void round_two(struct pipe *pp)
{
	for (size_t i = 0; i < pp->p->dirstats.n && !pp->err; i++) {
		const struct pl_dirstat *d = &pp->p->dirstats.v[i];
		struct px_stat *s = d->kind == PL_STAT_ADD ? px_stat(pp, d->ino) : NULL;

		if (s) {
			s->length += d->length;
			s->space += d->space;
			s->inodes += d->inodes;
		}
	}
	stats_of_trash(pp);
	ask_gone(pp);
	ask_stats(pp);
	ask_trash(pp);
	take_gone(pp);
	take_stats(pp);
	take_trash(pp);
}

/* --- quotas --- */

const char *px_quota_hash(enum quota_kind kind, int which)
{
	static const char *const names[][3] = {
		[QUOTA_DIR] = { RDS_DIR_QUOTA, RDS_DIR_QUOTA_SPACE, RDS_DIR_QUOTA_INODES },
		[QUOTA_USER] = { RDS_USER_QUOTA, RDS_USER_QUOTA_SPACE, RDS_USER_QUOTA_INODES },
		[QUOTA_GROUP] = { RDS_GROUP_QUOTA, RDS_GROUP_QUOTA_SPACE, RDS_GROUP_QUOTA_INODES },
	};

	return names[kind][which];
}

static void round_quotas(struct pipe *pp)
{
	const struct redisReply *r;

	cmd_begin(pp, "EXISTS", px_name(pp, RDS_USER_QUOTA_INODES));
	cmd_text(pp, px_name(pp, RDS_GROUP_QUOTA_INODES));
	cmd_end(pp);
	for (size_t i = 0; i < pp->p->quotas.n; i++) {
		for (int which = 1; which <= 2; which++) {
			char id[RDS_KEY_MAX];

			cmd_begin(pp, "HGET", px_name(pp, px_quota_hash(QUOTA_DIR, which)));
			cmd_copy(pp, id, rds_decimal(id, pp->p->quotas.v[i].dir));
			cmd_end(pp);
		}
	}
	r = next(pp);
	pp->counted = r && r->type == REDIS_REPLY_INTEGER && r->integer > 0;
	for (size_t i = 0; i < pp->p->quotas.n && !pp->err; i++) {
		const struct pl_quota *q = &pp->p->quotas.v[i];
		const struct redisReply *space = next(pp), *inodes = next(pp);
		struct px_quota *x = pp->err ? NULL : vec_push(&pp->quotas);
		int64_t used[2] = { 0 };

		if (!x) {
			pp->err = pp->err ? pp->err : -ENOMEM;
			return;
		}
		if (space->type == REDIS_REPLY_ERROR || inodes->type == REDIS_REPLY_ERROR ||
			!number(space->type == REDIS_REPLY_STRING ? space : NULL, &used[0]) ||
			!number(inodes->type == REDIS_REPLY_STRING ? inodes : NULL, &used[1]))
			pipe_refuse(pp, SCRIPT_BAD, px_name(pp, px_quota_hash(QUOTA_DIR, 1)), "not a number");
		x->skip = inodes->type != REDIS_REPLY_STRING;
		x->space = q->space + (q->whole ? 0 : used[0]);
		x->inodes = q->inodes + (q->whole ? 0 : used[1]);
	}
}

/* --- round 3 --- */

static void round_three(struct pipe *pp)
{
	static const char *const tables[] = { RDS_SLICE_REF, RDS_PRIVATE_KEY ".dead" };

	for (size_t i = 0; i < pp->p->refs.n; i++)
		ref_add(pp, pp->p->refs.v[i].id, pp->p->refs.v[i].size, pp->p->refs.v[i].delta);
	for (size_t from = 0; from < pp->refs.n; from += PIPE_MAX) {
		for (int t = 0; t < 2; t++) {
			cmd_begin(pp, "HMGET", px_name(pp, tables[t]));
			for (size_t i = from; i < pp->refs.n && i < from + PIPE_MAX; i++)
				cmd_text(pp, pp->refs.v[i].field);
			cmd_end(pp);
		}
	}
	for (size_t from = 0; from < pp->refs.n && !pp->err; from += PIPE_MAX) {
		const struct redisReply *counts = next(pp), *dead = next(pp);

		for (size_t i = from; !pp->err && i < pp->refs.n && i < from + PIPE_MAX; i++) {
			struct px_ref *r = &pp->refs.v[i];
			const struct redisReply *d = element(dead, i - from);

			r->had = element(counts, i - from) != NULL;
			if (!number(element(counts, i - from), &r->count))
				pipe_refuse(pp, SCRIPT_BAD, px_name(pp, RDS_SLICE_REF), "a count is not a number");
			r->dead = d ? d->str : NULL;
			if (d && r->delta > 0 && d->str[0] == 'x') /* its objects were claimed for deletion */
				pipe_refuse(pp, SCRIPT_DEADREF, r->field, "");
		}
	}
}

/* --- directories without statistics --- */

/* Counts what the directory holds before the window, as stock does for the root of a fresh volume; what is too large to be
 * counted here is left to stock. */
static void stat_count(struct pipe *pp, struct px_stat *st)
{
	const struct redisReply *entries, *records;

	cmd_begin(pp, "HLEN", px_key(pp, rds_key_dir, st->dir));
	cmd_end(pp);
	cmd_begin(pp, "EXISTS", px_key(pp, rds_key_inode, st->dir));
	cmd_end(pp);
	entries = next(pp);
	records = next(pp);
	if (pp->err || records->integer == 0 || entries->integer > 10000)
		return;
	cmd_begin(pp, "HVALS", px_key(pp, rds_key_dir, st->dir));
	cmd_end(pp);
	entries = next(pp);
	cmd_begin(pp, "MGET", NULL);
	for (size_t i = 0; entries && i < entries->elements; i++) {
		const struct redisReply *s = element(entries, i);
		uint64_t ino;
		uint8_t type;

		if (s && jfs_dentry_decode(s->str, (size_t)s->len, &type, &ino) == 0 && type == JFS_FILE)
			cmd_text(pp, px_key(pp, rds_key_inode, ino));
		else
			st->old_space += 4096;
	}
	st->had = true;
	st->old_inodes = entries ? (int64_t)entries->elements : 0;
	if (cmd_args(pp) == 1)
		return;
	cmd_end(pp);
	records = next(pp);
	for (size_t i = 0; records && i < records->elements; i++) {
		const struct redisReply *s = element(records, i);
		uint64_t length = s && s->len >= 59 ? get_be64((const uint8_t *)s->str + 51) : 0;

		st->old_length += (int64_t)length;
		st->old_space += (int64_t)jfs_align4k(length);
	}
}

/* --- the whole --- */

static void pipe_fini(struct pipe *pp)
{
	for (size_t i = 0; i < pp->replies.n; i++)
		rds_reply_free(pp->replies.v[i]);
	vec_fini(&pp->replies);
	vec_fini(&pp->cmd.argv);
	vec_fini(&pp->cmd.lens);
	vec_fini(&pp->inodes);
	vec_fini(&pp->refs);
	vec_fini(&pp->stats);
	vec_fini(&pp->quotas);
	vec_fini(&pp->owners);
	vec_fini(&pp->gone);
	hmap_fini(&pp->ref_at);
	hmap_fini(&pp->stat_at);
	hmap_fini(&pp->gone_at);
	arena_fini(&pp->mem);
}

int pipeline_apply(struct rds_conn *c, const struct window_plan *p, const struct script_ctx *ctx, struct script_answer *ans,
	struct errmsg *e)
{
	struct pipe pp = { .c = c, .p = p, .ctx = ctx, .ans = ans, .e = e };
	int err;

	memset(ans, 0, sizeof(*ans));
	e->text[0] = '\0';
	plan_trash_hour(ctx, pp.hour);
	plan_counters(p, &pp.space, &pp.inodes_delta);
	round_one(&pp);
	if (!pp.err)
		round_two(&pp);
	if (!pp.err)
		round_quotas(&pp);
	if (!pp.err)
		round_three(&pp);
	for (size_t i = 0; i < pp.stats.n && !pp.err; i++)
		if (!pp.stats.v[i].had && !jfs_inode_is_trash(pp.stats.v[i].dir))
			stat_count(&pp, &pp.stats.v[i]);
	if (!pp.err)
		pipe_write(&pp);
	err = pp.err;
	if (err) /* answers may be left, or commands that were not sent */
		rds_disconnect(c);
	pipe_fini(&pp);
	return err == -ECANCELED ? 0 : err;
}
