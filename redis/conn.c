/* Invariant: c->ctx is NULL or a healthy context; the first error of the connection frees it. c->pending counts answers
 * owed by the server, so that an answer can never be taken for that of another command. */
#include "redis/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "redis/keys.h"
#include "util/fault.h"

struct rds_conn {
	struct rds_url url;
	redisContext *ctx;
	size_t pending;
	char name[300];
};

static struct timeval timeval_of(uint64_t ns)
{
	return (struct timeval){.tv_sec = (time_t)(ns / 1000000000u), .tv_usec = (suseconds_t)(ns % 1000000000u / 1000)};
}

void rds_reply_free(struct redisReply *r)
{
	if (r)
		freeReplyObject(r);
}

bool rds_err_is_fatal(int err)
{
	switch (-err) {
	case 0:
	case EACCES:
	case EAGAIN:
	case ENOSPC:
	case EROFS:
	case EBUSY:
	case EIO:
	case ENOEXEC:
	case EUCLEAN:
	case ENOTSUP:
	case EREMOTEIO:
	case EINPROGRESS:
	case EINVAL:
		return false;
	}
	return true;
}

int rds_reply_error(const struct redisReply *r)
{
	static const struct {
		const char *word;
		int err;
	} words[] = {
		{"NOAUTH", EACCES},	  {"WRONGPASS", EACCES}, {"NOPERM", EACCES},	{"LOADING", EAGAIN},
		{"MASTERDOWN", EAGAIN},	  {"TRYAGAIN", EAGAIN},	 {"OOM", ENOSPC},	{"READONLY", EROFS},
		{"BUSY", EBUSY},	  {"MISCONF", EIO},	 {"NOREPLICAS", EAGAIN}, {"NOSCRIPT", ENOEXEC},
		{"WRONGTYPE", EUCLEAN},	  {"MOVED", ENOTSUP},	 {"ASK", ENOTSUP},	{"CROSSSLOT", ENOTSUP},
		{"CLUSTERDOWN", ENOTSUP},
	};

	if (!r || r->type != REDIS_REPLY_ERROR)
		return 0;
	size_t n = strcspn(r->str, " :");
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strlen(words[i].word) == n && memcmp(words[i].word, r->str, n) == 0)
			return -words[i].err;
	/* older servers have no word for these */
	if (strstr(r->str, "invalid password") || strstr(r->str, "invalid username"))
		return -EACCES;
	if (strncmp(r->str, "ERR unknown command", 19) == 0)
		return -ENOTSUP;
	return -EREMOTEIO;
}

/* The text for an error answer, with what to do about it. */
static int reply_message(const struct rds_conn *c, const struct redisReply *r, struct errmsg *e)
{
	int err = rds_reply_error(r);
	const char *remedy = "";

	if (err == -EACCES)
		remedy = "; give the right password in META-URL, REDIS_PASSWORD or META_PASSWORD";
	else if (err == -EAGAIN)
		remedy = "; try again when it is ready";
	else if (err == -ENOSPC)
		remedy = "; raise its maxmemory";
	else if (err == -EROFS)
		remedy = "; give the address of the master";
	return errmsg_set(e, err, "Redis at %s answers: %.*s%s", c->name, 300, r->str, remedy);
}

/* Frees the broken context; its error becomes the result. */
static int conn_broken(struct rds_conn *c, int saved_errno, struct errmsg *e)
{
	int kind = c->ctx ? c->ctx->err : 0;

	rds_disconnect(c);
	switch (kind) {
	case REDIS_ERR_EOF:
		return errmsg_set(e, -ECONNRESET, "Redis at %s closed the connection", c->name);
	case REDIS_ERR_PROTOCOL:
		return errmsg_set(e, -EPROTO, "%s does not speak the Redis protocol: check host and port of META-URL", c->name);
	case REDIS_ERR_IO:
		if (saved_errno == EAGAIN || saved_errno == EWOULDBLOCK || saved_errno == ETIMEDOUT)
			return errmsg_set(e, -ETIMEDOUT, "Redis at %s does not answer in time", c->name);
		return errmsg_set(e, saved_errno == EPIPE ? -ECONNRESET : saved_errno ? -saved_errno : -ECONNRESET,
			"connection to Redis at %s lost: %s", c->name, strerror(saved_errno ? saved_errno : ECONNRESET));
	default:
		return errmsg_set(e, -ENOMEM, "no memory for talking to Redis at %s", c->name);
	}
}

