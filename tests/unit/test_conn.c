#include "tests/unit/redis_server.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <unistd.h>

#include "redis/server.h"

static void classification(void)
{
	static const struct {
		const char *text;
		int err;
	} rows[] = {
		{"NOAUTH Authentication required.", -EACCES},
		{"WRONGPASS invalid username-password pair or user is disabled.", -EACCES},
		{"ERR invalid password", -EACCES},
		{"LOADING Redis is loading the dataset in memory", -EAGAIN},
		{"OOM command not allowed when used memory > 'maxmemory'.", -ENOSPC},
		{"READONLY You can't write against a read only replica.", -EROFS},
		{"BUSY Redis is busy running a script.", -EBUSY},
		{"MISCONF Redis is configured to save RDB snapshots", -EIO},
		{"NOSCRIPT No matching script. Please use EVAL.", -ENOEXEC},
		{"WRONGTYPE Operation against a key", -EUCLEAN},
		{"MOVED 866 127.0.0.1:7001", -ENOTSUP},
		{"ERR unknown command 'FOO'", -ENOTSUP},
		{"ERR syntax error", -EREMOTEIO},
		{"GAP 7", -EREMOTEIO},
		{"", -EREMOTEIO},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[128];
		struct redisReply r = {.type = REDIS_REPLY_ERROR, .str = text};
		r.len = (size_t)snprintf(text, sizeof(text), "%s", rows[i].text);
		CHECK_EQ(rds_reply_error(&r), rows[i].err);
		CHECK(!rds_err_is_fatal(rows[i].err));
		r.type = REDIS_REPLY_STRING;
		CHECK_EQ(rds_reply_error(&r), 0);
	}
	CHECK(rds_err_is_fatal(-ECONNRESET) && rds_err_is_fatal(-ENOTCONN) && rds_err_is_fatal(-ETIMEDOUT));
	CHECK(rds_err_is_fatal(-EPROTO) && rds_err_is_fatal(-ECONNREFUSED));
}

static void info(void)
{
	static const char text[] = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n# Memory\r\nmaxmemory:1048576\r\n"
				   "maxmemory_policy:allkeys-lru\r\nmaxmemory_human:1M\r\nloading:0\r\naof_enabled:1\r\n"
				   "role:master\r\nconnected_slaves:2\r\ncluster_enabled:0\r\n";
	struct rds_server s;

	CHECK_EQ(rds_server_parse(text, sizeof(text) - 1, &s), 0);
	CHECK(s.major == 7 && s.minor == 0 && s.patch == 15 && s.aof && !s.cluster && !s.replica && !s.loading);
	CHECK(s.maxmemory == 1048576 && s.replicas == 2);
	CHECK_STR(s.policy, "allkeys-lru");
	CHECK_STR(s.run_id, "abc");
	CHECK_EQ(rds_server_parse("hello", 5, &s), -EPROTO);
	CHECK_EQ(rds_server_parse("", 0, &s), -EPROTO);
	CHECK(rds_server_parse("redis_version:3.2", 17, &s) == 0 && s.major == 3);
	CHECK(rds_server_parse("redis_version:6.2\nrole:slave\ncluster_enabled:1", 46, &s) == 0 && s.replica && s.cluster);
}

static void script_digest(void)
{
	struct rds_script s;

	rds_script_init(&s, "return 1");
	CHECK_STR(s.sha, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
}

/* A peer that answers each thing it reads with the next text, then closes; "" in the list: silence. */
static pid_t peer(uint16_t *port, const char *const *answers)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	REQUIRE(s >= 0 && bind(s, (void *)&a, sizeof(a)) == 0 && listen(s, 1) == 0);
	REQUIRE(getsockname(s, (void *)&a, &n) == 0);
	*port = ntohs(a.sin_port);
	pid_t pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		char buf[4096];
		int fd = accept(s, NULL, NULL);
		for (; *answers && read(fd, buf, sizeof(buf)) > 0; answers++)
			if (**answers && write(fd, *answers, strlen(*answers)) < 0)
				_exit(1);
		if (answers[-1][0] == 0) /* stay until the other side gives up */
			while (read(fd, buf, sizeof(buf)) > 0)
				;
		_exit(0);
	}
	close(s);
	return pid;
}

