/* A loopback TCP relay in one poll loop, the common part of delayproxy and tcpfault.
 *
 * Bytes are read in pieces; each piece gets the time at which it may leave, and leaves in order. So a delay moves the
 * stream but keeps its bandwidth and pipelining. An end of file is a piece without bytes and travels with the same
 * delay; a reset of one side resets the other at once. What a fault does to a piece is decided by `relay.on_data`.
 *
 * Everything belongs to the one thread that runs relay_run. Times are CLOCK_MONOTONIC nanoseconds. Sleeping ends
 * RELAY_SPIN_NS before a piece is due and the rest is polled away: waking a halted virtual CPU costs about that much.
 * Only 127.0.0.1 is served and only 127.0.0.1 is dialled. Connecting itself is not delayed. Running out of memory or
 * descriptors is fatal: a relay that limps proves nothing. */
#ifndef JFS_FAULT_RELAY_H
#define JFS_FAULT_RELAY_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/clock.h"

#define RELAY_SPIN_NS 60000ull
#define RELAY_QUEUE_MAX (64u << 20) /* bytes in flight a direction; then the sender is left to TCP's own back-pressure */
#define RELAY_READ_MAX (256u << 10)
#define RELAY_EXTRA_MAX 16 /* descriptors of the program's own (control sockets) */

enum relay_dir { RELAY_UP, RELAY_DOWN }; /* client to server, server to client */

struct relay_piece {
	struct relay_piece *next;
	uint64_t due;
	size_t len, off; /* len 0: end of file */
	uint8_t data[];
};

struct relay_pipe {
	int from, to;
	struct relay_piece *head, **tail;
	size_t queued;
	bool eof;     /* nothing more is read */
	bool done;    /* the end of file was passed on */
	bool blocked; /* `to` took no more; wait for POLLOUT */
	uint64_t last_due;
};

struct relay_conn {
	struct relay_conn *next;
	struct relay_pipe pipe[2];
	bool dead;
	int slot; /* index of its two entries in the poll set, -1: none yet */
};

struct relay {
	int listen_fd;
	uint16_t port, dest;
	struct relay_conn *conns;
	size_t nconns, read_max, queue_max;
	uint64_t accepted, bytes[2];
	struct pollfd *fds;
	size_t fds_size;
	void *arg;
	/* All hooks may be NULL. frozen: nothing is read or written just now. on_accept: false resets the newcomer.
	 * on_data: may change bytes, shorten the piece (to 0: swallowed) and set its due time. extra_fds: fills up to
	 * RELAY_EXTRA_MAX entries, returns how many; extra_ready sees them after the poll. tick: once a round, returns the
	 * time at which it wants to be called again (UINT64_MAX: whenever). */
	bool (*frozen)(struct relay *r);
	bool (*on_accept)(struct relay *r);
	void (*on_data)(struct relay *r, enum relay_dir dir, struct relay_pipe *p, struct relay_piece *piece);
	int (*extra_fds)(struct relay *r, struct pollfd *fds);
	void (*extra_ready)(struct relay *r, const struct pollfd *fds, int n);
	uint64_t (*tick)(struct relay *r, uint64_t now);
};

static volatile sig_atomic_t relay_stop;

static inline void relay_die(const char *what)
{
	fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static inline void relay_on_signal(int sig)
{
	(void)sig;
	relay_stop = 1;
}

static inline void relay_pipe_free(struct relay_pipe *p)
{
	while (p->head) {
		struct relay_piece *x = p->head;

		p->head = x->next;
		free(x);
	}
	p->tail = &p->head;
	p->queued = 0;
}

/* Ends a socket with RST, so that the peer sees a broken connection and not an orderly end. */
static inline void relay_reset_fd(int fd)
{
	struct linger hard = {.l_onoff = 1, .l_linger = 0};

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) < 0)
		relay_die("SO_LINGER");
	close(fd);
}

/* Resets both sides; what was in flight is lost. The struct is freed by the loop. */
static inline void relay_conn_reset(struct relay *r, struct relay_conn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	r->nconns--;
	relay_reset_fd(c->pipe[RELAY_UP].from);
	relay_reset_fd(c->pipe[RELAY_UP].to);
}