static int conn_missing(const struct rds_conn *c, struct errmsg *e)
{
	return errmsg_set(e, -ENOTCONN, "not connected to Redis at %s", c->name);
}

void rds_disconnect(struct rds_conn *c)
{
	if (c->ctx)
		redisFree(c->ctx);
	c->ctx = NULL;
	c->pending = 0;
}

bool rds_conn_ok(const struct rds_conn *c)
{
	return c->ctx != NULL;
}

const char *rds_conn_name(const struct rds_conn *c)
{
	return c->name;
}

int rds_conn_fd(const struct rds_conn *c)
{
	return c->ctx ? c->ctx->fd : -1;
}

size_t rds_conn_pending(const struct rds_conn *c)
{
	return c->pending;
}

/* ---- commands ---- */

static int append_done(struct rds_conn *c, int rc)
{
	if (rc != REDIS_OK)
		return -ENOMEM;
	c->pending++;
	return 0;
}

int rds_append_argv(struct rds_conn *c, int argc, const char **argv, const size_t *lens)
{
	if (!c->ctx)
		return -ENOTCONN;
	return append_done(c, redisAppendCommandArgv(c->ctx, argc, argv, lens));
}

int rds_append(struct rds_conn *c, const char *fmt, ...)
{
	va_list ap;

	if (!c->ctx)
		return -ENOTCONN;
	va_start(ap, fmt);
	int rc = redisvAppendCommand(c->ctx, fmt, ap);
	va_end(ap);
	return append_done(c, rc);
}

int rds_flush(struct rds_conn *c, struct errmsg *e)
{
	int done = 0;

	if (!c->ctx)
		return conn_missing(c, e);
	while (!done) {
		errno = 0;
		if (redisBufferWrite(c->ctx, &done) != REDIS_OK)
			return conn_broken(c, errno, e);
	}
	return 0;
}

/* Hands out an answer, or its error. */
static int reply_take(struct rds_conn *c, struct redisReply *r, struct redisReply **out, struct errmsg *e)
{
	int err = rds_reply_error(r);

	c->pending--;
	if (err)
		reply_message(c, r, e);
	if (out)
		*out = r;
	else
		rds_reply_free(r);
	return err;
}

int rds_read(struct rds_conn *c, struct redisReply **out, struct errmsg *e)
{
	void *r = NULL;

	if (out)
		*out = NULL;
	if (!c->ctx)
		return conn_missing(c, e);
	if (c->pending == 0)
		return errmsg_set(e, -EINVAL, "no answer of Redis is pending");
	if (FAULT_ERR("redis.conn.before_read")) {
		rds_disconnect(c);
		return errmsg_set(e, -ECONNRESET, "Redis at %s closed the connection", c->name);
	}
	errno = 0;
	if (redisGetReply(c->ctx, &r) != REDIS_OK)
		return conn_broken(c, errno, e);
	return reply_take(c, r, out, e);
}

