#include "tests/unit/redis_server.h"
#include "tests/unit/unit.h"

#include "redis/format.h"
#include "redis/session.h"
#include "util/jfsfmt.h"

static struct redis_server server;
static struct rds_conn *conn;

static void text(void)
{
	static const char stock[] = "{\"Version\":\"1.4.1+unknown\",\"HostName\":\"host\",\"IPAddrs\":[\"192.0.2.1\"],"
				    "\"MountPoint\":\"/mnt/jfs\",\"MountTime\":\"2026-11-22T17:10:12.474762649Z\","
				    "\"ProcessID\":2494}";
	struct rds_session s;

	CHECK_EQ(rds_session_parse(stock, sizeof(stock) - 1, &s), 0);
	CHECK_STR(s.version, "1.4.1+unknown");
	CHECK_STR(s.host, "host");
	CHECK_STR(s.mountpoint, "/mnt/jfs");
	CHECK_EQ(s.pid, 2494);
	CHECK_EQ(rds_session_parse("{}", 2, &s), 0);
	CHECK_STR(s.host, "");
	CHECK_EQ(rds_session_parse("{", 1, &s), -EUCLEAN);
	CHECK_EQ(rds_session_parse("[]", 2, &s), -EUCLEAN);

	char *json = rds_session_json("/mnt/\xff", 1700000000123456789u);
	REQUIRE(json);
	CHECK_EQ(rds_session_parse(json, strlen(json), &s), 0);
	CHECK_STR(s.mountpoint, "?");
	CHECK_STR(s.mount_time, "2023-11-14T22:13:20.123456789Z");
	CHECK_EQ(s.pid, getpid());
	CHECK(rds_version_compare(s.version, RDS_CLIENT_VERSION) == 0);
	free(json);
}

static void sessions(void)
{
	struct rds_session *list;
	struct errmsg e;
	uint64_t a, b;
	size_t n;

	CHECK(rds_session_list(conn, &list, &n, &e) == 0 && n == 0);
	free(list);
	CHECK(rds_session_start(conn, "{\"HostName\":\"h1\"}", 1000, "j1", 0, &a, &e) == 0 && a == 1);
	CHECK(rds_session_start(conn, "broken", 2000, "j1", a, &b, &e) == 0 && b == 2);
	CHECK_EQ(rds_session_beat(conn, a, "{\"HostName\":\"other\"}", 5000, &e), 0);
	CHECK_EQ(rds_session_list(conn, &list, &n, &e), 0);
	REQUIRE(n == 2);
	CHECK(list[0].sid == 1 && list[0].expiry == 5000 + RDS_SESSION_TTL && strcmp(list[0].host, "h1") == 0);
	CHECK(list[1].sid == 2 && list[1].expiry == 2000 + RDS_SESSION_TTL && list[1].host[0] == 0);
	free(list);
	CHECK_EQ(rds_cmd(conn, NULL, &e, "SADD session1 77"), 0);
	CHECK_EQ(rds_session_end(conn, a, &e), -EBUSY);
	CHECK_EQ(rds_cmd(conn, NULL, &e, "SREM session1 77"), 0);
	CHECK_EQ(rds_session_end(conn, a, &e), 0);
	CHECK(rds_session_list(conn, &list, &n, &e) == 0 && n == 1 && list[0].sid == 2);
	free(list);
	CHECK_EQ(rds_session_beat(conn, a, "{\"HostName\":\"again\"}", 7000, &e), 0);
	CHECK(rds_session_list(conn, &list, &n, &e) == 0 && n == 2 && strcmp(list[0].host, "again") == 0);
	free(list);
	CHECK_EQ(rds_cmd(conn, NULL, &e, "DEL allSessions"), 0);
	CHECK_EQ(rds_cmd(conn, NULL, &e, "SET allSessions x"), 0);
	CHECK_EQ(rds_session_beat(conn, a, "{}", 8000, &e), -EUCLEAN);
	CHECK(rds_conn_ok(conn) && rds_conn_pending(conn) == 0);
	CHECK_EQ(rds_session_list(conn, &list, &n, &e), -EUCLEAN);
}

