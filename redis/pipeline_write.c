/* The transaction: new images, absolute but for counters, the position last. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis/pipeline_int.h"
#include "util/buf.h"

struct out {
	struct pipe *pp;
	size_t queued; /* commands between MULTI and EXEC */
	uint64_t trash_length, trash_space, trash_entries;
};

static void begin(struct out *o, const char *name, const char *key)
{
	cmd_begin(o->pp, name, key);
}

static void end(struct out *o)
{
	cmd_end(o->pp);
	o->queued++;
}

/* One command of few arguments. */
static void one(struct out *o, const char *name, const char *key, const void *a, size_t an, const void *b, size_t bn)
{
	begin(o, name, key);
	cmd_copy(o->pp, a, an);
	if (b)
		cmd_copy(o->pp, b, bn);
	end(o);
}

static void del(struct out *o, const char *key)
{
	begin(o, "DEL", key);
	end(o);
}

static void set(struct out *o, const char *key, const void *p, size_t n)
{
	one(o, "SET", key, p, n, NULL, 0);
}

/* An inode with this record comes (1) or goes (-1): its owners use so much more. */
static void own(struct pipe *pp, const uint8_t *record, int64_t space, int times)
{
	for (enum quota_kind kind = QUOTA_USER; pp->counted && kind <= QUOTA_GROUP; kind++) {
		uint32_t id = get_be32(record + (kind == QUOTA_USER ? 3 : 7));
		struct px_owner *w = NULL;

		for (size_t i = 0; i < pp->owners.n && !w; i++)
			if (pp->owners.v[i].kind == kind && pp->owners.v[i].id == id)
				w = &pp->owners.v[i];
		if (!w && (w = vec_push(&pp->owners)) != NULL)
			*w = (struct px_owner){ .kind = kind, .id = id };
		if (!w) {
			pp->err = pp->err ? pp->err : -ENOMEM;
			return;
		}
		w->space += times * space;
		w->inodes += times;
	}
}

/* --- what is born --- */

static void write_born(struct out *o)
{
	struct pipe *pp = o->pp;
	const struct window_plan *p = pp->p;

	for (size_t i = 0; i < p->inodes.n; i++) {
		uint8_t blob[JFS_ATTR_MAX];

		if (p->inodes.v[i].kind != PL_NEW)
			continue;
		set(o, px_key(pp, rds_key_inode, p->inodes.v[i].ino), blob, plan_record(pp->ctx, &p->inodes.v[i], blob));
		own(pp, blob, (int64_t)jfs_attr_space(&p->inodes.v[i].attr), 1);
	}
	for (size_t i = 0; i < p->symlinks.n; i++)
		set(o, px_key(pp, rds_key_symlink, p->symlinks.v[i].ino), p->symlinks.v[i].target, p->symlinks.v[i].len);
}

/* --- lists --- */

static void write_lists(struct out *o)
{
	struct pipe *pp = o->pp;

	for (size_t i = 0; i < pp->p->lists.n; i++) {
		const struct pl_list *l = &pp->p->lists.v[i];
		char *key = px_chunk_key(pp, l->ino, l->chunk);

		if (l->kind == PL_REWRITE && !l->new_inode)
			del(o, key);
		for (uint32_t k = 0; k < l->n_records;) {
			begin(o, "RPUSH", key);
			while (k < l->n_records && cmd_args(pp) < PIPE_MAX)
				cmd_arg(pp, l->records + (size_t)JFS_SLICE_LEN * k++, JFS_SLICE_LEN);
			end(o);
		}
	}
}

/* --- names --- */

static void write_dentries(struct out *o)
{
	const struct window_plan *p = o->pp->p;

	for (size_t i = 0; i < p->dentries.n; i++) {
		const struct pl_dentry *d = &p->dentries.v[i];
		char *key = px_key(o->pp, rds_key_dir, d->parent);

		if (d->value[0])
			one(o, "HSET", key, d->name, d->name_len, d->value, 9);
		else
			one(o, "HDEL", key, d->name, d->name_len, NULL, 0);
	}
	for (size_t i = 0; i < p->parents.n; i++) {
		begin(o, "HINCRBY", px_key(o->pp, rds_key_parents, p->parents.v[i].ino));
		cmd_int(o->pp, (int64_t)p->parents.v[i].parent);
		cmd_int(o->pp, p->parents.v[i].delta);
		end(o);
	}
	for (size_t i = 0; i < p->xattrs.n; i++) {
		const struct pl_xattr *x = &p->xattrs.v[i];
		char *key = px_key(o->pp, rds_key_xattr, x->ino);

		if (x->value)
			one(o, "HSET", key, x->name, x->name_len, x->value, x->value_len);
		else
			one(o, "HDEL", key, x->name, x->name_len, NULL, 0);
	}
}

