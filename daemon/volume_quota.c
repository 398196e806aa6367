/* Quotas between Redis and the view (daemon/fs_quota.c): read at the mount and with every heartbeat. A directory's quota that
 * appeared while changes of ours were on their way is counted by a thread of its own: it loads what lies below, which may
 * take long, and the lease must be renewed meanwhile. Until it is done that quota refuses nothing; the next heartbeat finds
 * what was left over. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/redis_loader.h"
#include "daemon/volume_int.h"
#include "redis/quota.h"
#include "util/log.h"

enum { COUNT_MAX = 64 }; /* at a time */

struct counting {
	struct volume *v;
	size_t n;
	struct fs_quota quotas[COUNT_MAX];
};

static int count_one(struct volume *v, const struct fs_quota *q)
{
	struct loader l;
	int rc = 0;

	redis_loader_iface(v->loader, &l);
	do {
		struct fs_need need;

		rc = fs_quota_adopt(v->fs, q, &need);
		if (rc == FS_ROOM)
			rc = journal_wait_room(v->journal) ? -EIO : 1;
		else if (rc == FS_NEED)
			rc = l.load(l.ctx, &need) ? -EIO : 1;
	} while (rc > 0);
	return rc;
}

static void *count_main(void *arg)
{
	struct counting *c = arg;
	struct volume *v = c->v;

	for (size_t i = 0; i < c->n; i++) {
		int rc = count_one(v, &c->quotas[i]);

		if (rc)
			log_warn("what=\"the usage of a directory's new quota could not be counted; trying again\" inode=%" PRIu64 " err=%d",
				c->quotas[i].id, rc);
		else
			log_info("what=\"the usage of a directory's new quota was counted\" inode=%" PRIu64, c->quotas[i].id);
	}
	free(c);
	pthread_mutex_lock(&v->lock);
	v->counting = COUNTING_DONE;
	pthread_mutex_unlock(&v->lock);
	return NULL;
}

void volume_quota_stop(struct volume *v)
{
	pthread_mutex_lock(&v->lock);
	bool running = v->counting != COUNTING_NOT;
	pthread_mutex_unlock(&v->lock);
	if (running)
		pthread_join(v->counter, NULL);
	v->counting = COUNTING_NOT;
}

static void start_counting(struct volume *v, const struct fs_quota *list, const uint64_t *which, size_t n)
{
	pthread_mutex_lock(&v->lock);
	bool running = v->counting == COUNTING_ON || v->cancelled;
	pthread_mutex_unlock(&v->lock);
	struct counting *c = running ? NULL : calloc(1, sizeof(*c));

	if (!c)
		return;
	volume_quota_stop(v);
	c->v = v;
	c->n = n;
	for (size_t i = 0; i < n; i++)
		c->quotas[i] = list[which[i]];
	v->counting = COUNTING_ON;
	if (pthread_create(&v->counter, NULL, count_main, c)) {
		v->counting = COUNTING_NOT;
		free(c);
	}
}

int volume_quota_sync(struct volume *v, struct rds_conn *conn, bool starting, struct errmsg *e)
{
	uint64_t which[COUNT_MAX];
	size_t n, n_count = COUNT_MAX;
	struct rds_quota *list = NULL;
	struct fs_quota *q = NULL;
	struct rds_position pos;
	struct fs_config cfg;

	fs_get_config(v->fs, &cfg);
	int rc = rds_quota_read(conn, cfg.dir_quotas, cfg.owner_quotas, &list, &n, &pos, e);

	if (!rc && (q = calloc(n + 1, sizeof(*q))) == NULL)
		rc = errmsg_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; !rc && i < n; i++)
		q[i] = (struct fs_quota){.kind = list[i].kind, .id = list[i].id, .max_space = list[i].max_space,
			.max_inodes = list[i].max_inodes, .used_space = list[i].used_space, .used_inodes = list[i].used_inodes};
	if (!rc) {
		bool settled = starting && volume_backlog_exact(v, pos.seq) == 0;

		rc = fs_quota_sync(v->fs, pos.seq, settled, q, n, which, &n_count);
		if (rc)
			errmsg_set(e, rc, "cannot write to the journal: %s", journal_failure(v->journal));
	}
	if (!rc && n_count)
		start_counting(v, q, which, n_count);
	free(list);
	free(q);
	return rc;
}

int volume_quota_beat(void *ctx, struct rds_conn *conn, struct errmsg *e)
{
	struct volume *v = ctx;
	int rc = volume_quota_sync(v, conn, false, e);

	if (rc == -EUCLEAN && log_ratelimit(&v->quota_log, 600000))
		log_error("what=\"quotas are not reloaded\" detail=\"%s\"", e->text);
	return rc == -EUCLEAN || rc == -EROFS ? 0 : rc;
}
