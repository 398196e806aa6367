/* tcpfault LISTENPORT DESTPORT CONTROL: a loopback TCP relay that breaks connections to order.
 *
 * Prints "ready PORT" when it listens (LISTENPORT 0 picks a free one). CONTROL is a unix stream socket it makes; a
 * client sends one command a line and gets one line back, "ok ..." once the command is in force, or "error ...".
 *
 *   pass            as if it were not there (the start); ends everything below
 *   cut             reset all connections now, accept new ones
 *   refuse          cut, and reset each newcomer
 *   blackhole       freeze: read nothing, write nothing, accept on
 *   drop-up         swallow what clients send (request lost, connection stays)
 *   drop-down       swallow what the server sends: the request is executed, the reply is lost
 *   cut-up N        pass N more bytes towards the server, then reset all connections, once (a pipeline torn in the middle)
 *   cut-down N      the same towards the client (a torn reply)
 *   delay MS        add MS to each direction (fractions are allowed)
 *   rate BYTES      at most BYTES per second, direction and connection; 0: no limit
 *   corrupt         flip one bit in the middle of the next piece from the server
 *   stats           ok conns=.. accepted=.. up=.. down=.. cuts=.. mode=..
 *
 * Modes, delay and rate combine. A cut after N bytes waits until the peer's kernel has taken these bytes, so that they
 * are certainly executed or seen; N = 0 cuts at the next byte, which is not passed on. Bytes already in flight (delay,
 * rate) are not touched by a new mode. `cut` and `refuse` lose them. */
#include "relay.h"
#include <sys/un.h>
#include "util/parse.h"

#define CTL_CLIENTS (RELAY_EXTRA_MAX - 1)

enum fault_mode { MODE_PASS, MODE_REFUSE, MODE_BLACKHOLE, MODE_DROP_UP, MODE_DROP_DOWN };
static const char *const mode_names[] = {"pass", "refuse", "blackhole", "drop-up", "drop-down"};

struct ctl_client {
	int fd; /* -1: free */
	size_t len;
	char line[128];
};

struct fault {
	enum fault_mode mode;
	uint64_t delay_ns, rate;
	int64_t cut_after[2]; /* bytes still to pass, -1: no cut ordered */
	bool cut_due, corrupt;
	uint64_t cuts;
	int ctl_fd;
	struct ctl_client clients[CTL_CLIENTS];
};

static bool fault_frozen(struct relay *r)
{
	const struct fault *f = r->arg;

	return f->mode == MODE_BLACKHOLE;
}

static bool fault_accept(struct relay *r)
{
	const struct fault *f = r->arg;

	return f->mode != MODE_REFUSE;
}

static void fault_data(struct relay *r, enum relay_dir dir, struct relay_pipe *p, struct relay_piece *x)
{
	struct fault *f = r->arg;

	if (f->cut_due || (f->mode == MODE_DROP_UP && dir == RELAY_UP) || (f->mode == MODE_DROP_DOWN && dir == RELAY_DOWN))
		x->len = 0;
	x->due += f->delay_ns;
	if (x->len == 0)
		return;
	if (f->corrupt && dir == RELAY_DOWN) {
		x->data[x->len / 2] ^= 1;
		f->corrupt = false;
	}
	if (f->cut_after[dir] >= 0) {
		if ((uint64_t)f->cut_after[dir] <= x->len) {
			x->len = (size_t)f->cut_after[dir];
			f->cut_after[dir] = -1;
			f->cut_due = true;
		} else {
			f->cut_after[dir] -= (int64_t)x->len;
		}
	}
	if (f->rate) {
		if (x->due < p->last_due)
			x->due = p->last_due;
		x->due += x->len * 1000000000ull / f->rate;
	}
}

/* Carries out a cut that was ordered for a byte position, once all bytes in front of it have arrived. */
static uint64_t fault_tick(struct relay *r, uint64_t now)
{
	struct fault *f = r->arg;

	if (!f->cut_due)
		return UINT64_MAX;
	for (struct relay_conn *c = r->conns; c; c = c->next) {
		for (int d = 0; d < 2; d++) {
			int unacked = 0;

			if (c->dead)
				continue;
			if (ioctl(c->pipe[d].to, SIOCOUTQ, &unacked) < 0)
				relay_die("SIOCOUTQ");
			if (c->pipe[d].queued || unacked)
				return now + 1000000; /* no event tells when the peer acknowledges */
		}
	}
	relay_reset_all(r);
	relay_reap(r);
	f->cut_due = false;
	f->cuts++;
	return UINT64_MAX;
}

static void fault_set_rate(struct relay *r, struct fault *f, uint64_t rate)
{
	f->rate = rate;
	/* Small pieces and a short queue, or the limit would be a burst followed by a pause. */
	r->read_max = rate == 0 || rate / 50 >= RELAY_READ_MAX ? RELAY_READ_MAX : rate / 50 ? rate / 50 : 1;
	r->queue_max = rate ? 2 * r->read_max : RELAY_QUEUE_MAX;
}

static void fault_set_mode(struct relay *r, struct fault *f, enum fault_mode mode)
{
	f->mode = mode;
	if (mode == MODE_REFUSE)
		relay_reset_all(r);
	if (mode != MODE_PASS)
		return;
	f->delay_ns = 0;
	f->cut_after[0] = f->cut_after[1] = -1;
	f->cut_due = f->corrupt = false;
	fault_set_rate(r, f, 0);
}