int rds_read_ready(struct rds_conn *c, struct redisReply **out, struct errmsg *e)
{
	void *r = NULL;

	if (out)
		*out = NULL;
	if (!c->ctx)
		return conn_missing(c, e);
	if (c->pending == 0)
		return errmsg_set(e, -EINVAL, "no answer of Redis is pending");
	for (;;) {
		if (redisGetReplyFromReader(c->ctx, &r) != REDIS_OK)
			return conn_broken(c, errno, e);
		if (r)
			return reply_take(c, r, out, e);
		struct pollfd p = {.fd = c->ctx->fd, .events = POLLIN};
		int n = poll(&p, 1, 0);
		if (n == 0 || (n < 0 && errno == EINTR))
			return -EINPROGRESS;
		errno = 0;
		if (redisBufferRead(c->ctx) != REDIS_OK)
			return conn_broken(c, errno, e);
	}
}

static int cmd_ready(struct rds_conn *c, struct redisReply **out, struct errmsg *e)
{
	if (out)
		*out = NULL;
	if (!c->ctx)
		return conn_missing(c, e);
	if (c->pending)
		return errmsg_set(e, -EINPROGRESS, "answers of Redis are pending");
	return 0;
}

int rds_cmd(struct rds_conn *c, struct redisReply **out, struct errmsg *e, const char *fmt, ...)
{
	va_list ap;
	int rc = cmd_ready(c, out, e);

	if (rc)
		return rc;
	va_start(ap, fmt);
	rc = append_done(c, redisvAppendCommand(c->ctx, fmt, ap));
	va_end(ap);
	if (rc)
		return errmsg_set(e, rc, "no memory for a Redis command");
	return rds_read(c, out, e);
}

int rds_cmd_argv(struct rds_conn *c, struct redisReply **out, struct errmsg *e, int argc, const char **argv,
	const size_t *lens)
{
	int rc = cmd_ready(c, out, e);

	if (rc == 0)
		rc = rds_append_argv(c, argc, argv, lens);
	if (rc)
		return rc == -ENOMEM ? errmsg_set(e, rc, "no memory for a Redis command") : rc;
	return rds_read(c, out, e);
}

/* ---- connecting ---- */

static int conn_open(struct rds_conn *c, const struct rds_host *h, struct errmsg *e)
{
	struct timeval tv = timeval_of(c->url.connect_timeout_ns);

	if (c->url.unix_path[0])
		snprintf(c->name, sizeof(c->name), "%s", c->url.unix_path);
	else
		snprintf(c->name, sizeof(c->name), strchr(h->name, ':') ? "[%s]:%u" : "%s:%u", h->name, h->port);
	errno = 0;
	c->ctx = c->url.unix_path[0] ? redisConnectUnixWithTimeout(c->url.unix_path, tv)
				     : redisConnectWithTimeout(h->name, h->port, tv);
	if (!c->ctx)
		return errmsg_set(e, -ENOMEM, "no memory for connecting to Redis");
	if (c->ctx->err) {
		int err = c->ctx->err == REDIS_ERR_IO ? (errno ? errno : ECONNREFUSED) : EHOSTDOWN;
		errmsg_set(e, 0, "cannot connect to Redis at %s: %s; is it running, and is META-URL right?", c->name,
			c->ctx->errstr);
		rds_disconnect(c);
		return -err;
	}
	struct timeval read_tv = timeval_of(c->url.read_timeout_ns), write_tv = timeval_of(c->url.write_timeout_ns);
	/* hiredis 0.14 knows one time-out for both, and leaves the socket open in children */
	if (setsockopt(c->ctx->fd, SOL_SOCKET, SO_RCVTIMEO, &read_tv, sizeof(read_tv)) ||
		setsockopt(c->ctx->fd, SOL_SOCKET, SO_SNDTIMEO, &write_tv, sizeof(write_tv)) ||
		fcntl(c->ctx->fd, F_SETFD, FD_CLOEXEC)) {
		int err = errno;
		rds_disconnect(c);
		return errmsg_set(e, -err, "cannot set up the connection to Redis at %s: %s", c->name, strerror(err));
	}
	if (!c->url.unix_path[0] && redisEnableKeepAlive(c->ctx) != REDIS_OK)
		return conn_broken(c, errno, e);
	return 0;
}