/* --- inodes that exist --- */

static void write_removed(struct out *o, const struct px_inode *n)
{
	struct pipe *pp = o->pp;
	uint64_t ino = n->pi->ino;
	char member[RDS_KEY_MAX], now[24];

	del(o, px_key(pp, rds_key_inode, ino));
	del(o, px_key(pp, rds_key_xattr, ino));
	del(o, px_key(pp, rds_key_parents, ino));
	del(o, px_key(pp, rds_key_symlink, ino));
	one(o, "SREM", px_key(pp, rds_key_sustained, pp->ctx->sid), member, rds_decimal(member, ino), NULL, 0);
	if (!n->old)
		return;
	pp->space -= n->space;
	pp->inodes_delta--;
	own(pp, n->old, n->space, -1);
	if (n->type == JFS_FILE && ((n->length + JFS_CHUNK_SIZE - 1) >> JFS_CHUNK_BITS) > 1000)
		one(o, "ZADD", px_name(pp, RDS_DEL_FILES), now, (size_t)snprintf(now, sizeof(now), "%lld", (long long)pp->ctx->now),
			member, rds_member_del_file(member, ino, n->length));
}

/* The names that the inode leaves in the trash. Its link count and parent follow. */
static void write_moves(struct out *o, const struct px_inode *n, uint8_t *image, uint32_t *nlink)
{
	struct pipe *pp = o->pp;
	uint64_t length = get_be64(image + 51);
	uint8_t type = image[1] >> 4;
	char hour[RDS_KEY_MAX];
	size_t hour_len = rds_decimal(hour, pp->hour_ino);

	for (uint32_t k = 0; n->old && k < n->pi->n_trash; k++) {
		char name[64 + JFS_NAME_MAX];
		uint8_t value[JFS_DENTRY_LEN];
		size_t len = plan_trash_entry(n->pi, &n->pi->trash[k], name, value);

		if (*nlink > 1 && type != JFS_DIR && n->in_trash[k]) { /* that entry stands for it already */
			--*nlink;
			continue;
		}
		one(o, "HSET", px_key(pp, rds_key_dir, pp->hour_ino), name, len, value, sizeof(value));
		if (get_be64(image + 63) != 0)
			put_be64(image + 63, pp->hour_ino);
		else
			one(o, "HINCRBY", px_key(pp, rds_key_parents, n->pi->ino), hour, hour_len, "1", 1);
		o->trash_length += type == JFS_FILE ? length : 0;
		o->trash_space += type == JFS_FILE ? jfs_align4k(length) : 4096;
		o->trash_entries++;
	}
}

static void write_changed(struct out *o, const struct px_inode *n)
{
	struct pipe *pp = o->pp;
	uint64_t ino = n->pi->ino;
	uint8_t image[JFS_ATTR_MAX];
	size_t len = px_image(pp, n, image);
	char member[RDS_KEY_MAX];
	uint32_t nlink;
	int64_t space;

	if (!n->old && n->pi->kind != PL_UPDATE)
		return;
	if (len == 0) {
		rds_decimal(member, ino);
		pipe_refuse(pp, n->old ? SCRIPT_BAD : SCRIPT_GONE, n->old ? px_key(pp, rds_key_inode, ino) : member,
			n->old ? "inode record too long" : "");
		return;
	}
	nlink = get_be32(image + 47);
	if (!n->pi->nlink_abs && n->old) {
		int64_t count = (int64_t)n->nlink + n->pi->nlink_delta;

		nlink = count > 0 ? (uint32_t)count : 0;
	}
	write_moves(o, n, image, &nlink);
	if (n->pi->kind == PL_SUSTAIN) {
		one(o, "SADD", px_key(pp, rds_key_sustained, pp->ctx->sid), member, rds_decimal(member, ino), NULL, 0);
		del(o, px_key(pp, rds_key_xattr, ino));
		if (get_be64(image + 63) == 0)
			del(o, px_key(pp, rds_key_parents, ino));
	}
	put_be32(image + 47, nlink);
	set(o, px_key(pp, rds_key_inode, ino), image, len);
	space = image[1] >> 4 == JFS_FILE ? (int64_t)jfs_align4k(get_be64(image + 51)) : 4096;
	pp->space += space - n->space;
	own(pp, image, space, 1);
	if (n->old)
		own(pp, n->old, n->space, -1);
	if (!n->old)
		pp->inodes_delta++;
}

