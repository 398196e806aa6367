/* Encoding follows apply.lua section by section: change both together. */
#include "redis/script.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "redis/keys.h"
#include "util/buf.h"

struct enc {
	struct script_args *a;
	const struct script_ctx *ctx;
	const struct window_plan *p;
	bool failed;
};

static void put_raw(struct enc *e, const void *p, size_t n)
{
	const char **arg = vec_push(&e->a->argv);
	size_t *len = vec_push(&e->a->lens);

	if (!arg || !len) {
		e->failed = true;
		return;
	}
	*arg = p ? p : "";
	*len = n;
	e->a->bytes += n;
}

static void put_copy(struct enc *e, const void *p, size_t n)
{
	void *q = arena_copy(&e->a->mem, p, n);

	if (q)
		put_raw(e, q, n);
	else
		e->failed = true;
}

static void put_text(struct enc *e, const char *s)
{
	put_copy(e, s, strlen(s));
}

static void put_int(struct enc *e, int64_t v)
{
	char t[24];

	if (v >= 0 && v < 10) {
		put_raw(e, "0\0001\0002\0003\0004\0005\0006\0007\0008\0009" + 2 * v, 1);
		return;
	}
	put_copy(e, t, (size_t)snprintf(t, sizeof(t), "%lld", (long long)v));
}

static void put_u64(struct enc *e, uint64_t v)
{
	char t[24];

	put_copy(e, t, (size_t)snprintf(t, sizeof(t), "%llu", (unsigned long long)v));
}

static void put_key(struct enc *e, size_t (*fn)(char *, const char *, uint64_t), uint64_t ino)
{
	char k[RDS_KEY_MAX];

	put_copy(e, k, fn(k, e->ctx->prefix, ino));
}

static void put_chunk_key(struct enc *e, const struct pl_list *l)
{
	char k[RDS_KEY_MAX];

	put_copy(e, k, rds_key_chunk(k, e->ctx->prefix, l->ino, l->chunk));
}

static void ctime_clamp(const struct script_ctx *ctx, int64_t *sec, uint32_t *nsec)
{
	if (*sec >= ctx->oldest_ctime)
		return;
	*sec = ctx->oldest_ctime;
	*nsec = 0;
}

size_t plan_record(const struct script_ctx *ctx, const struct pl_inode *pi, uint8_t out[JFS_ATTR_MAX])
{
	struct jfs_attr a = pi->attr;

	ctime_clamp(ctx, &a.ctime, &a.ctime_nsec);
	return jfs_attr_encode(&a, out);
}

void plan_ctime(const struct script_ctx *ctx, const struct pl_inode *pi, uint8_t out[12])
{
	int64_t sec = pi->ctime;
	uint32_t nsec = pi->ctime_nsec;

	ctime_clamp(ctx, &sec, &nsec);
	put_be64(out, (uint64_t)sec);
	put_be32(out + 8, nsec);
}

void plan_trash_hour(const struct script_ctx *ctx, char out[32])
{
	time_t now = (time_t)ctx->now;
	struct tm tm;

	out[0] = '\0';
	if (gmtime_r(&now, &tm))
		strftime(out, 32, "%Y-%m-%d-%H", &tm);
}

size_t plan_trash_entry(const struct pl_inode *pi, const struct pl_trash *t, char name[64 + JFS_NAME_MAX],
	uint8_t value[JFS_DENTRY_LEN])
{
	size_t n = (size_t)snprintf(name, 64, "%llu-%llu-", (unsigned long long)t->parent, (unsigned long long)pi->ino);

	memcpy(name + n, t->name, t->name_len);
	n += t->name_len;
	jfs_dentry_encode(pi->type ? pi->type : JFS_FILE, pi->ino, value);
	return n > JFS_NAME_MAX ? JFS_NAME_MAX : n;
}

void plan_counters(const struct window_plan *p, int64_t *space, int64_t *inodes)
{
	*space = *inodes = 0;
	for (size_t i = 0; i < p->inodes.n; i++) {
		if (p->inodes.v[i].kind != PL_NEW)
			continue;
		*space += (int64_t)jfs_attr_space(&p->inodes.v[i].attr);
		++*inodes;
	}
}