static int connect_to(const char *const *answers, struct rds_conn **c, struct errmsg *e)
{
	char url[64];
	struct rds_url u;
	uint16_t port;
	pid_t pid = peer(&port, answers);

	snprintf(url, sizeof(url), "redis://:secret@127.0.0.1:%u/0?read-timeout=200ms", port);
	REQUIRE(rds_url_parse(url, &u, e) == 0);
	e->text[0] = 0;
	int rc = rds_conn_new(&u, c, e);
	if (rc == 0)
		rc = rds_cmd(*c, NULL, e, "GET x");
	rds_conn_free(*c);
	CHECK(waitpid(pid, NULL, 0) == pid);
	CHECK(!strstr(e->text, "secret"));
	return rc;
}

static void bad_peers(void)
{
	struct rds_conn *c;
	struct errmsg e;

	CHECK_EQ(connect_to((const char *const[]){"HTTP/1.1 400 Bad Request\r\n\r\n", NULL}, &c, &e), -EPROTO);
	CHECK(strstr(e.text, "Redis protocol"));
	CHECK_EQ(connect_to((const char *const[]){"+OK\r\n", "+HELLO\r\n", NULL}, &c, &e), -EPROTO);
	CHECK_EQ(connect_to((const char *const[]){"-ERR invalid password\r\n", NULL}, &c, &e), -EACCES);
	CHECK(strstr(e.text, "META_PASSWORD"));
	CHECK_EQ(connect_to((const char *const[]){"-ERR AUTH <password> called without any password configured\r\n", NULL}, &c,
			 &e), -EACCES);
	CHECK_EQ(connect_to((const char *const[]){"+OK\r\n", "-LOADING wait\r\n", NULL}, &c, &e), -EAGAIN);
	CHECK_EQ(connect_to((const char *const[]){"+OK\r\n", "+PONG\r\n", "+OK\r\n", "$5\r\nhe", NULL}, &c, &e), -ECONNRESET);
	CHECK_EQ(connect_to((const char *const[]){"+OK\r\n", "+PONG\r\n", "+OK\r\n", "", NULL}, &c, &e), -ETIMEDOUT);
	CHECK_EQ(connect_to((const char *const[]){"+OK\r\n", "+PONG\r\n", "-ERR no SETNAME\r\n", "-OOM full\r\n", NULL}, &c, &e),
		-ENOSPC);
	CHECK(strstr(e.text, "maxmemory"));
}

static void nobody_there(void)
{
	struct rds_url u;
	struct rds_conn *c;
	struct errmsg e;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	char url[64];

	/* a port that is bound but does not listen */
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(s >= 0 && bind(s, (void *)&a, sizeof(a)) == 0 && getsockname(s, (void *)&a, &n) == 0);
	snprintf(url, sizeof(url), "redis://127.0.0.1:%u/0", ntohs(a.sin_port));
	REQUIRE(rds_url_parse(url, &u, &e) == 0);
	CHECK_EQ(rds_conn_new(&u, &c, &e), -ECONNREFUSED);
	CHECK(c == NULL && strstr(e.text, "is it running"));
	close(s);
	REQUIRE(rds_url_parse("unix:///nonexistent/r.sock", &u, &e) == 0);
	CHECK_EQ(rds_conn_new(&u, &c, &e), -ENOENT);
	CHECK(strstr(e.text, "/nonexistent/r.sock"));
}

/* ---- against a real server ---- */