static inline void relay_reset_all(struct relay *r)
{
	for (struct relay_conn *c = r->conns; c; c = c->next)
		relay_conn_reset(r, c);
}

static inline void relay_pipe_init(struct relay_pipe *p, int from, int to)
{
	*p = (struct relay_pipe){.from = from, .to = to};
	p->tail = &p->head;
}

static inline void relay_accept(struct relay *r)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(r->dest)};
	struct relay_conn *c;
	int client, server, one = 1;

	client = accept4(r->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (client < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
			relay_die("accept");
		return; /* the client has gone again */
	}
	r->accepted++;
	if (r->on_accept && !r->on_accept(r)) {
		relay_reset_fd(client);
		return;
	}
	server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (server < 0)
		relay_die("socket");
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(server, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno != EINPROGRESS) {
		relay_reset_fd(client);
		close(server);
		return;
	}
	if (setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
		setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0)
		relay_die("TCP_NODELAY");
	c = calloc(1, sizeof(*c));
	if (!c)
		relay_die("calloc");
	c->slot = -1;
	relay_pipe_init(&c->pipe[RELAY_UP], client, server);
	relay_pipe_init(&c->pipe[RELAY_DOWN], server, client);
	c->next = r->conns;
	r->conns = c;
	r->nconns++;
}

/* Reads one piece. Returns false when the connection broke. */
static inline bool relay_pipe_read(struct relay *r, enum relay_dir dir, struct relay_pipe *p)
{
	static uint8_t buf[RELAY_READ_MAX];
	struct relay_piece *x;
	ssize_t n = read(p->from, buf, r->read_max);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	x = malloc(sizeof(*x) + (size_t)n);
	if (!x)
		relay_die("malloc");
	*x = (struct relay_piece){.due = clock_mono_ns(), .len = (size_t)n};
	memcpy(x->data, buf, (size_t)n);
	r->bytes[dir] += (uint64_t)n;
	if (r->on_data)
		r->on_data(r, dir, p, x);
	if (n > 0 && x->len == 0) {
		free(x);
		return true;
	}
	if (x->due < p->last_due)
		x->due = p->last_due;
	p->last_due = x->due;
	p->eof = n == 0;
	p->queued += x->len;
	*p->tail = x;
	p->tail = &x->next;
	return true;
}

/* Writes what is due. Returns false when the connection broke. */
static inline bool relay_pipe_write(struct relay_pipe *p, uint64_t now)
{
	while (p->head && p->head->due <= now) {
		struct relay_piece *x = p->head;

		if (x->len > 0) {
			ssize_t n = send(p->to, x->data + x->off, x->len - x->off, MSG_NOSIGNAL);

			if (n < 0) {
				p->blocked = errno == EAGAIN;
				return errno == EAGAIN || errno == EINTR;
			}
			x->off += (size_t)n;
			p->queued -= (size_t)n;
			if (x->off < x->len)
				continue;
		} else {
			if (shutdown(p->to, SHUT_WR) < 0)
				return false;
			p->done = true;
		}
		p->head = x->next;
		if (!p->head)
			p->tail = &p->head;
		free(x);
	}
	p->blocked = false;
	return true;
}

static inline void relay_reap(struct relay *r)
{
	for (struct relay_conn **pc = &r->conns; *pc;) {
		struct relay_conn *c = *pc;

		if (!c->dead && c->pipe[RELAY_UP].done && c->pipe[RELAY_DOWN].done) {
			c->dead = true;
			r->nconns--;
			close(c->pipe[RELAY_UP].from);
			close(c->pipe[RELAY_UP].to);
		}
		if (!c->dead) {
			pc = &c->next;
			continue;
		}
		*pc = c->next;
		relay_pipe_free(&c->pipe[RELAY_UP]);
		relay_pipe_free(&c->pipe[RELAY_DOWN]);
		free(c);
	}
}

/* The poll set: the listener, the program's own, and two for each connection. A descriptor with nothing to wait for is
 * left out (-1), or a peer that hung up would make the loop spin. *due is lowered to the first piece that waits. */