static void put_record(struct enc *e, const struct pl_inode *pi)
{
	uint8_t blob[JFS_ATTR_MAX];

	put_copy(e, blob, plan_record(e->ctx, pi, blob));
}

static void put_head(struct enc *e)
{
	const struct script_ctx *c = e->ctx;
	int64_t space, inodes;
	char hour[32];

	plan_counters(e->p, &space, &inodes);
	plan_trash_hour(c, hour);
	put_text(e, c->prefix ? c->prefix : "");
	put_u64(e, c->prev.epoch);
	put_u64(e, c->prev.seq);
	put_text(e, c->prev.chain);
	put_u64(e, c->seq);
	put_text(e, c->chain);
	put_int(e, c->now);
	put_text(e, hour);
	put_u64(e, c->sid);
	put_int(e, c->oldest_ctime);
	put_int(e, space);
	put_int(e, inodes);
}

static void put_strings(struct enc *e)
{
	int64_t n = (int64_t)e->p->symlinks.n;

	for (size_t i = 0; i < e->p->inodes.n; i++)
		n += e->p->inodes.v[i].kind == PL_NEW;
	put_int(e, n);
	for (size_t i = 0; i < e->p->inodes.n; i++) {
		if (e->p->inodes.v[i].kind != PL_NEW)
			continue;
		put_key(e, rds_key_inode, e->p->inodes.v[i].ino);
		put_record(e, &e->p->inodes.v[i]);
	}
	for (size_t i = 0; i < e->p->symlinks.n; i++) {
		put_key(e, rds_key_symlink, e->p->symlinks.v[i].ino);
		put_raw(e, e->p->symlinks.v[i].target, e->p->symlinks.v[i].len);
	}
}

static void put_records(struct enc *e, const struct pl_list *l)
{
	for (uint32_t i = 0; i < l->n_records; i++)
		put_raw(e, l->records + (size_t)i * JFS_SLICE_LEN, JFS_SLICE_LEN);
}

static void put_fresh_lists(struct enc *e)
{
	for (int many = 0; many < 2; many++) {
		int64_t n = 0;

		for (int pass = 0; pass < 2; pass++) {
			for (size_t i = 0; i < e->p->lists.n; i++) {
				const struct pl_list *l = &e->p->lists.v[i];

				if (!l->new_inode || !l->n_records || (l->n_records > 1) != many)
					continue;
				if (pass == 0) {
					n++;
					continue;
				}
				put_chunk_key(e, l);
				if (many)
					put_int(e, l->n_records);
				put_records(e, l);
			}
			if (pass == 0)
				put_int(e, n);
		}
	}
}

static void put_expect(struct enc *e, const struct pl_dentry *d)
{
	if (!d->has_expect)
		put_raw(e, "*", 1);
	else
		put_raw(e, d->expect, d->expect[0] ? 9 : 0);
}

static void put_dentries(struct enc *e)
{
	const struct window_plan *p = e->p;
	int64_t dirs = 0;

	for (size_t i = 0; i < p->dentries.n; i++)
		dirs += !i || p->dentries.v[i].parent != p->dentries.v[i - 1].parent;
	put_int(e, dirs);
	for (size_t i = 0, to; i < p->dentries.n; i = to) {
		int64_t sets = 0;

		for (to = i; to < p->dentries.n && p->dentries.v[to].parent == p->dentries.v[i].parent; to++)
			sets += p->dentries.v[to].value[0] != 0;
		put_key(e, rds_key_dir, p->dentries.v[i].parent);
		put_int(e, p->dentries.v[i].new_dir);
		for (int set = 1; set >= 0; set--) {
			put_int(e, set ? sets : (int64_t)(to - i) - sets);
			for (size_t k = i; k < to; k++) {
				const struct pl_dentry *d = &p->dentries.v[k];

				if ((d->value[0] != 0) != set)
					continue;
				put_raw(e, d->name, d->name_len);
				if (set)
					put_raw(e, d->value, 9);
			}
		}
		for (int set = 1; set >= 0 && !p->dentries.v[i].new_dir; set--)
			for (size_t k = i; k < to; k++)
				if ((p->dentries.v[k].value[0] != 0) == set)
					put_expect(e, &p->dentries.v[k]);
	}
}

