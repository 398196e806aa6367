/* Deciding what becomes of each inode and name of the window.
 *
 * Fates.  CI_DROP: Redis never hears of it (born and nameless within the window, or a private or sustained orphan).
 * CI_NEW: born and named. CI_KEEP: known to Redis and still there, or in the trash. CI_SUSTAIN: lost its last name while
 * open. CI_REMOVE: gone for good. A directory that is new and kept has statistics of its own from zero. */
#include "redis/coalesce.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "redis/coalesce_int.h"

void plan_free(struct window_plan *p)
{
	if (!p)
		return;
	vec_fini(&p->inodes);
	vec_fini(&p->dentries);
	vec_fini(&p->lists);
	vec_fini(&p->refs);
	vec_fini(&p->parents);
	vec_fini(&p->dirstats);
	vec_fini(&p->quotas);
	vec_fini(&p->xattrs);
	vec_fini(&p->symlinks);
	vec_fini(&p->slices);
	vec_fini(&p->orphans);
	vec_fini(&p->posts);
	vec_fini(&p->missing);
	arena_fini(&p->mem);
	free(p);
}

static bool value_same(const struct co_dentry *d)
{
	return memcmp(d->before, d->after, 9) == 0;
}

/* Counts names lost and gained by each inode. Inodes that only lost or gained a name are touched as well. */
static int names_count(struct build *b)
{
	struct coalesce *co = b->co;

	for (size_t i = 0; i < co->inodes.n; i++) {
		struct co_inode *ci = &co->inodes.v[i];

		ci->lost = ci->gained = ci->moves = 0;
		ci->type = ci->has_image ? ci->image.type : 0;
		ci->orphan = b->in->orphan ? b->in->orphan(b->in->arg, ci->ino) : CO_LIVE;
		ci->nameless = ci->deleted || ci->gone || ci->sustain || (ci->has_image && ci->image.nlink == 0);
	}
	for (size_t i = 0; i < co->dentries.n; i++) {
		struct co_dentry *d = &co->dentries.v[i];
		struct co_inode *ci;

		d->lost_used = false;
		if (value_ino(d->before) == value_ino(d->after))
			continue;
		ci = value_absent(d->before) ? NULL : co_inode_get(co, value_ino(d->before));
		if (ci) {
			ci->lost++;
			ci->type = d->before[0];
		}
		ci = value_absent(d->after) ? NULL : co_inode_get(co, value_ino(d->after));
		if (ci)
			ci->gained++;
	}
	/* An inode that is born here has exactly the names it gained, whatever its count says. */
	for (size_t i = 0; i < co->inodes.n; i++)
		if (co->inodes.v[i].born)
			co->inodes.v[i].nameless = !co->inodes.v[i].gained;
	return 0;
}

static struct co_dentry *dentry_get(struct coalesce *co, const struct pl_trash *t)
{
	struct jkey k;
	uint32_t i;

	key_dentry(&k, t->parent, t->name, t->name_len);
	return hmap_get(&co->by_name, k.b, k.len, &i) ? &co->dentries.v[i] : NULL;
}

/* Which IT_TRASH items are moves to trash: those that took away a name that Redis has, under that name or, after renames
 * within the window, under another. What is left over was born and removed within the window. */
static int trash_choose(struct build *b, struct co_inode *ci)
{
	uint32_t direct = 0, spare;

	if (!ci->trash.n || ci->born || !ci->lost)
		return 0;
	ci->trash_pick = arena_alloc(&b->p->mem, ci->trash.n * sizeof(uint32_t));
	if (!ci->trash_pick)
		return -ENOMEM;
	for (size_t i = ci->trash.n; i-- > 0;) {
		struct co_dentry *d = dentry_get(b->co, &ci->trash.v[i].t);

		if (d && !d->lost_used && value_ino(d->before) == ci->ino && value_ino(d->after) != ci->ino) {
			d->lost_used = true;
			ci->trash_pick[direct++] = (uint32_t)i;
		}
	}
	ci->moves = direct;
	spare = ci->lost - direct > ci->gained ? ci->lost - direct - ci->gained : 0;
	for (size_t i = ci->trash.n; spare && i-- > 0;) {
		struct co_dentry *d = dentry_get(b->co, &ci->trash.v[i].t);

		if (d && value_ino(d->before) == ci->ino)
			continue; /* taken above, or came back */
		ci->trash_pick[ci->moves++] = (uint32_t)i;
		spare--;
	}
	return 0;
}