static int conn_auth(struct rds_conn *c, const char *user, const char *password, struct errmsg *e)
{
	int rc;

	if (!password[0])
		return 0;
	if (user[0])
		rc = rds_cmd(c, NULL, e, "AUTH %s %s", user, password);
	else
		rc = rds_cmd(c, NULL, e, "AUTH %s", password);
	/* also when the server has no password at all: then it may be another server than is meant */
	return rc == -EREMOTEIO ? -EACCES : rc;
}

/* Asks one Sentinel for the master's address. */
static int sentinel_ask(struct rds_conn *c, const struct rds_host *sentinel, struct rds_host *master, struct errmsg *e)
{
	struct redisReply *r = NULL;
	int rc = conn_open(c, sentinel, e);

	if (rc == 0)
		rc = conn_auth(c, "", c->url.sentinel_password, e);
	if (rc == 0)
		rc = rds_cmd(c, &r, e, "SENTINEL get-master-addr-by-name %s", c->url.master);
	if (rc == 0) {
		uint64_t port;
		if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 || r->element[0]->type != REDIS_REPLY_STRING ||
			r->element[1]->type != REDIS_REPLY_STRING || r->element[0]->len >= sizeof(master->name) ||
			rds_parse_u64(r->element[1]->str, r->element[1]->len, &port) || port == 0 || port > 65535) {
			rc = errmsg_set(e, -ENOENT, "Sentinel at %s knows no master \"%s\": check META-URL", c->name,
				c->url.master);
		} else {
			memcpy(master->name, r->element[0]->str, r->element[0]->len + 1);
			master->port = (uint16_t)port;
		}
	}
	rds_reply_free(r);
	rds_disconnect(c);
	return rc;
}

static int sentinel_resolve(struct rds_conn *c, struct rds_host *master, struct errmsg *e)
{
	int rc = -EINVAL;

	for (unsigned i = 0; i < c->url.sentinel_count; i++) {
		rc = sentinel_ask(c, &c->url.sentinels[i], master, e);
		if (rc == 0)
			return 0;
	}
	return rc;
}

/* An old master that comes back still takes commands for a moment: what Sentinel names must also think so itself. */
static int conn_check_role(struct rds_conn *c, struct errmsg *e)
{
	struct redisReply *r = NULL;
	int rc = rds_cmd(c, &r, e, "ROLE");

	if (rc == 0 && (r->type != REDIS_REPLY_ARRAY || r->elements < 1 || r->element[0]->type != REDIS_REPLY_STRING ||
			       strcmp(r->element[0]->str, "master") != 0))
		rc = errmsg_set(e, -EROFS, "Redis at %s is not a master yet: a failover is going on", c->name);
	rds_reply_free(r);
	return rc;
}

int rds_reconnect(struct rds_conn *c, struct errmsg *e)
{
	struct rds_host host = c->url.host;
	struct redisReply *r = NULL;
	int rc = 0;

	rds_disconnect(c);
	if (c->url.master[0])
		rc = sentinel_resolve(c, &host, e);
	if (rc == 0)
		rc = conn_open(c, &host, e);
	if (rc == 0)
		rc = conn_auth(c, c->url.user, c->url.password, e);
	if (rc == 0)
		rc = rds_cmd(c, &r, e, "PING");
	if (rc == 0 && !(r->type == REDIS_REPLY_STATUS && strcmp(r->str, "PONG") == 0))
		rc = errmsg_set(e, -EPROTO, "%s does not answer like a Redis: check host and port of META-URL", c->name);
	rds_reply_free(r);
	if (rc == 0 && c->url.db) {
		rc = rds_cmd(c, NULL, e, "SELECT %u", c->url.db);
		if (rc == -EREMOTEIO)
			rc = errmsg_set(e, -EREMOTEIO, "Redis at %s has no database %u: raise its `databases`", c->name,
				c->url.db);
	}
	if (rc == 0 && c->url.master[0])
		rc = conn_check_role(c, e);
	if (rc == 0) {
		/* only a name in CLIENT LIST; some managed servers refuse it */
		int named = rds_cmd(c, NULL, NULL, "CLIENT SETNAME jfs");
		if (rds_err_is_fatal(named))
			rc = errmsg_set(e, named, "connection to Redis at %s lost", c->name);
	}
	if (rc)
		rds_disconnect(c);
	return rc;
}