static void put_refs(struct enc *e)
{
	put_int(e, (int64_t)e->p->refs.n);
	for (size_t i = 0; i < e->p->refs.n; i++) {
		const struct pl_ref *r = &e->p->refs.v[i];
		char f[RDS_KEY_MAX];

		put_copy(e, f, rds_field_slice_ref(f, r->id, r->size));
		put_int(e, r->delta);
		put_int(e, r->fresh);
	}
}

static void put_trash(struct enc *e, const struct pl_inode *pi, const struct pl_trash *t)
{
	char name[64 + JFS_NAME_MAX];
	uint8_t value[JFS_DENTRY_LEN];

	put_copy(e, name, plan_trash_entry(pi, t, name, value));
	put_copy(e, value, sizeof(value));
}

static void put_inodes(struct enc *e)
{
	static const char *const kinds[] = { [PL_UPDATE] = "U", [PL_SUSTAIN] = "S", [PL_REMOVE] = "R" };
	int64_t n = 0;

	for (size_t i = 0; i < e->p->inodes.n; i++)
		n += e->p->inodes.v[i].kind != PL_NEW;
	put_int(e, n);
	for (size_t i = 0; i < e->p->inodes.n; i++) {
		const struct pl_inode *pi = &e->p->inodes.v[i];
		uint8_t ct[12];

		if (pi->kind == PL_NEW)
			continue;
		put_u64(e, pi->ino);
		put_text(e, kinds[pi->kind]);
		if (pi->has_attr)
			put_record(e, pi);
		else
			put_raw(e, "", 0);
		put_int(e, pi->named);
		if (pi->nlink_abs)
			put_text(e, "a");
		else
			put_int(e, pi->nlink_delta);
		plan_ctime(e->ctx, pi, ct);
		put_copy(e, ct, sizeof(ct));
		put_int(e, pi->cut_chunks == CHUNK_NONE ? -1 : (int64_t)pi->cut_chunks);
		put_int(e, pi->n_trash);
		for (uint32_t k = 0; k < pi->n_trash; k++)
			put_trash(e, pi, &pi->trash[k]);
	}
}

static void put_lists(struct enc *e)
{
	int64_t n = 0;

	for (size_t i = 0; i < e->p->lists.n; i++)
		n += !e->p->lists.v[i].new_inode;
	put_int(e, n);
	for (size_t i = 0; i < e->p->lists.n; i++) {
		const struct pl_list *l = &e->p->lists.v[i];

		if (l->new_inode)
			continue;
		put_chunk_key(e, l);
		put_text(e, l->kind == PL_FRESH ? "F" : l->kind == PL_APPEND ? "A" : "R");
		put_raw(e, l->old, (size_t)l->n_old * JFS_SLICE_LEN);
		put_int(e, l->n_records);
		put_records(e, l);
	}
}

static void put_parents(struct enc *e)
{
	put_int(e, (int64_t)e->p->parents.n);
	for (size_t i = 0; i < e->p->parents.n; i++) {
		put_u64(e, e->p->parents.v[i].ino);
		put_u64(e, e->p->parents.v[i].parent);
		put_int(e, e->p->parents.v[i].delta);
	}
}

static void put_stats(struct enc *e)
{
	for (int kind = PL_STAT_NEW; kind <= PL_STAT_LINKED; kind++) {
		int64_t n = 0;

		for (size_t i = 0; i < e->p->dirstats.n; i++)
			n += e->p->dirstats.v[i].kind == (enum pl_dirstat_kind)kind;
		put_int(e, n);
		for (size_t i = 0; i < e->p->dirstats.n; i++) {
			const struct pl_dirstat *s = &e->p->dirstats.v[i];

			if (s->kind != (enum pl_dirstat_kind)kind)
				continue;
			put_u64(e, s->ino);
			if (kind == PL_STAT_DROP)
				continue;
			put_int(e, s->length);
			put_int(e, s->space);
			put_int(e, s->inodes);
		}
	}
}

