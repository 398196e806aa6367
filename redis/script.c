/* Encoding follows apply.lua section by section: change both together. */
#include "redis/script.h"

#include <stdio.h>
#include <string.h>

#include "redis/keys.h"

#define PAIRS_MAX 2000 /* of one command: Lua cannot pass 8,000 arguments */
#define EXACT	  1000000000000000 /* Lua's numbers are doubles: what is not below goes as text */

struct enc {
	struct buf *out;
	const struct script_ctx *ctx;
	const struct window_plan *p;
};

/* --- MessagePack, as much of it as Redis's oldest decoder knows --- */

static void put_array(struct enc *e, size_t n)
{
	if (n < 16) {
		buf_put_u8(e->out, (uint8_t)(0x90 | n));
	} else if (n <= UINT16_MAX) {
		buf_put_u8(e->out, 0xdc);
		buf_put_be16(e->out, (uint16_t)n);
	} else {
		buf_put_u8(e->out, 0xdd);
		buf_put_be32(e->out, (uint32_t)n);
	}
}

static void put_raw(struct enc *e, const void *p, size_t n)
{
	if (n < 32) {
		buf_put_u8(e->out, (uint8_t)(0xa0 | n));
	} else if (n <= UINT16_MAX) {
		buf_put_u8(e->out, 0xda);
		buf_put_be16(e->out, (uint16_t)n);
	} else {
		buf_put_u8(e->out, 0xdb);
		buf_put_be32(e->out, (uint32_t)n);
	}
	buf_put(e->out, p, n);
}

static void put_text(struct enc *e, const char *s)
{
	put_raw(e, s, strlen(s));
}

static void put_int(struct enc *e, int64_t v)
{
	if (v < 0 || v > 127) {
		buf_put_u8(e->out, 0xd3);
		buf_put_be64(e->out, (uint64_t)v);
	} else {
		buf_put_u8(e->out, (uint8_t)v);
	}
}

static void put_dec(struct enc *e, int64_t v)
{
	char t[24];

	put_raw(e, t, (size_t)snprintf(t, sizeof(t), "%lld", (long long)v));
}

static void put_u64(struct enc *e, uint64_t v)
{
	char t[24];

	put_raw(e, t, (size_t)snprintf(t, sizeof(t), "%llu", (unsigned long long)v));
}

static void put_wide(struct enc *e, int64_t v)
{
	if (v > -EXACT && v < EXACT)
		put_int(e, v);
	else
		put_dec(e, v);
}

static void put_key(struct enc *e, size_t (*fn)(char *, const char *, uint64_t), uint64_t ino)
{
	char k[RDS_KEY_MAX];

	put_raw(e, k, fn(k, e->ctx->prefix, ino));
}

static void put_chunk_key(struct enc *e, const struct pl_list *l)
{
	char k[RDS_KEY_MAX];

	put_raw(e, k, rds_key_chunk(k, e->ctx->prefix, l->ino, l->chunk));
}

/* --- sections --- */

static void put_record(struct enc *e, const struct pl_inode *pi)
{
	uint8_t blob[JFS_ATTR_MAX];

	put_raw(e, blob, plan_record(e->ctx, pi, blob));
}

static void put_head(struct enc *e)
{
	const struct script_ctx *c = e->ctx;
	int64_t space, inodes;
	char hour[32];

	plan_counters(e->p, &space, &inodes);
	plan_trash_hour(c, hour);
	put_array(e, 11);
	put_text(e, c->prefix ? c->prefix : "");
	put_u64(e, c->prev.epoch);
	put_u64(e, c->prev.seq);
	put_text(e, c->prev.chain);
	put_u64(e, c->seq);
	put_text(e, c->chain);
	put_dec(e, c->now);
	put_text(e, hour);
	put_u64(e, c->sid);
	put_int(e, space);
	put_int(e, inodes);
}

static void put_strings(struct enc *e)
{
	size_t n = e->p->symlinks.n, done = 0;

	for (size_t i = 0; i < e->p->inodes.n; i++)
		n += e->p->inodes.v[i].kind == PL_NEW;
	put_array(e, (n + PAIRS_MAX - 1) / PAIRS_MAX);
	for (size_t i = 0; i < e->p->inodes.n + e->p->symlinks.n; i++) {
		const struct pl_inode *pi = i < e->p->inodes.n ? &e->p->inodes.v[i] : NULL;

		if (pi && pi->kind != PL_NEW)
			continue;
		if (done % PAIRS_MAX == 0)
			put_array(e, 2 * (n - done < PAIRS_MAX ? n - done : PAIRS_MAX));
		done++;
		if (pi) {
			put_key(e, rds_key_inode, pi->ino);
			put_record(e, pi);
		} else {
			const struct pl_symlink *l = &e->p->symlinks.v[i - e->p->inodes.n];

			put_key(e, rds_key_symlink, l->ino);
			put_raw(e, l->target, l->len);
		}
	}
}

