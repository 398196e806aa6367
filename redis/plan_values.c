/* What the script and the pipeline put into Redis in the same words: values that follow from a plan and the moment it is sent. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "redis/script.h"

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