static void put_xattrs(struct enc *e)
{
	const struct window_plan *p = e->p;
	int64_t inodes = 0;

	for (size_t i = 0; i < p->xattrs.n; i++)
		inodes += !i || p->xattrs.v[i].ino != p->xattrs.v[i - 1].ino;
	put_int(e, inodes);
	for (size_t i = 0, to; i < p->xattrs.n; i = to) {
		int64_t sets = 0;

		for (to = i; to < p->xattrs.n && p->xattrs.v[to].ino == p->xattrs.v[i].ino; to++)
			sets += p->xattrs.v[to].value != NULL;
		put_key(e, rds_key_xattr, p->xattrs.v[i].ino);
		put_int(e, p->xattrs.v[i].fresh);
		for (int set = 1; set >= 0; set--) {
			put_int(e, set ? sets : (int64_t)(to - i) - sets);
			for (size_t k = i; k < to; k++) {
				const struct pl_xattr *x = &p->xattrs.v[k];

				if ((x->value != NULL) != set)
					continue;
				put_raw(e, x->name, x->name_len);
				if (set)
					put_raw(e, x->value, x->value_len);
			}
		}
	}
}

int script_encode(const struct window_plan *p, const struct script_ctx *ctx, struct script_args *out)
{
	struct enc e = { .a = out, .ctx = ctx, .p = p };

	memset(out, 0, sizeof(*out));
	put_head(&e);
	put_strings(&e);
	put_fresh_lists(&e);
	put_dentries(&e);
	put_refs(&e);
	put_inodes(&e);
	put_lists(&e);
	put_parents(&e);
	put_stats(&e);
	put_xattrs(&e);
	if (e.failed)
		script_args_fini(out);
	return e.failed ? -ENOMEM : 0;
}

void script_args_fini(struct script_args *a)
{
	vec_fini(&a->argv);
	vec_fini(&a->lens);
	arena_fini(&a->mem);
}

static bool reply_text(const redisReply *r, size_t i, char *out, size_t size)
{
	const redisReply *s = i < r->elements ? r->element[i] : NULL;

	if (!s || (s->type != REDIS_REPLY_STRING && s->type != REDIS_REPLY_STATUS) || (size_t)s->len >= size)
		return false;
	memcpy(out, s->str, (size_t)s->len);
	out[s->len] = '\0';
	return true;
}

static size_t reply_bytes(const redisReply *r, size_t i, uint8_t *out, size_t size)
{
	const redisReply *s = i < r->elements ? r->element[i] : NULL;
	size_t n = s && s->type == REDIS_REPLY_STRING ? (size_t)s->len : 0;

	n = n < size ? n : size;
	if (n)
		memcpy(out, s->str, n);
	return n;
}

int script_parse(const redisReply *r, struct script_answer *out)
{
	static const char *const names[] = { "OK", "GAP", "FENCED", "FORGOT", "NOKEY", "ENTRY", "EXISTS", "LIST", "GONE",
		"DEADREF", "BAD" };
	char word[16], num[2][24];
	size_t i;

	memset(out, 0, sizeof(*out));
	if (!r || r->type != REDIS_REPLY_ARRAY || !reply_text(r, 0, word, sizeof(word)))
		return -EPROTO;
	for (i = 0; i < sizeof(names) / sizeof(names[0]) && strcmp(names[i], word) != 0; i++)
		;
	out->status = (enum script_status)i;
	if (i == sizeof(names) / sizeof(names[0]))
		return -EPROTO;
	if (i == SCRIPT_GAP || i == SCRIPT_FENCED || i == SCRIPT_FORGOT) {
		if (!reply_text(r, 1, num[0], sizeof(num[0])) || !reply_text(r, 2, num[1], sizeof(num[1])) ||
			!reply_text(r, 3, out->pos.chain, sizeof(out->pos.chain)))
			return -EPROTO;
		out->pos.epoch = strtoull(num[0], NULL, 10);
		out->pos.seq = strtoull(num[1], NULL, 10);
		return 0;
	}
	if (i > SCRIPT_NOKEY && !reply_text(r, 1, out->key, sizeof(out->key)))
		return -EPROTO;
	out->field_len = reply_bytes(r, 2, out->field, sizeof(out->field) - 1);
	out->value_len = reply_bytes(r, 3, out->value, sizeof(out->value));
	return 0;
}