static void fate_choose(struct co_inode *ci)
{
	if (ci->orphan != CO_LIVE)
		ci->fate = ci->orphan == CO_SUSTAINED && (ci->gone || ci->deleted) ? CI_REMOVE : CI_DROP;
	else if (ci->born)
		ci->fate = ci->nameless ? CI_DROP : CI_NEW;
	else if (!ci->nameless || ci->moves)
		ci->fate = CI_KEEP;
	else if (!ci->lost && !ci->gone) /* in the trash since an earlier window, and perhaps still open */
		ci->fate = ci->deleted ? CI_DROP : CI_KEEP;
	else
		ci->fate = ci->gone || ci->deleted || ci->type != JFS_FILE ? CI_REMOVE : CI_SUSTAIN;
}

static int orphan_note(struct build *b, const struct co_inode *ci)
{
	bool over = ci->gone || ci->deleted;
	enum co_orphan next = ci->orphan;
	struct pl_orphan *o;

	if (over)
		next = CO_LIVE;
	else if (ci->fate == CI_SUSTAIN)
		next = CO_SUSTAINED;
	else if ((ci->fate == CI_DROP && ci->born) || ci->fate == CI_REMOVE)
		next = CO_PRIVATE;
	if (next == ci->orphan)
		return 0;
	o = vec_push(&b->p->orphans);
	if (!o)
		return -ENOMEM;
	*o = (struct pl_orphan){ ci->ino, next };
	return 0;
}

static int trash_fill(struct build *b, const struct co_inode *ci, struct pl_inode *pi)
{
	if (!ci->moves)
		return 0;
	pi->trash = arena_alloc(&b->p->mem, ci->moves * sizeof(*pi->trash));
	if (!pi->trash)
		return -ENOMEM;
	for (uint32_t i = 0; i < ci->moves; i++) {
		const struct co_trash *t = &ci->trash.v[ci->trash_pick[i]];

		pi->trash[pi->n_trash] = t->t;
		pi->trash[pi->n_trash].name = arena_copy(&b->p->mem, t->t.name, t->t.name_len);
		if (!pi->trash[pi->n_trash++].name)
			return -ENOMEM;
	}
	return 0;
}

static int inode_fill(struct build *b, struct co_inode *ci)
{
	static const enum pl_inode_kind kinds[] = { [CI_NEW] = PL_NEW, [CI_KEEP] = PL_UPDATE, [CI_SUSTAIN] = PL_SUSTAIN,
		[CI_REMOVE] = PL_REMOVE };
	struct pl_inode *pi;
	bool dir = ci->type == JFS_DIR;

	/* Touched by statistics, xattrs or a link count only: the record itself stays as it is. */
	if (ci->fate == CI_KEEP && !ci->has_image && !ci->moves && ci->lost == ci->gained && ci->cut == UINT64_MAX)
		return 0;
	pi = vec_push(&b->p->inodes);
	if (!pi)
		return -ENOMEM;
	pi->ino = ci->ino;
	pi->kind = kinds[ci->fate];
	pi->type = ci->type;
	pi->named = ci->gained > 0;
	pi->nlink_delta = ci->fate == CI_NEW ? 0 : (int32_t)ci->gained - (int32_t)ci->lost + (int32_t)ci->moves;
	pi->ctime = ci->has_image ? ci->image.ctime : (int64_t)(ci->time_ns / 1000000000u);
	pi->ctime_nsec = ci->has_image ? ci->image.ctime_nsec : (uint32_t)(ci->time_ns % 1000000000u);
	pi->cut_chunks = CHUNK_NONE;
	if (ci->fate == CI_NEW || ci->fate == CI_KEEP) {
		pi->has_attr = ci->has_image;
		pi->attr = ci->image;
		pi->nlink_abs = ci->fate == CI_NEW || dir;
		if (dir && (ci->moves || pi->attr.nlink < 2))
			pi->attr.nlink = 2; /* empty, whatever Redis's record says: its subdirectories may go in this window, too */
	}
	if (ci->fate == CI_KEEP && ci->cut != UINT64_MAX)
		pi->cut_chunks = (uint32_t)((ci->cut + JFS_CHUNK_SIZE - 1) >> JFS_CHUNK_BITS);
	b->p->commands += 2 + ci->moves;
	return ci->fate == CI_KEEP ? trash_fill(b, ci, pi) : 0;
}