static void live_scripts(struct rds_conn *c)
{
	static const char *argv[] = {"k", "v\0w"};
	static const size_t lens[] = {1, 3};
	struct rds_script s;
	struct redisReply *r;
	struct errmsg e;

	rds_script_init(&s, "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])");
	CHECK_EQ(rds_script_call(c, &s, &r, &e, 1, 2, argv, lens), 0);
	CHECK(r && r->len == 3 && memcmp(r->str, "v\0w", 3) == 0);
	rds_reply_free(r);
	CHECK_EQ(rds_cmd(c, NULL, &e, "SCRIPT FLUSH"), 0);
	CHECK_EQ(rds_script_append(c, &s, 1, 2, argv, lens), 0);
	CHECK_EQ(rds_read(c, NULL, &e), -ENOEXEC);
	CHECK_EQ(rds_script_call(c, &s, NULL, &e, 1, 2, argv, lens), 0);
	rds_script_init(&s, "return redis.error_reply('GAP 5')");
	CHECK_EQ(rds_script_call(c, &s, &r, &e, 0, 0, NULL, NULL), -EREMOTEIO);
	CHECK(r && strncmp(r->str, "GAP 5", 5) == 0);
	rds_reply_free(r);
	CHECK(rds_conn_ok(c));
}

static void live_pipeline(struct rds_conn *c)
{
	struct redisReply *r;
	struct errmsg e;
	size_t done = 0;

	CHECK_EQ(rds_read(c, NULL, &e), -EINVAL);
	for (int i = 0; i < 1000; i++)
		CHECK_EQ(rds_append(c, "SET p%d %b", i, "a\0b", (size_t)3), 0);
	CHECK_EQ(rds_cmd(c, NULL, &e, "PING"), -EINPROGRESS);
	CHECK_EQ(rds_flush(c, &e), 0);
	while (rds_conn_pending(c)) {
		int rc = rds_read_ready(c, NULL, &e);
		if (rc == -EINPROGRESS)
			rc = rds_read(c, NULL, &e);
		CHECK_EQ(rc, 0);
		if (rc)
			break;
		done++;
	}
	CHECK_EQ(done, 1000);
	CHECK_EQ(rds_cmd(c, &r, &e, "GET p999"), 0);
	CHECK(r->len == 3 && memcmp(r->str, "a\0b", 3) == 0);
	rds_reply_free(r);
	CHECK_EQ(rds_cmd(c, &r, &e, "LPUSH p999 x"), -EUCLEAN);
	CHECK(r && r->type == REDIS_REPLY_ERROR);
	rds_reply_free(r);
	CHECK_EQ(rds_cmd(c, NULL, &e, "CLIENT KILL TYPE normal SKIPME no"), 0);
	CHECK(rds_err_is_fatal(rds_cmd(c, NULL, &e, "PING")));
	CHECK_EQ(rds_cmd(c, NULL, &e, "PING"), -ENOTCONN);
	CHECK_EQ(rds_reconnect(c, &e), 0);
	CHECK_EQ(rds_cmd(c, NULL, &e, "PING"), 0);
}

static void live(void)
{
	struct redis_server server = {0};
	char url[160];
	struct rds_url u;
	struct rds_conn *c = NULL;
	struct rds_server s;
	struct errmsg e;

	redis_server_start(&server);
	snprintf(url, sizeof(url), "%s?db=1", server.url);
	REQUIRE(rds_url_parse(url, &u, &e) == 0);
	CHECK_EQ(rds_conn_new(&u, &c, &e), 0);
	if (c) {
		live_scripts(c);
		live_pipeline(c);
		CHECK_EQ(rds_server_check(c, &s, &e), 0);
		CHECK(s.major >= 4 && s.aof && !s.cluster);
	}
	u.db = 77;
	struct rds_conn *d = NULL;
	CHECK_EQ(rds_conn_new(&u, &d, &e), -EREMOTEIO);
	CHECK(strstr(e.text, "database 77"));
	rds_conn_free(d);
	rds_conn_free(c);
	redis_server_end(&server);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"classification", classification}, {"info", info},
		{"script_digest", script_digest}, {"bad_peers", bad_peers}, {"nobody_there", nobody_there}, {"live", live},
		{0}};

	signal(SIGPIPE, SIG_IGN);
	return unit_main(argc, argv, tests);
}
