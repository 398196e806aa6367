#include "daemon/verbs.h"

#include <errno.h>
#include <string.h>

#include "daemon/req.h"
#include "daemon/virt.h"
#include "util/buf.h"
#include "util/log.h"

enum { CLONE_PRESERVE = 2 };

/* Source, its parent, the clone's parent, name, umask, mode, threads. Inodes as the kernel sees them. */
int verb_parse_clone(const void *payload, size_t len, struct tree_clone *c)
{
	const uint8_t *name;
	struct rd r;
	size_t n;

	memset(c, 0, sizeof(*c));
	rd_init(&r, payload, len);
	c->source = rd_be64(&r);
	(void)rd_be64(&r); /* the source's parent: what is copied is the inode */
	c->parent = rd_be64(&r);
	n = rd_u8(&r);
	name = rd_bytes(&r, n);
	c->umask = rd_be16(&r);
	c->preserve = rd_u8(&r) & CLONE_PRESERVE;
	if (rd_left(&r) == 1) /* older tools do not name the number of threads */
		(void)rd_u8(&r);
	if (r.err || rd_left(&r) || !n || memchr(name, '/', n) || memchr(name, 0, n) || c->umask > 0777)
		return -EINVAL;
	memcpy(c->name, name, n);
	c->name_len = n;
	return 0;
}

static bool mount_ends(void *ctx)
{
	struct session *s = ctx;

	return virt_is_stopping(s->virt);
}

static struct tree_env env_of(struct session *s)
{
	return (struct tree_env){ .fs = s->fs, .loader = s->loader, .stopped = mount_ends, .ctx = s };
}

/* Everything up to now is where the mount's mode wants it. An unmount ends the wait. */
static int settle(struct session *s, bool in_redis)
{
	if (in_redis && s->cfg.barrier)
		return s->cfg.barrier(s->cfg.ctx);
	return journal_wait(s->journal, WM_DURABLE, journal_mark(s->journal, WM_COMMITTED));
}

static int run_clone(struct session *s, const struct tree_caller *who, const void *payload, size_t len)
{
	struct tree_env env = env_of(s);
	struct tree_clone c;
	uint64_t seq = 0;
	int rc = verb_parse_clone(payload, len, &c);

	if (rc)
		return rc;
	c.who = *who;
	c.source = ino_in(s, c.source);
	c.parent = ino_in(s, c.parent);
	rc = tree_clone(&env, &c, &seq);
	/* The kernel may have kept that there is no such name, and the directory's times. */
	session_entry_changed(s, c.parent, c.name, c.name_len);
	return rc || !(s->cfg.meta_waits || s->cfg.strict) ? rc : settle(s, s->cfg.meta_waits);
}

static int run_compact(struct session *s, const struct tree_caller *who, const void *payload, size_t len)
{
	struct tree_env env = env_of(s);
	uint64_t seq = 0;
	struct rd r;
	uint64_t ino;
	int rc;

	rd_init(&r, payload, len);
	ino = rd_be64(&r);
	if (r.err)
		return -EINVAL;
	rc = tree_compact(&env, who, ino_in(s, ino), &seq);
	return rc || !seq ? rc : settle(s, true);
}

int verb_run(struct session *s, const struct tree_caller *who, uint32_t verb, const void *payload, size_t len)
{
	int rc = -EINVAL;

	if (verb == VERB_FLUSH)
		rc = settle(s, true);
	else if (verb == VERB_CLONE)
		rc = run_clone(s, who, payload, len);
	else if (verb == VERB_COMPACT)
		rc = run_compact(s, who, payload, len);
	if (rc && verb != VERB_FLUSH)
		log_info("what=\"a command of .control failed\" command=%u uid=%u err=\"%s\"", verb, who->uid, strerror(-rc));
	return rc;
}
