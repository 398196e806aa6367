/* delayproxy LISTENPORT DESTPORT ONE_WAY_US: a loopback TCP proxy that adds a fixed delay to each direction.
 *
 * Prints "ready PORT" when it listens (LISTENPORT 0 picks a free one) and serves until SIGTERM. A request and its
 * answer take twice ONE_WAY_US longer than without it; bandwidth and pipelining stay (relay.h). */
#include "relay.h"
#include "util/parse.h"

static uint64_t delay_ns;

static void delay_data(struct relay *r, enum relay_dir dir, struct relay_pipe *p, struct relay_piece *piece)
{
	(void)r, (void)dir, (void)p;
	piece->due += delay_ns;
}

int main(int argc, char **argv)
{
	struct relay r = {.on_data = delay_data};
	uint64_t port, dest, us;
	int err;

	if (argc != 4 || parse_u64(argv[1], &port) || parse_u64(argv[2], &dest) || parse_u64(argv[3], &us) ||
		port > UINT16_MAX || dest > UINT16_MAX || dest == 0 || us > 60000000u) {
		fprintf(stderr, "usage: delayproxy LISTENPORT DESTPORT ONE_WAY_US\n");
		return 2;
	}
	delay_ns = us * 1000;
	err = relay_listen(&r, (uint16_t)port, (uint16_t)dest);
	if (err) {
		fprintf(stderr, "delayproxy: port %u: %s\n", (unsigned)port, strerror(-err));
		return 1;
	}
	printf("ready %u\n", r.port);
	fflush(stdout);
	relay_run(&r);
	return 0;
}