static inline size_t relay_poll_set(struct relay *r, int *extra, uint64_t now, uint64_t *due)
{
	size_t n, need = 1 + RELAY_EXTRA_MAX + 2 * r->nconns;
	bool frozen = r->frozen && r->frozen(r);

	if (need > r->fds_size) {
		r->fds_size = need * 2;
		r->fds = realloc(r->fds, r->fds_size * sizeof(*r->fds));
		if (!r->fds)
			relay_die("realloc");
	}
	r->fds[0] = (struct pollfd){.fd = r->listen_fd, .events = POLLIN};
	*extra = r->extra_fds ? r->extra_fds(r, r->fds + 1) : 0;
	n = 1 + (size_t)*extra;
	for (struct relay_conn *c = r->conns; c; c = c->next) {
		short events[2] = {0, 0};

		for (int d = 0; d < 2 && !frozen; d++) {
			struct relay_pipe *p = &c->pipe[d];

			if (!p->eof && p->queued < r->queue_max)
				events[d] |= POLLIN;
			if (p->blocked)
				events[!d] |= POLLOUT;
			else if (p->head && p->head->due < *due)
				*due = p->head->due > now ? p->head->due : now;
		}
		c->slot = (int)n;
		for (int d = 0; d < 2; d++)
			r->fds[n++] = (struct pollfd){.fd = events[d] ? c->pipe[d].from : -1, .events = events[d]};
	}
	return n;
}

static inline void relay_serve(struct relay *r)
{
	for (struct relay_conn *c = r->conns; c; c = c->next) {
		bool ok = true;

		if (c->slot < 0 || c->dead)
			continue;
		for (int d = 0; d < 2 && ok; d++)
			if (r->fds[c->slot + d].revents & (POLLIN | POLLHUP | POLLERR) && !c->pipe[d].eof &&
				c->pipe[d].queued < r->queue_max)
				ok = relay_pipe_read(r, d, &c->pipe[d]);
		for (int d = 0; d < 2 && ok && !c->dead; d++)
			ok = relay_pipe_write(&c->pipe[d], clock_mono_ns());
		if (!ok)
			relay_conn_reset(r, c);
	}
}

/* Serves until SIGTERM or SIGINT; both stay blocked outside the poll, so none is lost. */
static inline void relay_run(struct relay *r)
{
	sigset_t block, old;
	struct sigaction sa = {.sa_handler = relay_on_signal};

	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigaddset(&block, SIGINT);
	sigprocmask(SIG_BLOCK, &block, &old);
	sigdelset(&old, SIGTERM);
	sigdelset(&old, SIGINT);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	if (prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul) < 0)
		relay_die("timer slack");
	while (!relay_stop) {
		uint64_t now = clock_mono_ns(), due = UINT64_MAX, wait;
		struct timespec ts;
		size_t n;
		int extra, ready;

		if (r->tick)
			due = r->tick(r, now);
		n = relay_poll_set(r, &extra, now, &due);
		wait = due <= now + RELAY_SPIN_NS ? 0 : due - now - RELAY_SPIN_NS;
		ts = (struct timespec){.tv_sec = (time_t)(wait / 1000000000u), .tv_nsec = (long)(wait % 1000000000u)};
		ready = ppoll(r->fds, n, due == UINT64_MAX ? NULL : &ts, &old);
		if (ready < 0) {
			if (errno != EINTR)
				relay_die("ppoll");
			continue;
		}
		if (extra && r->extra_ready)
			r->extra_ready(r, r->fds + 1, extra);
		if (!(r->frozen && r->frozen(r)))
			relay_serve(r);
		if (r->fds[0].revents & POLLIN)
			relay_accept(r);
		relay_reap(r);
	}
	relay_reset_all(r);
	relay_reap(r);
	close(r->listen_fd);
	free(r->fds);
}

/* Listens on 127.0.0.1:port (0: any; r->port says which). 0 or -errno. */
static inline int relay_listen(struct relay *r, uint16_t port, uint16_t dest)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
	socklen_t len = sizeof(sa);
	int fd, err, one = 1;

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 || bind(fd, (struct sockaddr *)&sa, len) < 0 ||
		listen(fd, 1024) < 0 || getsockname(fd, (struct sockaddr *)&sa, &len) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	r->listen_fd = fd;
	r->port = ntohs(sa.sin_port);
	r->dest = dest;
	if (!r->read_max)
		r->read_max = RELAY_READ_MAX;
	if (!r->queue_max)
		r->queue_max = RELAY_QUEUE_MAX;
	return 0;
}

#endif
