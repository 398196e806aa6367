/* The ACL rules that the journal knows are put back on every new connection, before the first window: a Redis that fell back
 * (P8) may have forgotten some that the windows to come name. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "redis/acl.h"
#include "redis/replayer_int.h"

struct rules {
	struct rds_acl *v;
	size_t n, size;
};

static int rule_add(struct rules *l, const char *number, const void *rule, size_t len)
{
	if (l->n == l->size) {
		size_t size = l->size ? l->size * 2 : 16;
		struct rds_acl *p = realloc(l->v, size * sizeof(*p));

		if (!p)
			return -ENOMEM;
		l->v = p;
		l->size = size;
	}
	uint8_t *copy = malloc(len + 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, rule, len);
	l->v[l->n++] = (struct rds_acl){.id = (uint32_t)strtoul(number, NULL, 10), .len = len, .rule = copy};
	return 0;
}

static int rules_read(struct journal *j, struct rules *l)
{
	const uint8_t *key, *val;
	struct view_iter *it;
	size_t klen, vlen;
	struct jkey k;
	int rc = -EIO;

	key_meta(&k, ACL_META);
	journal_lock(j);
	it = view_seek(j, &k, k.len);
	while (it && (rc = view_step(it, &key, &klen, &val, &vlen)) == 1) {
		char number[16] = "";

		memcpy(number, key + k.len, klen - k.len < 15 ? klen - k.len : 15);
		rc = rule_add(l, number, val, vlen);
		if (rc)
			break;
	}
	if (it)
		view_end(it);
	journal_unlock(j);
	return rc;
}

int replayer_acl_restore(struct replayer *r, struct errmsg *e)
{
	struct rules l = {0};
	int rc = rules_read(r->j, &l);

	if (rc)
		errmsg_set(e, rc, "the ACL rules in the journal cannot be read");
	else if (l.n)
		rc = rds_acl_restore(r->conn, replayer_epoch(r), l.v, l.n, e);
	for (size_t i = 0; i < l.n; i++)
		free((void *)(uintptr_t)l.v[i].rule);
	free(l.v);
	return rc;
}