static void write_hour(struct out *o)
{
	const struct jfs_attr dir = { .type = JFS_DIR, .mode = 0555, .atime = o->pp->ctx->now, .mtime = o->pp->ctx->now,
		.ctime = o->pp->ctx->now, .nlink = 2, .length = 4096, .parent = JFS_TRASH_INODE };
	struct pipe *pp = o->pp;
	uint8_t blob[JFS_ATTR_MAX], entry[JFS_DENTRY_LEN];
	char number[24];

	if (!pp->moving || !pp->hour_new)
		return;
	set(o, px_name(pp, RDS_NEXT_TRASH), number, (size_t)snprintf(number, sizeof(number), "%llu", (unsigned long long)pp->hour_number));
	set(o, px_key(pp, rds_key_inode, pp->hour_ino), blob, jfs_attr_encode(&dir, blob));
	jfs_dentry_encode(JFS_DIR, pp->hour_ino, entry);
	one(o, "HSET", px_key(pp, rds_key_dir, JFS_TRASH_INODE), pp->hour, strlen(pp->hour), entry, sizeof(entry));
	pp->space += 4096;
	pp->inodes_delta++;
	own(pp, blob, 4096, 1);
}

/* --- sums --- */

static void stat_set(struct out *o, uint64_t dir, int64_t length, int64_t space, int64_t inodes)
{
	static const char *const tables[] = { RDS_DIR_DATA_LENGTH, RDS_DIR_USED_SPACE, RDS_DIR_USED_INODES };
	const int64_t values[] = { length, space, inodes };

	for (int t = 0; t < 3; t++) {
		begin(o, "HSET", px_name(o->pp, tables[t]));
		cmd_int(o->pp, (int64_t)dir);
		cmd_int(o->pp, values[t]);
		end(o);
	}
}

static void write_stats(struct out *o)
{
	static const char *const tables[] = { RDS_DIR_DATA_LENGTH, RDS_DIR_USED_SPACE, RDS_DIR_USED_INODES };
	struct pipe *pp = o->pp;
	char field[RDS_KEY_MAX];

	for (size_t i = 0; i < pp->stats.n; i++) {
		const struct px_stat *s = &pp->stats.v[i];
		bool hour = pp->moving && s->dir == pp->hour_ino;

		if (s->had)
			stat_set(o, s->dir, s->old_length + s->length + (hour ? (int64_t)o->trash_length : 0),
				s->old_space + s->space + (hour ? (int64_t)o->trash_space : 0),
				s->old_inodes + s->inodes + (hour ? (int64_t)o->trash_entries : 0));
	}
	if (pp->moving && pp->hour_new)
		stat_set(o, pp->hour_ino, (int64_t)o->trash_length, (int64_t)o->trash_space, (int64_t)o->trash_entries);
	for (size_t i = 0; i < pp->p->dirstats.n; i++) {
		const struct pl_dirstat *d = &pp->p->dirstats.v[i];

		if (d->kind == PL_STAT_NEW)
			stat_set(o, d->ino, d->length, d->space, d->inodes);
		for (int t = 0; t < 3 && d->kind == PL_STAT_DROP; t++)
			one(o, "HDEL", px_name(pp, tables[t]), field, rds_decimal(field, d->ino), NULL, 0);
	}
}

