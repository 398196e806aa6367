/* Everything in daemon/ that knows the replayer. (Position only, for now.) */
#include <errno.h>
#include <string.h>

#include "daemon/volume_int.h"

#define META_APPLIED "applied"

int volume_read_position(struct volume *v, struct journal *j, bool *own_history)
{
	const void *val;
	struct jkey k;
	size_t len;

	(void)v;
	key_meta(&k, META_APPLIED);
	journal_lock(j);
	int rc = view_get(j, &k, &val, &len);
	journal_unlock(j);
	*own_history = rc == 0;
	return rc == -ENOENT ? 0 : rc;
}

int volume_set_position(struct volume *v, struct journal *j, const struct rds_position *pos)
{
	uint8_t val[16 + RDS_CHAIN_LEN];

	(void)v;
	put_be64(val, pos->epoch);
	put_be64(val + 8, pos->seq);
	memcpy(val + 16, pos->chain, RDS_CHAIN_LEN);
	return volume_meta_put(j, META_APPLIED, val, sizeof(val));
}

struct sums {
	int64_t space, inodes;
};

static int sum_record(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct sums *s = arg;
	struct rec_header h;
	struct rec_reader it;
	struct rec_item item;
	int rc = rec_open(rec, len, &h, &it);

	(void)seq;
	while (!rc && (rc = rec_next(&it, &item)) == 1) {
		rc = 0;
		if (item.kind == IT_SPACE && item.vlen == 16) {
			s->space += (int64_t)get_be64(item.val);
			s->inodes += (int64_t)get_be64(item.val + 8);
		}
	}
	return rc;
}

int volume_sum_deltas(struct journal *j, uint64_t from, int64_t *space, int64_t *inodes)
{
	struct sums s = {0};
	int rc = journal_wait(j, WM_DURABLE, journal_mark(j, WM_COMMITTED));

	if (!rc)
		rc = journal_log_scan(j, from, journal_mark(j, WM_DURABLE), sum_record, &s);
	*space = s.space;
	*inodes = s.inodes;
	return rc;
}

uint64_t volume_backlog(struct volume *v)
{
	uint64_t applied = journal_mark(v->journal, WM_APPLIED), committed = journal_mark(v->journal, WM_COMMITTED);

	return committed > applied ? committed - applied : 0;
}

int volume_replay_start(struct volume *v, struct errmsg *e)
{
	(void)v;
	(void)e;
	return 0;
}

void volume_replay_stop(struct volume *v)
{
	(void)v;
}

void volume_replay_position(void *ctx, const struct rds_position *pos)
{
	(void)ctx;
	(void)pos;
}

void volume_replay_setting(struct volume *v, const struct rds_setting *s)
{
	(void)v;
	(void)s;
}

void volume_replay_figures(struct volume *v, struct volume_figures *out)
{
	(void)v;
	(void)out;
}
