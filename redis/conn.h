/* One connection to Redis over hiredis 0.14 (RESP2).
 *
 * A connection belongs to one thread at a time. Calls that talk to the server block, at most for the read or write
 * time-out of the URL. After any error that is not an answer of the server (rds_err_is_fatal) the connection is broken:
 * every further call returns -ENOTCONN until rds_reconnect. Nothing is ever sent twice by itself, except a script that
 * the server did not know and therefore did not run.
 *
 * The process must ignore SIGPIPE. Replies are hiredis's `struct redisReply`; free them with rds_reply_free.
 *
 * Errors, all with a one-line text that names the address and no secret:
 *   the connection
 *     -ECONNREFUSED, -EHOSTUNREACH, -ENOENT...  connecting failed, with the errno of connect(2); -EHOSTDOWN: the name is unknown
 *     -ETIMEDOUT       no answer in time
 *     -ECONNRESET      the server or the network closed the connection
 *     -ENOTCONN        it was already broken
 *     -EPROTO          what answers is not a Redis
 *     -ENOMEM
 *   an answer of the server
 *     -EACCES          wrong or missing password, or the user may not do this
 *     -EAGAIN          the server is still loading, or its master is away
 *     -ENOSPC          out of memory (maxmemory)
 *     -EROFS           a read-only replica
 *     -EBUSY           a script runs too long
 *     -EIO             the server cannot persist (MISCONF)
 *     -ENOEXEC         the script is not there (only from pipelined rds_script_append)
 *     -EUCLEAN         a key has another type than it should (WRONGTYPE)
 *     -ENOTSUP         Cluster (MOVED, CROSSSLOT...), or an unknown command
 *     -EREMOTEIO       any other error answer: the text is in the reply */
#ifndef JFS_REDIS_CONN_H
#define JFS_REDIS_CONN_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "redis/url.h"
#include "util/errmsg.h"

struct rds_conn;

/* Connects, finds the master through Sentinel if the URL says so, authenticates, selects the database. Copies the URL. */
int rds_conn_new(const struct rds_url *u, struct rds_conn **out, struct errmsg *e);
void rds_conn_free(struct rds_conn *c); /* NULL-safe; unread answers are lost */
/* Drops the old connection, with whatever was in flight, and makes a new one. One try. */
int rds_reconnect(struct rds_conn *c, struct errmsg *e);
/* Breaks the connection on purpose; rds_reconnect mends it. */
void rds_disconnect(struct rds_conn *c);
bool rds_conn_ok(const struct rds_conn *c);
const char *rds_conn_name(const struct rds_conn *c); /* "host:port" or the socket's path */
/* For poll(2); -1 when broken. Changes with rds_reconnect. */
int rds_conn_fd(const struct rds_conn *c);
/* Answers that are still to be read. */
size_t rds_conn_pending(const struct rds_conn *c);

/* True if an error of any function here leaves the connection broken. */
bool rds_err_is_fatal(int err);
/* The error of an answer of type REDIS_REPLY_ERROR by its first word (the list above), 0 for other types. Pure. */
int rds_reply_error(const struct redisReply *r);
void rds_reply_free(struct redisReply *r); /* NULL-safe */

/* Sends a command and waits for its answer. Not allowed while answers are pending (-EINPROGRESS). `out` may be NULL. After
 * an error answer *out holds it as well, to be freed; after other errors *out is NULL. The format is hiredis's: %s, %b with
 * pointer and size_t, %d, %llu. */
int rds_cmd(struct rds_conn *c, struct redisReply **out, struct errmsg *e, const char *fmt, ...);
int rds_cmd_argv(struct rds_conn *c, struct redisReply **out, struct errmsg *e, int argc, const char **argv,
	const size_t *lens);

/* Pipelining: append without sending, send, and read as many answers as were appended, in order. Appending copies; it
 * fails only with -ENOMEM or -ENOTCONN. */
int rds_append(struct rds_conn *c, const char *fmt, ...);
int rds_append_argv(struct rds_conn *c, int argc, const char **argv, const size_t *lens);
/* Sends everything appended; blocks until the kernel took it. */
int rds_flush(struct rds_conn *c, struct errmsg *e);
/* The next answer; flushes and waits. -EINVAL if none is pending. */
int rds_read(struct rds_conn *c, struct redisReply **out, struct errmsg *e);
/* The next answer if it is here already; -EINPROGRESS if not (poll rds_conn_fd for POLLIN and call again until it says so).
 * Does not block and does not flush. */
int rds_read_ready(struct rds_conn *c, struct redisReply **out, struct errmsg *e);

/* A Lua script with its digest. The text must live as long as the script. */
struct rds_script {
	const char *text;
	char sha[41];
};

void rds_script_init(struct rds_script *s, const char *text);
/* SCRIPT LOAD. */
int rds_script_load(struct rds_conn *c, const struct rds_script *s, struct errmsg *e);
/* EVALSHA with `nkeys` keys first in argv; on NOSCRIPT loads the script and sends it again. As rds_cmd_argv otherwise. */
int rds_script_call(struct rds_conn *c, const struct rds_script *s, struct redisReply **out, struct errmsg *e, int nkeys,
	int argc, const char **argv, const size_t *lens);
/* Pipelined: the answer may be NOSCRIPT (-ENOEXEC); load the script once after each connect. */
int rds_script_append(struct rds_conn *c, const struct rds_script *s, int nkeys, int argc, const char **argv,
	const size_t *lens);

#endif
