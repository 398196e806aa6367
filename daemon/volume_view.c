/* A mount that only looks (--read-only): it takes no lease, no session and no id range, and shows what Redis has, beside
 * whoever writes. Its journal (DIR/view/{UUID}) has no log: every key in it was loaded, and may be dropped at any time.
 *
 * The keeper looks once a second. When anything moved that a writer moves (position and epoch of the lease, the counters of
 * ids, sessions, space and inodes), everything is dropped, and loaded again when somebody asks. What was seen is read before
 * dropping: a change in between is noticed at the next look. An answer that was on its way while things were dropped is shown,
 * and dropped by the next look. The kernel may keep names and attributes for a second, and
 * drops the pages of a file whose times changed. A crash leaves keys that the next mount drops. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/redis_loader.h"
#include "daemon/volume_int.h"
#include "journal/evict.h"
#include "redis/keys.h"
#include "util/buf.h"
#include "util/log.h"

static int add_answer(struct rds_conn *c, const char *command, struct buf *out, struct errmsg *e)
{
	struct redisReply *r = NULL;
	int rc = rds_cmd(c, &r, e, command);

	if (!rc && r->type != REDIS_REPLY_ARRAY)
		rc = errmsg_set(e, -EUCLEAN, "unexpected answer to %s", command);
	for (size_t i = 0; !rc && i < r->elements; i++) {
		const struct redisReply *v = r->element[i];

		if (v->type == REDIS_REPLY_STRING)
			buf_put(out, v->str, v->len);
		buf_put_u8(out, ' ');
	}
	rds_reply_free(r);
	return rc;
}

/* As text, to be compared. */
static int read_marks(struct rds_conn *c, char *out, size_t size, struct errmsg *e)
{
	struct buf b;

	buf_init(&b, size - 1);
	int rc = add_answer(c, "HMGET " RDS_PRIVATE_KEY " epoch seq chain", &b, e);

	if (!rc)
		rc = add_answer(c, "MGET " RDS_NEXT_SESSION " " RDS_NEXT_INODE " " RDS_NEXT_CHUNK " " RDS_USED_SPACE " " RDS_TOTAL_INODES,
			&b, e);
	if (!rc && b.err)
		rc = errmsg_set(e, -EUCLEAN, "a counter in Redis is not a number");
	if (!rc)
		snprintf(out, size, "%s", buf_cstr(&b));
	buf_fini(&b);
	return rc;
}

int volume_view_attach(struct volume *v, struct journal *j, struct errmsg *e)
{
	uint64_t dropped;
	int rc = read_marks(v->conn, v->seen, sizeof(v->seen), e);

	if (!rc && (rc = journal_drop_clean(j, 0, &dropped)) != 0)
		errmsg_set(e, rc, "the cache in %s cannot be read or written: %s", v->cache_dir, strerror(-rc));
	return rc ? rc : volume_init_counters(v, j, v->conn, e);
}

int volume_view_look(void *ctx, struct rds_conn *c, struct errmsg *e)
{
	struct volume *v = ctx;
	char now[sizeof(v->seen)];
	uint64_t dropped;
	int rc = read_marks(c, now, sizeof(now), e);

	if (rc || (strcmp(now, v->seen) == 0 && !redis_loader_late(v->loader)))
		return rc;
	rc = redis_loader_empty(v->loader, &dropped);
	if (rc)
		return errmsg_set(e, rc, "the cache in %s cannot be read or written: %s", v->cache_dir, strerror(-rc));
	memcpy(v->seen, now, sizeof(now));
	log_debug("what=\"the volume has moved on\" keys=%" PRIu64, dropped);
	return volume_init_counters(v, v->journal, c, e);
}