static long long count(const char *cmd)
{
	struct redisReply *r = NULL;
	long long v = -1;

	if (rds_cmd(conn, &r, NULL, cmd) == 0 && r->type == REDIS_REPLY_INTEGER)
		v = r->integer;
	rds_reply_free(r);
	return v;
}

/* A session of ours that crashed goes on with the next daemon of the same journal, with the inodes it sustained. */
static void replaced(void)
{
	struct rds_session *list;
	uint64_t a, b, other;
	struct errmsg e;
	size_t n;

	CHECK_EQ(rds_cmd(conn, NULL, &e, "FLUSHDB"), 0);
	char *json = rds_session_json("/mnt", 1);
	REQUIRE(json);
	CHECK(rds_session_start(conn, "{\"Version\":\"1.4.1\"}", 1000, "j1", 0, &other, &e) == 0 && other == 1);
	CHECK(rds_session_start(conn, json, 1000, "j1", 0, &a, &e) == 0 && a == 2);
	CHECK_EQ(rds_cmd(conn, NULL, &e, "SADD session1 5"), 0);
	CHECK_EQ(rds_cmd(conn, NULL, &e, "SADD session2 6 7"), 0);
	CHECK(rds_session_start(conn, json, 1000, "j1", a, &b, &e) == 0 && b == a);
	CHECK(rds_session_list(conn, &list, &n, &e) == 0 && n == 2 && list[0].sid == 1 && list[1].sid == 2);
	free(list);
	CHECK_EQ(count("SCARD session2"), 2);
	/* the number is a stock client's, or no session's at all */
	CHECK(rds_session_start(conn, json, 1000, "j1", other, &a, &e) == 0 && a == 3);
	CHECK(rds_session_start(conn, json, 1000, "j1", 99, &a, &e) == 0 && a == 4);
	CHECK(count("SCARD session1") == 1 && count("ZCARD allSessions") == 4);
	/* Redis forgot that it gave the number: nobody else may get it */
	CHECK_EQ(rds_cmd(conn, NULL, &e, "SET nextsession 1"), 0);
	CHECK(rds_session_start(conn, json, 1000, "j1", b, &a, &e) == 0 && a == b);
	CHECK(count("SCARD session2") == 2 && count("INCR nextsession") == 3);
	free(json);
}

/* Killed between the registration and the journal's record of it: the next daemon of that journal finds its own again. */
static void killed_before_it_was_noted(void)
{
	struct errmsg e;
	uint64_t a, b;

	CHECK_EQ(rds_cmd(conn, NULL, &e, "FLUSHDB"), 0);
	char *json = rds_session_json("/mnt", 1);
	REQUIRE(json);
	CHECK(rds_session_start(conn, json, 1000, "j1", 0, &a, &e) == 0 && a == 1);
	CHECK_EQ(count("EXISTS zjfs"), 0); /* no key may appear where there was no lease: that would hide a reload */
	CHECK_EQ(rds_cmd(conn, NULL, &e, "HSET zjfs epoch 1"), 0);
	CHECK(rds_session_start(conn, json, 1000, "j1", 0, &a, &e) == 0 && a == 2);
	CHECK(rds_session_start(conn, json, 1000, "j1", 0, &b, &e) == 0 && b == 2);
	CHECK(rds_session_start(conn, json, 1000, "j2", 0, &b, &e) == 0 && b == 3); /* another journal's */
	CHECK(rds_session_start(conn, json, 1000, "j1", a, &b, &e) == 0 && b == a);
	CHECK_EQ(rds_session_end(conn, b, &e), 0);
	CHECK(rds_session_start(conn, json, 1000, "j1", a, &b, &e) == 0 && b == 4); /* it had ended */
	CHECK_EQ(rds_cmd(conn, NULL, &e, "SET nextsession 1"), 0);
	CHECK(rds_session_start(conn, json, 1000, "j1", 0, &b, &e) == 0 && b == 4 && count("INCR nextsession") == 5);
	free(json);
}