int rds_conn_new(const struct rds_url *u, struct rds_conn **out, struct errmsg *e)
{
	struct rds_conn *c = calloc(1, sizeof(*c));

	*out = NULL;
	if (!c)
		return errmsg_set(e, -ENOMEM, "no memory for a connection");
	c->url = *u;
	int rc = rds_reconnect(c, e);
	if (rc) {
		rds_conn_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

void rds_conn_free(struct rds_conn *c)
{
	if (!c)
		return;
	rds_disconnect(c);
	explicit_bzero(c, sizeof(*c)); /* it held passwords */
	free(c);
}

/* ---- scripts ---- */

void rds_script_init(struct rds_script *s, const char *text)
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	s->text = text;
	s->sha[0] = 0;
	if (!EVP_Digest(text, strlen(text), md, &n, EVP_sha1(), NULL))
		return; /* EVALSHA with an empty digest fails cleanly */
	for (unsigned i = 0; i < n && i < 20; i++)
		sprintf(s->sha + 2 * i, "%02x", md[i]);
}

int rds_script_load(struct rds_conn *c, const struct rds_script *s, struct errmsg *e)
{
	struct redisReply *r = NULL;
	int rc = rds_cmd(c, &r, e, "SCRIPT LOAD %s", s->text);

	if (rc == 0 && (r->type != REDIS_REPLY_STRING || strcmp(r->str, s->sha) != 0))
		rc = errmsg_set(e, -EREMOTEIO, "Redis at %s stored a script under an unexpected digest", c->name);
	rds_reply_free(r);
	return rc;
}

int rds_script_append(struct rds_conn *c, const struct rds_script *s, int nkeys, int argc, const char **argv,
	const size_t *lens)
{
	char number[16];
	const char **v = malloc(sizeof(*v) * (size_t)(argc + 3));
	size_t *l = malloc(sizeof(*l) * (size_t)(argc + 3));
	int rc = -ENOMEM;

	if (!v || !l)
		goto out;
	v[0] = "EVALSHA";
	v[1] = s->sha;
	v[2] = number;
	l[0] = 7;
	l[1] = strlen(s->sha);
	l[2] = (size_t)snprintf(number, sizeof(number), "%d", nkeys);
	for (int i = 0; i < argc; i++) {
		v[i + 3] = argv[i];
		l[i + 3] = lens ? lens[i] : strlen(argv[i]);
	}
	rc = rds_append_argv(c, argc + 3, v, l);
out:
	free(v);
	free(l);
	return rc;
}

int rds_script_call(struct rds_conn *c, const struct rds_script *s, struct redisReply **out, struct errmsg *e, int nkeys,
	int argc, const char **argv, const size_t *lens)
{
	struct redisReply *r = NULL;
	int rc = cmd_ready(c, out, e);

	for (int attempt = 0; rc == 0 && attempt < 2; attempt++) {
		rds_reply_free(r);
		r = NULL;
		if (attempt == 1) {
			rc = rds_script_load(c, s, e);
			if (rc)
				break;
		}
		rc = rds_script_append(c, s, nkeys, argc, argv, lens);
		if (rc) {
			errmsg_set(e, rc, "no memory for a script call");
			break;
		}
		rc = rds_read(c, &r, e);
		if (rc != -ENOEXEC)
			break;
		if (attempt == 0)
			rc = 0; /* it was not run: load it and send it once more */
	}
	if (out)
		*out = r;
	else
		rds_reply_free(r);
	return rc;
}
