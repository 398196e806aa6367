/* See trash_list.h. Two names with the same 63-bit hash share a cookie: a reader whose buffer ends between them would miss
 * the second one. It takes billions of entries to meet that. */
#include "daemon/trash_list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "journal/tables.h"

static int entry_compare(const void *a, const void *b)
{
	const struct trash_entry *x = a, *y = b;
	size_t n = x->e->name.n < y->e->name.n ? x->e->name.n : y->e->name.n;
	int c;

	if (x->cookie != y->cookie)
		return x->cookie < y->cookie ? -1 : 1;
	c = memcmp(x->e->name.p, y->e->name.p, n);
	return c ? c : (x->e->name.n > y->e->name.n) - (x->e->name.n < y->e->name.n);
}

int trash_list_init(struct trash_list *l, const struct rds_loaded *dir)
{
	size_t n = 0;

	l->n = 0;
	l->v = calloc(dir->n + 1, sizeof(*l->v));
	if (!l->v)
		return -ENOMEM;
	for (size_t i = 0; i < dir->n; i++)
		l->v[i] = (struct trash_entry){ dentry_hash(dir->entries[i].name.p, dir->entries[i].name.n), &dir->entries[i] };
	qsort(l->v, dir->n, sizeof(*l->v), entry_compare);
	for (size_t i = 0; i < dir->n; i++)
		if (n == 0 || entry_compare(&l->v[n - 1], &l->v[i]) != 0)
			l->v[n++] = l->v[i];
	l->n = n;
	return 0;
}

void trash_list_fini(struct trash_list *l)
{
	free(l->v);
	*l = (struct trash_list){ 0 };
}

size_t trash_list_after(const struct trash_list *l, uint64_t cookie)
{
	size_t from = 0, to = l->n;

	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (l->v[mid].cookie <= cookie)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}