static void write_quotas(struct out *o)
{
	static const char none[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
	struct pipe *pp = o->pp;
	char id[RDS_KEY_MAX];

	for (size_t i = 0; i < pp->quotas.n; i++) {
		for (int which = 1; which <= 2 && !pp->quotas.v[i].skip; which++) {
			begin(o, "HSET", px_name(pp, px_quota_hash(QUOTA_DIR, which)));
			cmd_copy(pp, id, rds_decimal(id, pp->p->quotas.v[i].dir));
			cmd_int(pp, which == 1 ? pp->quotas.v[i].space : pp->quotas.v[i].inodes);
			end(o);
		}
	}
	for (size_t i = 0; i < pp->owners.n; i++) {
		const struct px_owner *w = &pp->owners.v[i];
		size_t n = rds_decimal(id, w->id);

		one(o, "HSETNX", px_name(pp, px_quota_hash(w->kind, 0)), id, n, none, 16);
		for (int which = 1; which <= 2; which++) {
			begin(o, "HINCRBY", px_name(pp, px_quota_hash(w->kind, which)));
			cmd_copy(pp, id, n);
			cmd_int(pp, which == 1 ? w->space : w->inodes);
			end(o);
		}
	}
	for (size_t i = 0; i < pp->p->dirstats.n; i++)
		for (int which = 0; which < 3 && pp->p->dirstats.v[i].kind == PL_STAT_DROP; which++)
			one(o, "HDEL", px_name(pp, px_quota_hash(QUOTA_DIR, which)), id, rds_decimal(id, pp->p->dirstats.v[i].ino), NULL, 0);
}

static void write_refs(struct out *o)
{
	struct pipe *pp = o->pp;
	char *refs = px_name(pp, RDS_SLICE_REF), *dead = px_name(pp, RDS_PRIVATE_KEY ".dead"), *packs = px_name(pp, RDS_PRIVATE_KEY ".packs"), t[24];

	for (size_t i = 0; i < pp->p->refs.n; i++) {
		const struct pl_ref *r = &pp->p->refs.v[i];
		char f[RDS_KEY_MAX];

		if (r->fresh && r->delta > 0)
			one(o, "HSET", packs, f, rds_field_slice_ref(f, r->id, r->size), t,
				(size_t)snprintf(t, sizeof(t), "%lld", (long long)r->delta + 1));
	}

	for (size_t i = 0; i < pp->refs.n; i++) {
		const struct px_ref *r = &pp->refs.v[i];
		size_t n = strlen(r->field);
		int64_t now = (r->dead && r->delta > 0 ? -1 : r->count) + r->delta;

		if (r->delta == 0)
			continue;
		if (now < 0)
			one(o, "HSET", dead, r->field, n, t, (size_t)snprintf(t, sizeof(t), "%llu", (unsigned long long)pp->ctx->seq));
		if (now < 0)
			one(o, "HDEL", packs, r->field, n, NULL, 0);
		else if (r->dead)
			one(o, "HDEL", dead, r->field, n, NULL, 0);
		if (now > 0)
			one(o, "HSET", refs, r->field, n, t, (size_t)snprintf(t, sizeof(t), "%lld", (long long)now));
		else if (r->had)
			one(o, "HDEL", refs, r->field, n, NULL, 0);
	}
}

static void write_position(struct out *o)
{
	struct pipe *pp = o->pp;

	if (pp->space) {
		begin(o, "INCRBY", px_name(pp, RDS_USED_SPACE));
		cmd_int(pp, pp->space);
		end(o);
	}
	if (pp->inodes_delta) {
		begin(o, "INCRBY", px_name(pp, RDS_TOTAL_INODES));
		cmd_int(pp, pp->inodes_delta);
		end(o);
	}
	begin(o, "HSET", px_name(pp, RDS_PRIVATE_KEY));
	cmd_text(pp, "seq");
	cmd_int(pp, (int64_t)pp->ctx->seq);
	cmd_text(pp, "chain");
	cmd_text(pp, pp->ctx->chain);
	end(o);
}

/* --- the answer --- */

static void outcome(struct out *o)
{
	struct pipe *pp = o->pp;

	for (size_t i = 0; i < o->queued + 2 && !pp->err; i++) {
		struct redisReply *r = NULL;

		pp->err = rds_read(pp->c, &r, pp->e);
		if (!pp->err && i == o->queued + 1) {
			if (r->type != REDIS_REPLY_ARRAY || r->elements != o->queued)
				pp->err = errmsg_set(pp->e, -EPROTO, "unexpected answer to EXEC");
			for (size_t k = 0; !pp->err && k < r->elements; k++)
				if (r->element[k]->type == REDIS_REPLY_ERROR)
					pp->err = errmsg_set(pp->e, -EUCLEAN, "a command of a batch failed, the rest was applied: %.200s", r->element[k]->str);
		}
		rds_reply_free(r);
	}
}

void pipe_write(struct pipe *pp)
{
	struct out o = { .pp = pp };

	cmd_begin(pp, "MULTI", NULL);
	cmd_end(pp);
	for (size_t i = 0; i < pp->gone.n; i++)
		del(&o, pp->gone.v[i]);
	write_born(&o);
	write_hour(&o);
	for (size_t i = 0; i < pp->inodes.n; i++) {
		if (pp->inodes.v[i].pi->kind == PL_REMOVE)
			write_removed(&o, &pp->inodes.v[i]);
		else
			write_changed(&o, &pp->inodes.v[i]);
	}
	write_dentries(&o);
	write_lists(&o);
	write_stats(&o);
	write_quotas(&o);
	write_refs(&o);
	write_position(&o);
	cmd_begin(pp, "EXEC", NULL);
	cmd_end(pp);
	if (!pp->err)
		outcome(&o);
}
