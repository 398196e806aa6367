#include "recovery/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/clock.h"

enum { WIDTH = 40, REDRAW_MS = 100 };

void progress_begin(struct progress *p, const char *what, const char *unit, uint64_t total)
{
	*p = (struct progress){.what = what, .unit = unit, .total = total, .tty = isatty(STDERR_FILENO)};
}

static void draw(const struct progress *p)
{
	static const char fill[] = "########################################";
	uint64_t done = p->done < p->total ? p->done : p->total;
	bool bytes = strcmp(p->unit, "bytes") == 0;
	int n = p->total ? (int)((double)done / (double)p->total * WIDTH) : WIDTH;

	fprintf(stderr, "\r%-10s [%-*.*s] %llu/%llu %s\033[K", p->what, WIDTH, n, fill,
		(unsigned long long)(bytes ? done >> 20 : done), (unsigned long long)(bytes ? p->total >> 20 : p->total),
		bytes ? "MiB" : p->unit);
	fflush(stderr);
}

void progress_set(struct progress *p, uint64_t done)
{
	uint64_t now;

	p->done = done;
	if (!p->tty || (now = clock_mono_ms()) - p->drawn_ms < REDRAW_MS)
		return;
	p->drawn_ms = now;
	draw(p);
}

void progress_end(struct progress *p)
{
	if (p->tty && p->drawn_ms)
		fprintf(stderr, "\r\033[K");
}