static int fault_arg(struct relay *r, struct fault *f, const char *cmd, const char *arg)
{
	uint64_t n;
	char *end;
	double ms;

	if (strcmp(cmd, "delay") == 0) {
		ms = strtod(arg, &end);
		if (end == arg || *end || !(ms >= 0 && ms <= 3600000))
			return -EINVAL;
		f->delay_ns = (uint64_t)(ms * 1e6);
		return 0;
	}
	if (parse_u64(arg, &n) || n > INT64_MAX)
		return -EINVAL;
	if (strcmp(cmd, "rate") == 0)
		fault_set_rate(r, f, n);
	else if (strcmp(cmd, "cut-up") == 0)
		f->cut_after[RELAY_UP] = (int64_t)n;
	else if (strcmp(cmd, "cut-down") == 0)
		f->cut_after[RELAY_DOWN] = (int64_t)n;
	else
		return -EINVAL;
	return 0;
}

static void ctl_command(struct relay *r, int fd, char *line)
{
	struct fault *f = r->arg;
	char *arg = strchr(line, ' '), reply[256];
	int err = 0;

	if (arg)
		*arg++ = '\0';
	snprintf(reply, sizeof(reply), "ok %s\n", line);
	if (arg) {
		err = fault_arg(r, f, line, arg);
	} else if (strcmp(line, "cut") == 0) {
		relay_reset_all(r);
	} else if (strcmp(line, "corrupt") == 0) {
		f->corrupt = true;
	} else if (strcmp(line, "stats") == 0) {
		snprintf(reply, sizeof(reply), "ok conns=%zu accepted=%llu up=%llu down=%llu cuts=%llu mode=%s\n", r->nconns,
			(unsigned long long)r->accepted, (unsigned long long)r->bytes[RELAY_UP],
			(unsigned long long)r->bytes[RELAY_DOWN], (unsigned long long)f->cuts, mode_names[f->mode]);
	} else {
		err = -EINVAL;
		for (size_t i = 0; i < sizeof(mode_names) / sizeof(mode_names[0]); i++) {
			if (strcmp(line, mode_names[i]) == 0) {
				fault_set_mode(r, f, (enum fault_mode)i);
				err = 0;
			}
		}
	}
	if (err)
		snprintf(reply, sizeof(reply), "error %s: unknown command or bad number\n", line);
	/* A controller that does not read its answer loses it; the relay never waits for one. */
	if (send(fd, reply, strlen(reply), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		fprintf(stderr, "tcpfault: answer lost: %s\n", strerror(errno));
}

static void ctl_close(struct ctl_client *c)
{
	close(c->fd);
	*c = (struct ctl_client){.fd = -1};
}

static void ctl_read(struct relay *r, struct ctl_client *c)
{
	ssize_t n = read(c->fd, c->line + c->len, sizeof(c->line) - c->len);
	char *nl;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		ctl_close(c);
		return;
	}
	c->len += (size_t)n;
	while ((nl = memchr(c->line, '\n', c->len)) != NULL) {
		size_t used = (size_t)(nl - c->line) + 1;

		*nl = '\0';
		ctl_command(r, c->fd, c->line);
		c->len -= used;
		memmove(c->line, c->line + used, c->len);
	}
	if (c->len == sizeof(c->line))
		ctl_close(c);
}

static void ctl_accept(struct fault *f)
{
	int fd = accept4(f->ctl_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	for (int i = 0; i < CTL_CLIENTS; i++) {
		if (f->clients[i].fd < 0) {
			f->clients[i].fd = fd;
			return;
		}
	}
	close(fd);
}

static int ctl_fds(struct relay *r, struct pollfd *fds)
{
	struct fault *f = r->arg;

	fds[0] = (struct pollfd){.fd = f->ctl_fd, .events = POLLIN};
	for (int i = 0; i < CTL_CLIENTS; i++)
		fds[1 + i] = (struct pollfd){.fd = f->clients[i].fd, .events = POLLIN};
	return 1 + CTL_CLIENTS;
}

static void ctl_ready(struct relay *r, const struct pollfd *fds, int n)
{
	struct fault *f = r->arg;

	for (int i = 1; i < n; i++)
		if (fds[i].revents && f->clients[i - 1].fd == fds[i].fd)
			ctl_read(r, &f->clients[i - 1]);
	if (fds[0].revents & POLLIN)
		ctl_accept(f);
}

static int ctl_listen(struct fault *f, const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	strcpy(sa.sun_path, path);
	f->ctl_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (f->ctl_fd < 0)
		return -errno;
	unlink(path); /* of an earlier run */
	if (bind(f->ctl_fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(f->ctl_fd, 16) < 0)
		return -errno;
	for (int i = 0; i < CTL_CLIENTS; i++)
		f->clients[i].fd = -1;
	return 0;
}

int main(int argc, char **argv)
{
	static struct fault f = {.cut_after = {-1, -1}};
	struct relay r = {.arg = &f, .frozen = fault_frozen, .on_accept = fault_accept, .on_data = fault_data,
		.extra_fds = ctl_fds, .extra_ready = ctl_ready, .tick = fault_tick};
	uint64_t port, dest;
	int err;

	if (argc != 4 || parse_u64(argv[1], &port) || parse_u64(argv[2], &dest) || port > UINT16_MAX || dest > UINT16_MAX ||
		dest == 0) {
		fprintf(stderr, "usage: tcpfault LISTENPORT DESTPORT CONTROLSOCKET\n");
		return 2;
	}
	err = ctl_listen(&f, argv[3]);
	if (!err)
		err = relay_listen(&r, (uint16_t)port, (uint16_t)dest);
	if (err) {
		fprintf(stderr, "tcpfault: %s\n", strerror(-err));
		return 1;
	}
	printf("ready %u\n", r.port);
	fflush(stdout);
	relay_run(&r);
	for (int i = 0; i < CTL_CLIENTS; i++)
		if (f.clients[i].fd >= 0)
			ctl_close(&f.clients[i]);
	close(f.ctl_fd);
	unlink(argv[3]);
	return 0;
}