static void check_record(const char *cmd, uint16_t mode, int64_t when)
{
	struct redisReply *r = NULL;
	struct jfs_attr a;

	CHECK_EQ(rds_cmd(conn, &r, NULL, cmd), 0);
	CHECK(r && r->type == REDIS_REPLY_STRING && r->len == 72 && jfs_attr_decode(r->str, r->len, &a) == 0);
	CHECK(a.type == JFS_DIR && a.mode == mode && a.nlink == 2 && a.length == 4096 && a.parent == 1 && a.uid == 0);
	CHECK(a.atime == when && a.mtime == when && a.ctime == when && a.ctime_nsec == 0);
	rds_reply_free(r);
}

static void volumes(void)
{
	struct rds_setting s, t;
	struct errmsg e;
	char *old;
	size_t len;

	CHECK_EQ(rds_cmd(conn, NULL, &e, "FLUSHDB"), 0);
	REQUIRE(rds_setting_init(&s) == 0 && rds_setting_set(&s.name, "vol") == 0 && rds_setting_set(&s.bucket, "/b/") == 0);
	REQUIRE(rds_setting_set(&s.uuid, "01234567-89ab-4cde-8f01-23456789abcd") == 0);
	CHECK_EQ(rds_volume_load(conn, &t, &old, &len, &e), -ENODATA);
	CHECK(strstr(e.text, "jfs format"));
	CHECK_EQ(rds_cmd(conn, NULL, &e, "SET zother 1"), 0);
	CHECK_EQ(rds_volume_load(conn, &t, &old, &len, &e), -ENOTEMPTY);
	CHECK_EQ(rds_volume_create(conn, &s, 1700000000, &e), -ENOTEMPTY);
	CHECK_EQ(count("DBSIZE"), 1);
	CHECK_EQ(rds_cmd(conn, NULL, &e, "DEL zother"), 0);
	s.trash_days = 0;
	CHECK_EQ(rds_volume_create(conn, &s, 1700000000, &e), 0);
	CHECK_EQ(count("DBSIZE"), 2);
	check_record("GET i1", 0777, 1700000000);
	CHECK_EQ(rds_volume_create(conn, &s, 1700000000, &e), -EEXIST);
	REQUIRE(rds_volume_load(conn, &t, &old, &len, &e) == 0);
	t.trash_days = 2;
	CHECK_EQ(rds_volume_update(conn, old, len - 1, &t, 1700000001, &e), -EAGAIN);
	CHECK_EQ(count("DBSIZE"), 2);
	CHECK_EQ(rds_volume_update(conn, old, len, &t, 1700000001, &e), 0);
	check_record("GET i9223372032828243968", 0555, 1700000001);
	check_record("GET i1", 0777, 1700000000);
	free(old);
	rds_setting_fini(&t);
	REQUIRE(rds_volume_load(conn, &t, NULL, NULL, &e) == 0);
	CHECK_EQ(t.trash_days, 2);
	rds_setting_fini(&t);
	CHECK_EQ(rds_cmd(conn, NULL, &e, "SET setting {"), 0);
	CHECK_EQ(rds_volume_load(conn, &t, NULL, NULL, &e), -EUCLEAN);
	CHECK(rds_cmd(conn, NULL, &e, "DEL setting") == 0 && rds_cmd(conn, NULL, &e, "HSET setting a b") == 0);
	CHECK_EQ(rds_volume_load(conn, &t, NULL, NULL, &e), -ENOTEMPTY);
	rds_setting_fini(&s);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"text", text}, {"sessions", sessions}, {"replaced", replaced},
		{"killed_before_it_was_noted", killed_before_it_was_noted}, {"volumes", volumes}, {0}};
	struct rds_url u;
	struct errmsg e;

	signal(SIGPIPE, SIG_IGN);
	redis_server_start(&server);
	REQUIRE(rds_url_parse(server.url, &u, &e) == 0 && rds_conn_new(&u, &conn, &e) == 0);
	int status = unit_main(argc, argv, tests);
	rds_conn_free(conn);
	redis_server_end(&server);
	return status;
}