static int stat_fill(struct build *b, const struct co_inode *ci)
{
	bool dir_gone = ci->type == JFS_DIR && (ci->fate == CI_REMOVE || ci->moves);
	struct pl_dirstat *st;

	if (!dir_gone && ci->fate != CI_KEEP && !(ci->fate == CI_NEW && ci->image.type == JFS_DIR))
		return 0;
	if (!dir_gone && ci->fate == CI_KEEP && !ci->st_length && !ci->st_space && !ci->st_inodes)
		return 0;
	st = vec_push(&b->p->dirstats);
	if (!st)
		return -ENOMEM;
	*st = (struct pl_dirstat){ ci->ino, dir_gone ? PL_STAT_DROP : ci->fate == CI_NEW ? PL_STAT_NEW : PL_STAT_ADD,
		ci->st_length, ci->st_space, ci->st_inodes };
	b->p->commands += 3;
	return 0;
}

static int linkstat_fill(struct build *b, const struct co_inode *ci)
{
	struct pl_dirstat *st;

	if (ci->fate == CI_NEW || ci->fate == CI_DROP || (!ci->ln_length && !ci->ln_space))
		return 0;
	st = vec_push(&b->p->dirstats);
	if (!st)
		return -ENOMEM;
	*st = (struct pl_dirstat){ ci->ino, PL_STAT_LINKED, ci->ln_length, ci->ln_space, 0 };
	return 0;
}

static int parents_fill(struct build *b, const struct co_inode *ci)
{
	if ((ci->fate != CI_NEW && ci->fate != CI_KEEP) || (ci->has_image && ci->image.parent != 0))
		return 0;
	for (size_t i = 0; i < ci->parents.n; i++) {
		struct pl_parent *p;

		if (!ci->parents.v[i].delta)
			continue;
		p = vec_push(&b->p->parents);
		if (!p)
			return -ENOMEM;
		*p = (struct pl_parent){ ci->ino, ci->parents.v[i].parent, ci->parents.v[i].delta };
		b->p->commands++;
	}
	return 0;
}

static int attrs_fill(struct build *b, const struct co_inode *ci)
{
	if (ci->fate != CI_NEW && ci->fate != CI_KEEP)
		return 0;
	for (size_t i = 0; i < ci->xattrs.n; i++) {
		const struct co_xattr *x = &ci->xattrs.v[i];
		struct pl_xattr *px;

		if (ci->fate == CI_NEW && !x->value)
			continue;
		px = vec_push(&b->p->xattrs);
		if (!px)
			return -ENOMEM;
		*px = (struct pl_xattr){ ci->ino, ci->fate == CI_NEW, NULL, NULL, x->name_len, x->value_len };
		px->name = arena_copy(&b->p->mem, x->name, x->name_len);
		px->value = x->value ? arena_copy(&b->p->mem, x->value, x->value_len) : NULL;
		if (!px->name || (x->value && !px->value))
			return -ENOMEM;
		b->p->commands++;
	}
	if (ci->target) {
		struct pl_symlink *sl = vec_push(&b->p->symlinks);

		if (!sl)
			return -ENOMEM;
		*sl = (struct pl_symlink){ ci->ino, arena_copy(&b->p->mem, ci->target, ci->target_len), ci->target_len };
		if (!sl->target)
			return -ENOMEM;
	}
	return 0;
}

static int dentries_fill(struct build *b)
{
	for (size_t i = 0; i < b->co->dentries.n; i++) {
		const struct co_dentry *d = &b->co->dentries.v[i];
		const struct co_inode *dir = co_inode_get(b->co, d->parent);
		struct pl_dentry *pd;

		if (value_same(d) || (dir && dir->born && dir->fate == CI_DROP))
			continue;
		pd = vec_push(&b->p->dentries);
		if (!pd)
			return -ENOMEM;
		pd->parent = d->parent;
		pd->name = arena_copy(&b->p->mem, d->name, d->name_len);
		if (!pd->name)
			return -ENOMEM;
		pd->name_len = d->name_len;
		pd->new_dir = dir && dir->born;
		pd->has_expect = d->has_expect;
		memcpy(pd->expect, d->before, 9);
		memcpy(pd->value, d->after, 9);
		b->p->commands++;
	}
	return 0;
}

static int quota_fill(struct build *b, const struct co_inode *ci)
{
	struct pl_quota *q;

	if (!ci->q_whole && !ci->q_space && !ci->q_inodes)
		return 0;
	q = vec_push(&b->p->quotas);
	if (!q)
		return -ENOMEM;
	*q = (struct pl_quota){ ci->ino, ci->q_whole, ci->q_space, ci->q_inodes };
	b->p->commands += 2;
	return 0;
}

