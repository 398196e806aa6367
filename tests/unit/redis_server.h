/* A real redis-server for a C test: private unix socket and directory, ended with the test. */
#ifndef JFS_TESTS_REDIS_SERVER_H
#define JFS_TESTS_REDIS_SERVER_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/unit.h"

struct redis_server {
	char dir[64], socket[96], url[128];
	pid_t pid;
};

/* Starts (or starts again, with the data it saved) and waits until it answers PING. */
static inline void redis_server_start(struct redis_server *s)
{
	if (!s->dir[0]) {
		strcpy(s->dir, "/tmp/jfs-redis-XXXXXX");
		REQUIRE(mkdtemp(s->dir));
		snprintf(s->socket, sizeof(s->socket), "%s/sock", s->dir);
		snprintf(s->url, sizeof(s->url), "unix://%s", s->socket);
	}
	unlink(s->socket);
	s->pid = fork();
	REQUIRE(s->pid >= 0);
	if (s->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", s->socket, "--dir", s->dir, "--save", "",
			"--appendonly", "yes", "--logfile", "redis.log", "--daemonize", "no", (char *)NULL);
		_exit(127);
	}
	for (int tries = 0;; tries++) {
		struct sockaddr_un sa = {.sun_family = AF_UNIX};
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		char answer[16] = "";

		REQUIRE(fd >= 0 && tries < 1000);
		memcpy(sa.sun_path, s->socket, strlen(s->socket) + 1);
		if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 && write(fd, "PING\r\n", 6) == 6 &&
			read(fd, answer, sizeof(answer) - 1) > 0 && strncmp(answer, "+PONG", 5) == 0) {
			close(fd);
			return;
		}
		close(fd);
		REQUIRE(waitpid(s->pid, NULL, WNOHANG) == 0); /* still alive */
		poll(NULL, 0, 10);			      /* the interval of this condition's poll */
	}
}

static inline void redis_server_stop(struct redis_server *s, int sig)
{
	if (s->pid > 0) {
		kill(s->pid, sig);
		waitpid(s->pid, NULL, 0);
		s->pid = 0;
	}
}

static inline void redis_server_end(struct redis_server *s)
{
	char cmd[128];

	redis_server_stop(s, SIGTERM);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", s->dir);
	REQUIRE(system(cmd) == 0);
	s->dir[0] = 0;
}

#endif