static void put_records(struct enc *e, const struct pl_list *l)
{
	for (uint32_t i = 0; i < l->n_records; i++)
		put_raw(e, l->records + (size_t)i * JFS_SLICE_LEN, JFS_SLICE_LEN);
}

/* Of new inodes: those of one record, as keys and records; then those of several. */
static void put_fresh_lists(struct enc *e)
{
	size_t one = 0, many = 0;

	for (size_t i = 0; i < e->p->lists.n; i++) {
		const struct pl_list *l = &e->p->lists.v[i];

		one += l->new_inode && l->n_records == 1;
		many += l->new_inode && l->n_records > 1;
	}
	put_array(e, 2);
	for (int keys = 1; keys >= 0; keys--) {
		put_array(e, one);
		for (size_t i = 0; i < e->p->lists.n; i++) {
			const struct pl_list *l = &e->p->lists.v[i];

			if (!l->new_inode || l->n_records != 1)
				continue;
			if (keys)
				put_chunk_key(e, l);
			else
				put_records(e, l);
		}
	}
	put_array(e, many);
	for (size_t i = 0; i < e->p->lists.n; i++) {
		const struct pl_list *l = &e->p->lists.v[i];

		if (!l->new_inode || l->n_records < 2)
			continue;
		put_array(e, 1 + l->n_records);
		put_chunk_key(e, l);
		put_records(e, l);
	}
}

static void put_expect(struct enc *e, const struct pl_dentry *d)
{
	if (!d->has_expect)
		put_raw(e, "*", 1);
	else
		put_raw(e, d->expect, d->expect[0] ? 9 : 0);
}

/* Entries [i, to) of one directory; those that are set come first everywhere. */
static void put_dir(struct enc *e, size_t i, size_t to)
{
	const struct pl_dentry *v = e->p->dentries.v;
	size_t sets = 0, expected = 0;

	for (size_t k = i; k < to; k++) {
		sets += v[k].value[0] != 0;
		expected += !v[k].has_expect || v[k].expect[0];
	}
	put_array(e, 5);
	put_key(e, rds_key_dir, v[i].parent);
	put_int(e, v[i].new_dir);
	for (int set = 1; set >= 0; set--) {
		put_array(e, set ? 2 * sets : to - i - sets);
		for (size_t k = i; k < to; k++) {
			if ((v[k].value[0] != 0) != set)
				continue;
			put_raw(e, v[k].name, v[k].name_len);
			if (set)
				put_raw(e, v[k].value, 9);
		}
	}
	if (!expected || v[i].new_dir) {
		put_int(e, 0);
		return;
	}
	put_array(e, to - i);
	for (int set = 1; set >= 0; set--)
		for (size_t k = i; k < to; k++)
			if ((v[k].value[0] != 0) == set)
				put_expect(e, &v[k]);
}

static void put_dentries(struct enc *e)
{
	const struct window_plan *p = e->p;
	size_t dirs = 0;

	for (size_t i = 0; i < p->dentries.n; i++)
		dirs += !i || p->dentries.v[i].parent != p->dentries.v[i - 1].parent;
	put_array(e, dirs);
	for (size_t i = 0, to; i < p->dentries.n; i = to) {
		for (to = i; to < p->dentries.n && p->dentries.v[to].parent == p->dentries.v[i].parent; to++)
			;
		put_dir(e, i, to);
	}
}

static void put_refs(struct enc *e)
{
	put_array(e, 3 * e->p->refs.n);
	for (size_t i = 0; i < e->p->refs.n; i++) {
		const struct pl_ref *r = &e->p->refs.v[i];
		char f[RDS_KEY_MAX];

		put_raw(e, f, rds_field_slice_ref(f, r->id, r->size));
		put_int(e, r->delta);
		put_int(e, r->fresh && r->delta > 0 ? r->delta + 1 : 0);
	}
}

static void put_trash(struct enc *e, const struct pl_inode *pi, const struct pl_trash *t)
{
	char name[64 + JFS_NAME_MAX];
	uint8_t value[JFS_DENTRY_LEN];

	put_raw(e, name, plan_trash_entry(pi, t, name, value));
	put_raw(e, value, sizeof(value));
}

