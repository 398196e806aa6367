/* A private redis-server for one test: unix socket in a temporary directory, nothing persisted unless asked. */
#ifndef JFS_TESTS_REDIS_HERE_H
#define JFS_TESTS_REDIS_HERE_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "redis/conn.h"
#include "tests/unit/unit.h"

struct redis_here {
	char dir[64], sock[96], url[128];
	pid_t pid;
};

static void redis_here_start(struct redis_here *r)
{
	char log[96];

	if (!r->dir[0]) {
		strcpy(r->dir, "/tmp/jfs-replay-XXXXXX");
		REQUIRE(mkdtemp(r->dir));
	}
	snprintf(r->sock, sizeof(r->sock), "%s/redis.sock", r->dir);
	snprintf(r->url, sizeof(r->url), "unix://%s?db=0", r->sock);
	snprintf(log, sizeof(log), "%s/redis.log", r->dir);
	r->pid = fork();
	REQUIRE(r->pid >= 0);
	if (r->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nothing behind */
		execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", r->sock, "--save", "", "--dir", r->dir,
			"--logfile", log, "--enable-debug-command", "yes", "--dbfilename", "dump.rdb", (char *)NULL);
		_exit(127);
	}
}

static void redis_here_stop(struct redis_here *r)
{
	if (r->pid > 0) {
		kill(r->pid, SIGKILL);
		waitpid(r->pid, NULL, 0);
	}
	r->pid = 0;
	unlink(r->sock);
}

static void redis_here_end(struct redis_here *r)
{
	char path[128];

	redis_here_stop(r);
	snprintf(path, sizeof(path), "%s/redis.log", r->dir);
	unlink(path);
	rmdir(r->dir);
}

/* Tries until the server answers PING, at most 10 s. */
static struct rds_conn *redis_here_connect(const struct redis_here *r)
{
	struct rds_conn *c = NULL;
	struct rds_url u;
	struct errmsg e;

	REQUIRE(rds_url_parse(r->url, &u, &e) == 0);
	for (int i = 0; i < 1000; i++) {
		if (rds_conn_new(&u, &c, &e) == 0 && rds_cmd(c, NULL, &e, "PING") == 0)
			return c;
		rds_conn_free(c);
		c = NULL;
		usleep(10000); /* a server that is starting can only be polled */
	}
	fprintf(stderr, "redis-server does not start: %s\n", e.text);
	exit(1);
}

#endif