static int by_ino(const void *a, const void *b)
{
	const struct co_inode *x = *(struct co_inode *const *)a, *y = *(struct co_inode *const *)b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static int by_name(const void *a, const void *b)
{
	const struct pl_dentry *x = a, *y = b;
	uint32_t n = x->name_len < y->name_len ? x->name_len : y->name_len;
	int c;

	if (x->parent != y->parent)
		return x->parent < y->parent ? -1 : 1;
	c = memcmp(x->name, y->name, n);
	return c ? c : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

static int post_cut(struct build *b, uint64_t ino, uint32_t chunk)
{
	struct pl_post *post = vec_push(&b->p->posts);

	if (!post)
		return -ENOMEM;
	*post = (struct pl_post){ .ino = ino, .chunk = chunk, .onward = true };
	return 0;
}

static int inode_plan(struct build *b, struct co_inode *ci)
{
	int err = orphan_note(b, ci);

	if (!err && ci->fate != CI_DROP)
		err = inode_fill(b, ci);
	if (!err && ci->fate == CI_REMOVE)
		err = post_cut(b, ci->ino, 0);
	if (!err && ci->fate == CI_KEEP && ci->cut != UINT64_MAX)
		err = post_cut(b, ci->ino, (uint32_t)((ci->cut + JFS_CHUNK_SIZE - 1) >> JFS_CHUNK_BITS));
	if (!err)
		err = stat_fill(b, ci);
	if (!err)
		err = linkstat_fill(b, ci);
	if (!err)
		err = quota_fill(b, ci);
	if (!err)
		err = parents_fill(b, ci);
	if (!err)
		err = attrs_fill(b, ci);
	if (!err && (ci->fate == CI_NEW || ci->fate == CI_KEEP))
		err = build_lists(b, ci);
	return err;
}

/* A fresh slice's first record counts nothing; one without any record says nothing to Redis. */
static void refs_settle(struct window_plan *p)
{
	size_t out = 0;

	for (size_t i = 0; i < p->refs.n; i++) {
		struct pl_ref r = p->refs.v[i];

		if (r.fresh && r.delta)
			r.delta--;
		if (r.delta != 0)
			p->refs.v[out++] = r;
	}
	p->refs.n = out;
	p->commands += out;
}

static int plan_make(struct build *b)
{
	struct coalesce *co = b->co;
	struct co_inode **order = calloc(co->inodes.n + 1, sizeof(struct co_inode *));
	int err = order ? names_count(b) : -ENOMEM;

	if (!err)
		err = build_recorded(b);
	for (size_t i = 0; !err && i < co->inodes.n; i++) {
		order[i] = &co->inodes.v[i];
		err = trash_choose(b, order[i]);
		if (!err)
			fate_choose(order[i]);
	}
	for (size_t i = 0; !err && i < co->inodes.n; i++)
		err = build_missing(b, order[i]);
	if (!err && b->p->missing.n)
		err = -EAGAIN;
	if (!err && co->inodes.n)
		qsort(order, co->inodes.n, sizeof(*order), by_ino);
	for (size_t i = 0; !err && i < co->inodes.n; i++)
		err = inode_plan(b, order[i]);
	if (!err)
		err = pack_settle(b);
	if (!err)
		err = dentries_fill(b);
	if (!err && b->p->dentries.n)
		qsort(b->p->dentries.v, b->p->dentries.n, sizeof(*b->p->dentries.v), by_name);
	if (!err)
		refs_settle(b->p);
	free(order);
	return err;
}

int coalesce_plan(struct coalesce *co, const struct coalesce_in *in, uint64_t from, uint64_t end, struct window_plan **out)
{
	struct build b = { .co = co, .in = in, .p = calloc(1, sizeof(struct window_plan)) };
	int err;

	*out = NULL;
	if (!b.p)
		return -ENOMEM;
	b.p->from = from;
	b.p->end = end;
	err = plan_make(&b);
	hmap_fini(&b.refs);
	recorded_fini(&b);
	vec_fini(&b.fresh);
	pack_fini(&b);
	if (err && err != -EAGAIN) {
		plan_free(b.p);
		return err;
	}
	*out = b.p;
	return err || b.p->missing.n || b.no_ids ? -EAGAIN : 0;
}