static void put_inodes(struct enc *e)
{
	static const char *const kinds[] = { [PL_UPDATE] = "U", [PL_SUSTAIN] = "S", [PL_REMOVE] = "R" };
	size_t n = 0;

	for (size_t i = 0; i < e->p->inodes.n; i++)
		n += e->p->inodes.v[i].kind != PL_NEW;
	put_array(e, n);
	for (size_t i = 0; i < e->p->inodes.n; i++) {
		const struct pl_inode *pi = &e->p->inodes.v[i];
		uint8_t ct[12];

		if (pi->kind == PL_NEW)
			continue;
		put_array(e, 8);
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
		put_raw(e, ct, sizeof(ct));
		put_int(e, pi->cut_chunks == CHUNK_NONE ? -1 : (int64_t)pi->cut_chunks);
		put_array(e, 2 * (size_t)pi->n_trash);
		for (uint32_t k = 0; k < pi->n_trash; k++)
			put_trash(e, pi, &pi->trash[k]);
	}
}

static void put_lists(struct enc *e)
{
	size_t n = 0;

	for (size_t i = 0; i < e->p->lists.n; i++)
		n += !e->p->lists.v[i].new_inode;
	put_array(e, n);
	for (size_t i = 0; i < e->p->lists.n; i++) {
		const struct pl_list *l = &e->p->lists.v[i];

		if (l->new_inode)
			continue;
		put_array(e, 3 + (size_t)l->n_records);
		put_chunk_key(e, l);
		put_text(e, l->kind == PL_FRESH ? "F" : l->kind == PL_APPEND ? "A" : "R");
		put_raw(e, l->old, (size_t)l->n_old * JFS_SLICE_LEN);
		put_records(e, l);
	}
}

static void put_parents(struct enc *e)
{
	put_array(e, 3 * e->p->parents.n);
	for (size_t i = 0; i < e->p->parents.n; i++) {
		put_u64(e, e->p->parents.v[i].ino);
		put_u64(e, e->p->parents.v[i].parent);
		put_dec(e, e->p->parents.v[i].delta);
	}
}

static void put_stats(struct enc *e)
{
	static const size_t fields[] = { [PL_STAT_NEW] = 4, [PL_STAT_ADD] = 4, [PL_STAT_DROP] = 1, [PL_STAT_LINKED] = 3 };

	put_array(e, 4);
	for (int kind = PL_STAT_NEW; kind <= PL_STAT_LINKED; kind++) {
		size_t n = 0;

		for (size_t i = 0; i < e->p->dirstats.n; i++)
			n += e->p->dirstats.v[i].kind == (enum pl_dirstat_kind)kind;
		put_array(e, n * fields[kind]);
		for (size_t i = 0; i < e->p->dirstats.n; i++) {
			const struct pl_dirstat *s = &e->p->dirstats.v[i];

			if (s->kind != (enum pl_dirstat_kind)kind)
				continue;
			put_u64(e, s->ino);
			if (fields[kind] >= 3) {
				put_wide(e, s->length);
				put_wide(e, s->space);
			}
			if (fields[kind] >= 4)
				put_int(e, s->inodes);
		}
	}
}

/* Attributes [i, to) of one inode. */
static void put_xattrs_of(struct enc *e, size_t i, size_t to)
{
	const struct pl_xattr *v = e->p->xattrs.v;
	size_t sets = 0;

	for (size_t k = i; k < to; k++)
		sets += v[k].value != NULL;
	put_array(e, 4);
	put_key(e, rds_key_xattr, v[i].ino);
	put_int(e, v[i].fresh);
	for (int set = 1; set >= 0; set--) {
		put_array(e, set ? 2 * sets : to - i - sets);
		for (size_t k = i; k < to; k++) {
			if ((v[k].value != NULL) != set)
				continue;
			put_raw(e, v[k].name, v[k].name_len);
			if (set)
				put_raw(e, v[k].value, v[k].value_len);
		}
	}
}

static void put_xattrs(struct enc *e)
{
	const struct window_plan *p = e->p;
	size_t inodes = 0;

	for (size_t i = 0; i < p->xattrs.n; i++)
		inodes += !i || p->xattrs.v[i].ino != p->xattrs.v[i - 1].ino;
	put_array(e, inodes);
	for (size_t i = 0, to; i < p->xattrs.n; i = to) {
		for (to = i; to < p->xattrs.n && p->xattrs.v[to].ino == p->xattrs.v[i].ino; to++)
			;
		put_xattrs_of(e, i, to);
	}
}

static void put_quotas(struct enc *e)
{
	put_array(e, 4 * e->p->quotas.n);
	for (size_t i = 0; i < e->p->quotas.n; i++) {
		put_u64(e, e->p->quotas.v[i].dir);
		put_int(e, e->p->quotas.v[i].whole);
		put_wide(e, e->p->quotas.v[i].space);
		put_int(e, e->p->quotas.v[i].inodes);
	}
}

int script_encode(const struct window_plan *p, const struct script_ctx *ctx, struct buf *out)
{
	struct enc e = { .out = out, .ctx = ctx, .p = p };

	buf_init(out, SCRIPT_MAX);
	put_array(&e, 12);
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
	put_quotas(&e);
	return out->err;
}
